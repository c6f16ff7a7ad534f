"""Submissions that bring their own code and weights; and those that go wrong."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from harness import chosen, record
from harness.build import build, find_artifact, plan
from harness.checked import check, told
from harness.cli import main
from harness.configuration import choose
from harness.errors import HarnessError, ManifestError
from harness.manifest import find_systems, read_system
from harness.measure import interrupted, isolation, protocol, run, scenarios
from harness.measure.run import Effort
from harness.tasks.task import suite, task
from harness.usage import parser
from tests.conftest import REPOSITORY

EXAMPLES = REPOSITORY / "tests" / "data" / "submissions"


@pytest.fixture(autouse=True)
def short_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenarios, "WINDOW_SECONDS", 0.2)
    monkeypatch.setattr(scenarios, "PLENTY_SECONDS", 0.1)


def example(project: Path, name: str = "own-module", as_: str = "") -> Path:
    folder = project / "submissions" / (as_ or name)
    shutil.copytree(EXAMPLES / name, folder)
    return folder


def measured(project: Path, names: tuple[str, ...]) -> dict[str, record.Record]:
    systems = [read_system(find_systems(project)[each], project) for each in names]
    asked, where = [task("sentiment")], choose("cpu-1")
    build(systems, asked, where, project, say=lambda line: None)
    session = run.measure(
        systems,
        asked,
        suite("quick"),
        where,
        project,
        project / "results",
        Effort(1),
        say=lambda line: None,
    )
    found = (project / "results" / "records" / session).glob("sentiment/offline/*.json")
    return {path.stem: record.read(path) for path in found}


def test_examples_answer_alike_from_another_language(project: Path) -> None:
    for name in ("own-module", "own-command"):
        example(project, name)
    found = measured(project, ("null", "own-module", "own-command"))
    scores = {name: (each.score or {})["value"] for name, each in found.items()}
    assert scores["own-module"] == scores["own-command"] == pytest.approx(0.7533, abs=0.0001)
    for name in ("own-module", "own-command"):
        it = found[name]
        assert it.failure is None
        assert it.machine["isolation"] == isolation.strongest()
        assert it.artifact
        assert it.artifact["format"] == "files"
    assert found["own-module"].system["serve"]["module"] == "model.py"
    assert found["own-command"].system["serve"]["command"] == ["./run.sh"]
    assert "command" not in found["null"].system["serve"]


MODULES = {
    "dies at load": ("def load(self, *_): raise RuntimeError('no weights')", "RuntimeError: no w"),
    "never gets ready": ("def load(self, *_): time.sleep(60)", "gave no answer for 2 seconds"),
    "hangs": ("def predict(self, examples): time.sleep(60)", "gave no answer for 2 seconds"),
    "dies half-way": (
        "def predict(self, examples):\n    self.n = getattr(self, 'n', 0) + len(examples)\n"
        "    if self.n > 300: os.kill(os.getpid(), 9)\n    return [0] * len(examples)",
        "SIGKILL",
    ),
    "answers too few": (
        "def predict(self, examples): return [0]",
        r"gave 1 answers to \d+ examples",
    ),
    "answers no number": ("def predict(self, examples): return ['0'] * len(examples)", "'0'"),
    "answers floats": ("def predict(self, examples): return [0.0] * len(examples)", r"0\.0; an"),
    "answers out of range": ("def predict(self, examples): return [2] * len(examples)", r"2; an"),
    "takes too much memory": (
        "def predict(self, examples):\n    self.held = [b'x' * 10_000_000 for _ in iter(int, 1)]",
        r"used \d+ MB, but the configuration allows 0\.5 GiB",
    ),
    "floods stderr": (
        "def predict(self, examples):\n"
        "    for _ in range(100): sys.stderr.write('x' * 1_000_000 + chr(10))\n"
        "    print('the last line', file=sys.stderr, flush=True)\n"
        "    return [0] * len(examples)",
        "MiB to stderr",
    ),
    "cannot be imported": ("syntax error", "SyntaxError"),
}
"""Bodies of a class, and the reason that must stand in the record."""


def test_each_fault_ends_its_own_row_alone(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "LOAD_SECONDS", 2.0)
    monkeypatch.setattr(scenarios, "QUERY_SECONDS", 2.0)
    small = choose("cpu-1")
    object.__setattr__(small, "memory_gb", 0.5)
    monkeypatch.setattr(f"{__name__}.choose", lambda name: small)
    names = {}
    for number, (fault, (body, _)) in enumerate(MODULES.items()):
        folder = example(project, as_=f"fault-{number}")
        text = "import os, sys, time\nclass Faulty:\n    def load(self, *_): pass\n"
        text += "    def predict(self, examples): return [0] * len(examples)\n    "
        (folder / "model.py").write_text(text + body.replace("\n", "\n    ") + "\n")
        names[fault] = folder.name
    folder = example(project, "own-command", "fault-command")
    manifest = (folder / "submission.toml").read_text()
    (folder / "submission.toml").write_text(manifest.replace("./run.sh", "no-such-program"))
    folder = example(project, "own-command", "chatty-command")
    (folder / "run.sh").write_text("#!/bin/sh\necho Loading...\nexec sleep 60\n")
    before = {each.pid for each in psutil.process_iter()}
    began = time.monotonic()
    found = (
        measured(
            project, ("null", "own-module", *names.values(), "fault-command", "chatty-command")
        )
        if example(project)
        else {}
    )
    assert time.monotonic() - began < 12 * len(names)
    for fault, (_, reason) in MODULES.items():
        failure = found[names[fault]].failure
        assert failure, fault
        assert re.search(reason, failure["reason"]), failure
    assert "Loading..." in (found["chatty-command"].failure or {})["reason"]
    assert "no-such-program" in (found["fault-command"].failure or {})["stderr"]
    assert "no weights" in (found[names["dies at load"]].failure or {})["stderr"]
    assert found["null"].failure is None
    assert found["own-module"].failure is None
    left = [each for each in psutil.process_iter() if each.pid not in before]
    assert not [each for each in left if each.status() != psutil.STATUS_ZOMBIE]
    assert not list((project.parent / "cache" / "tmp").iterdir())


def test_suite_survives_the_death_of_its_driver(project: Path) -> None:
    """Killed in its second block, the same command goes on with the whole block that it has."""
    example(project)
    systems = [read_system(find_systems(project)[each], project) for each in ("null", "own-module")]
    build(systems, [task("sentiment")], choose("cpu-1"), project, say=lambda line: None)
    script = (
        "from pathlib import Path\n"
        "from harness.manifest import find_systems, read_system\n"
        "from harness.measure import run\nfrom harness.configuration import choose\n"
        "from harness.tasks.task import suite, task\n"
        f"root = Path({str(project)!r})\n"
        "known = find_systems(root)\n"
        "systems = [read_system(known[each], root) for each in ('null', 'own-module')]\n"
        "run.measure(systems, [task('sentiment')], suite('quick'), choose('cpu-1'), root,\n"
        "    root / 'results', run.Effort(3), say=lambda line: print(line, flush=True))\n"
    )
    command = [sys.executable, "-c", script]
    driver = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert driver.stdout
    for line in driver.stdout:
        if line.startswith("block 2"):
            time.sleep(0.3)
            break
    workers = psutil.Process(driver.pid).children(recursive=True)
    assert workers
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    driver.stdout.close()
    _, alive = psutil.wait_procs(workers, timeout=5)
    assert not [each for each in alive if each.status() != psutil.STATUS_ZOMBIE]
    (session,) = (project / "results" / "records").iterdir()
    path = session / "sentiment" / "offline" / "own-module.json"
    assert [each.block for each in record.read(path).rounds] == [1]
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"going on with session {session.name}, whose run was killed" in again.stdout
    assert [each.block for each in record.read(path).rounds] == [1, 2, 3]
    assert list((project / "results" / "records").iterdir()) == [session]
    assert not (session / interrupted.MARK).exists()
    third = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "going on" not in third.stdout


def test_mark_of_another_session_or_a_running_one_is_left_alone(tmp_path: Path) -> None:
    folder, paths = tmp_path / "s1", ["sentiment/offline/null.json"]
    with interrupted.running(folder, "asked"):
        (folder / "sentiment" / "offline").mkdir(parents=True)
        (folder / "sentiment" / "offline" / "null.json").write_text("{}")
        assert interrupted.find(tmp_path, "asked", paths) == "", "it runs"
        mark = (folder / interrupted.MARK).read_text()
    assert not (folder / interrupted.MARK).exists()
    dead = json.loads(mark) | {"pid": 4_000_000}
    (folder / interrupted.MARK).write_text(json.dumps(dead))
    assert interrupted.find(tmp_path, "another", paths) == ""
    assert interrupted.find(tmp_path, "asked", paths) == "s1"
    empty = tmp_path / "s2"
    (empty / "sentiment" / "offline").mkdir(parents=True)
    (empty / "sentiment" / "offline" / "null.json.gz").write_bytes(b"x")
    (empty / interrupted.MARK).write_text(json.dumps(dead))
    assert interrupted.find(tmp_path, "asked", paths) == "s1"
    assert not empty.exists(), "killed in its first block, it holds nothing"


FAULTS = {
    'module = "other.py"': r"module = 'other\.py': there is no such Python file",
    'module = "../own-command/run.sh"': "there is no such Python file in this folder",
    'module = "model.py"\nengine = "static"': "more than one of engine, module and command",
    'module = "model.py"\ncommand = ["x"]': "more than one of engine, module and command",
    'command = "run.sh"': r"give a list of texts, \['\./run\.sh'\]",
    'command = ["./missing.sh"]': "is no file of this folder",
    'command = ["/bin/sh"]': "is no file of this folder",
    'module = "model.py"\n[serve.offline]\nmodule = "model.py"': "say it once, in",
}


@pytest.mark.parametrize("serve", FAULTS)
def test_own_code_is_checked_by_the_manifest(project: Path, serve: str) -> None:
    folder = example(project)
    manifest = folder / "submission.toml"
    manifest.write_text(manifest.read_text().replace('module = "model.py"', serve))
    with pytest.raises(ManifestError, match=FAULTS[serve]):
        read_system(folder, project)


WEIGHTS = {
    "{ file = 'weights.json' }": "write {file = ..., sha256 = ...} or",
    "'weights.json'": "write {file = ..., sha256 = ...} or",
    "{ file = 'none.json', sha256 = '0' }": "there is no such file",
    "{ file = '../own-module/../../x', sha256 = '0' }": "there is no such file",
    "{ file = 'weights.json', sha256 = '0' }": "sha256 of weights.json is",
    "{ hub = 'a/b', revision = 'main' }": "give the commit, 40 hex digits",
    "{ hub = 'b', revision = '" + "0" * 40 + "' }": "give organisation/name",
}


@pytest.mark.parametrize("weights", WEIGHTS)
def test_weights_are_checked_by_the_manifest(project: Path, weights: str) -> None:
    folder = example(project)
    manifest = (folder / "submission.toml").read_text()
    line = next(each for each in manifest.splitlines() if each.startswith("weights"))
    (folder / "submission.toml").write_text(manifest.replace(line, f"weights = {weights}"))
    with pytest.raises(ManifestError) as caught:
        read_system(folder, project)
    assert WEIGHTS[weights] in str(caught.value)


def test_weights_need_a_step_and_their_content_is_part_of_the_key(project: Path) -> None:
    folder = example(project)
    manifest = folder / "submission.toml"
    asked = task("sentiment")
    (before,) = plan(read_system(folder, project), asked, 0, project)
    changed = (folder / "weights.json").read_text().replace("0.", "1.", 1)
    (folder / "weights.json").write_text(changed)
    old = next(each for each in manifest.read_text().split('"') if len(each) == 64)
    new = hashlib.sha256(changed.encode()).hexdigest()
    manifest.write_text(manifest.read_text().replace(old, new))
    (after,) = plan(read_system(folder, project), asked, 0, project)
    assert before.key != after.key
    manifest.write_text(manifest.read_text().replace('[[step]]\nuse = "unpack"\n', ""))
    with pytest.raises(ManifestError, match="add the step 'unpack', or 'adopt'"):
        read_system(folder, project)
    manifest.write_text(manifest.read_text().replace("[serve]", '[[step]]\nuse="adopt"\n[serve]'))
    with pytest.raises(ManifestError, match=r"config\.json"):
        read_system(folder, project)


def test_checkpoint_in_an_archive_is_adopted(project: Path, tiny_encoder: Path) -> None:
    """A fine-tuned model as transformers saves it, packed, goes through the usual steps."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    folder = project / "submissions" / "packed"
    folder.mkdir()
    saved = folder.parent / "model"
    config = BertConfig.from_pretrained(tiny_encoder, num_labels=2)
    BertForSequenceClassification(config).save_pretrained(saved)
    shutil.copy(tiny_encoder / "tokenizer.json", saved)
    packed = Path(shutil.make_archive(str(folder / "weights"), "gztar", saved.parent, "model"))
    shutil.rmtree(saved)
    sha256 = hashlib.sha256(packed.read_bytes()).hexdigest()
    manifest = (
        'title = "t"\nauthors = ["a"]\nlicence = "MIT"\ndivision = "open"\ntasks = ["sentiment"]\n'
        f'[model]\nweights = {{ file = "weights.tar.gz", sha256 = "{sha256}" }}\n'
        '[[step]]\nuse = "adopt"\n[[step]]\nuse = "export"\n'
        '[serve]\nengine = "onnxruntime"\n'
    )
    (folder / "submission.toml").write_text(manifest)
    system = read_system(folder, project)
    assert (system.shape["format"], system.shape["layers"]) == ("onnx", 2)
    build([system], [task("sentiment")], choose("cpu-1"), project, say=lambda line: None)
    artifact = find_artifact(system, task("sentiment"), 0, project)
    assert artifact
    assert artifact.format == "onnx"


def test_weights_of_the_hub_are_known_by_their_commit(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Out of the hub's cache, without a network; unknown until they are fetched."""
    commit = "0123456789abcdef" * 2 + "01234567"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    folder = example(project)
    manifest = folder / "submission.toml"
    line = next(each for each in manifest.read_text().splitlines() if each.startswith("weights"))
    hub = f'weights = {{ hub = "someone/words", revision = "{commit}" }}'
    manifest.write_text(manifest.read_text().replace(line, hub))
    system = read_system(folder, project)
    (step,) = plan(system, task("sentiment"), 0, project)
    with pytest.raises(HarnessError, match="the hub does not give them"):
        build([system], [task("sentiment")], choose("cpu-1"), project, say=lambda line: None)
    snapshot = tmp_path / "hub" / "models--someone--words" / "snapshots" / commit
    snapshot.mkdir(parents=True)
    blob = tmp_path / "blob"
    shutil.copy(folder / "weights.json", blob)
    (snapshot / "weights.json").symlink_to(blob)
    build([system], [task("sentiment")], choose("cpu-1"), project, say=lambda line: None)
    artifact = find_artifact(system, task("sentiment"), 0, project)
    assert artifact
    assert artifact.key == step.key
    copied = artifact.folder / "weights.json"
    assert copied.read_bytes() == blob.read_bytes()
    assert not copied.is_symlink()


def test_check_says_all_faults_at_once(project: Path) -> None:
    folder = example(project)
    manifest = folder / "submission.toml"
    manifest.write_text(
        manifest.read_text().replace("authors = [", "authors = [] #").replace("licence", "#")
    )
    (folder / "README.md").write_text("\n")
    (folder / "old.pkl").write_bytes(b"x")
    (folder / "secrets").symlink_to("/etc/passwd")
    system, faults = check(folder, project)
    assert system is None
    text = "\n".join(faults)
    for part in ("authors is missing", "licence is missing", "README.md: missing or empty"):
        assert part in text
    assert "old.pkl may hold a pickle" in text
    assert "secrets is a link that leads out of the folder" in text
    assert len(faults) == 5


CODE = {
    "def load(self): pass\n    def predict(self, examples): pass": "load is called with 4 ",
    "def load(self, *given): pass\n    def predict(self): pass": "predict is called with 1 ",
    "def predict(self, examples): pass": "0 classes have `load` and `predict`",
    "x = (": r"not Python",
}


@pytest.mark.parametrize("body", CODE)
def test_check_reads_the_module_and_does_not_run_it(project: Path, body: str) -> None:
    folder = example(project)
    (folder / "model.py").write_text(f"raise SystemExit\nclass Words:\n    {body}\n")
    _, (fault,) = check(folder, project)
    assert CODE[body] in fault
    assert "model.py" in fault


def test_check_looks_at_the_command(project: Path) -> None:
    folder = example(project, "own-command")
    assert check(folder, project)[1] == []
    (folder / "run.sh").write_text("echo no first line\n")
    assert "Let its first line name what runs it" in check(folder, project)[1][0]
    (folder / "run.sh").chmod(0o644)
    assert "chmod +x" in check(folder, project)[1][0]
    manifest = folder / "submission.toml"
    manifest.write_text(manifest.read_text().replace("./run.sh", "no-such-program"))
    assert "no-such-program is not on this machine" in check(folder, project)[1][0]


def test_time_to_build_is_estimated(project: Path) -> None:
    """What is not built yet, and more for more training."""
    folder = project / "submissions" / "distilled"
    system, faults = check(folder, project)
    assert system
    assert not faults
    lines = list(told(system, project))
    assert lines[1].startswith("  sentiment: 2 steps to build, about ")
    assert lines[2] == "Next: wattbench bench --system distilled --task sentiment --rounds 2"
    from harness.estimate import build_seconds

    few = build_seconds(system, task("sentiment"), project)
    manifest = folder / "submission.toml"
    manifest.write_text(manifest.read_text().replace("epochs = 3", "epochs = 30"))
    many = build_seconds(read_system(folder, project), task("sentiment"), project)
    assert many > 1.2 * few > 0


def test_new_writes_what_check_accepts(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "user.name")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", 'Ada "A" Lovelace')
    for name, options in {
        "plain": [],
        "copied": ["--from", "fastformers"],
        "py": ["--python"],
        "sh": ["--command"],
    }.items():
        assert main(["new", name, *options]) == 0
        folder = project / "submissions" / name
        assert main(["check", str(folder)]) == 0
        system = read_system(folder, project)
        assert (system.title, system.authors) == (name, ("Ada A Lovelace",))
    copied = read_system(project / "submissions" / "copied", project)
    assert [use.step.name for use in copied.recipe][:2] == ["distill", "vocabulary"]
    assert os.access(project / "submissions" / "sh" / "run.sh", os.X_OK)
    capsys.readouterr()
    for name, options in (("plain", []), ("../x", []), ("other", ["--from", "fastformer"])):
        assert main(["new", name, *options]) == 2
    said = capsys.readouterr().err
    assert "'plain' exists already" in said
    assert "is no name for a system" in said
    assert "Did you mean 'fastformers'?" in said
    assert not [each for each in (project / "submissions").iterdir() if each.name[0] == "."]
    found = measured(project, ("null", "py", "sh"))
    assert found["py"].failure is found["sh"].failure is None
    assert found["py"].score == found["sh"].score
    assert (found["py"].score or {})["value"] > 0.53


def test_walls_are_refused_where_there_are_none(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    example(project)
    monkeypatch.chdir(project)
    monkeypatch.setattr(isolation, "works", lambda kind: False)
    assert main(["audit", "own-module", "--isolation", "walls"]) == 2
    assert "Install bubblewrap" in capsys.readouterr().err
    found = measured(project, ("null", "own-module"))
    assert {each.machine["isolation"] for each in found.values()} == {"process"}
    assert found["own-module"].failure is None


def test_export_of_own_code_is_refused(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    example(project)
    monkeypatch.chdir(project)
    system = read_system(project / "submissions" / "own-module", project)
    build([system], [task("sentiment")], choose("cpu-1"), project, say=lambda line: None)
    assert main(["export", "own-module", "out"]) == 2
    assert not (project / "out").exists()


def test_system_is_named_by_its_folder_too(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    elsewhere = project / "elsewhere" / "own-module"
    shutil.copytree(EXAMPLES / "own-module", elsewhere)
    command = f"bench --system {elsewhere} --rounds 1 --configuration cpu-1"
    options = parser().parse_args(command.split())
    found, _, _ = chosen.systems(options, project)
    assert {each.name for each in found} == {
        *("own-module", "minilm-l6", "minilm-l6-unpadded", "null"),
    }
    example(project)
    options = parser().parse_args(f"{command} --system own-module".split())
    with pytest.raises(HarnessError, match="two systems are called own-module"):
        chosen.systems(options, project)
