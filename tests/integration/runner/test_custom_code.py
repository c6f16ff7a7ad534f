"""Submissions that bring their own code and weights."""

import hashlib
import shutil
from pathlib import Path

import pytest

from harness.build import build_missing
from harness.cli.main import main
from harness.cli.options import SessionOptions
from harness.cli.resolve import make_session_plan
from harness.errors import HarnessError, ManifestError
from harness.submissions.manifest import read_system
from harness.submissions.plan import make_plan, plan_system
from harness.submissions.system import System
from harness.tasks.registry import get_task
from harness.tasks.task import Task
from harness.telemetry.configuration import choose_configuration
from harness.worker import sandbox
from tests.support.systems import EXAMPLES, build_and_measure, copy_example


def build_for_sentiment(system: System) -> None:
    plan = make_plan([system], [get_task("sentiment")])
    build_missing(plan, choose_configuration("cpu-1"), lambda line: None)


def test_record_says_which_code_and_which_isolation(project: Path, reviews: Task) -> None:
    names = ("null", "custom-module", "custom-command")
    for name in names[1:]:
        copy_example(project, name)
    records = build_and_measure(project, names, reviews)
    for name in names[1:]:
        assert records[name].failure is None
        assert records[name].machine["isolation"] == sandbox.get_default_isolation()
        assert (records[name].artifact or {})["format"] == "files"
    assert records["custom-module"].score == records["custom-command"].score
    assert records["custom-module"].system["serve"]["module"] == "model.py"
    assert records["custom-command"].system["serve"]["command"] == ["./run.sh"]
    assert "command" not in records["null"].system["serve"]
    left = {path.name for path in (project / "submissions" / "custom-module").iterdir()}
    assert left == {path.name for path in (EXAMPLES / "custom-module").iterdir()}, "no bytecode"


FAULTS = {
    'module = "other.py"': r"module = 'other\.py': there is no such Python file",
    'module = "../custom-command/run.sh"': "there is no such Python file in this folder",
    'module = "model.py"\nengine = "static"': "more than one of engine, module and command",
    'module = "model.py"\ncommand = ["x"]': "more than one of engine, module and command",
    'command = "run.sh"': r"command = 'run.sh' must be a list of strings",
    'command = ["./missing.sh"]': "is not a file in this folder",
    'command = ["/bin/sh"]': "is not a file in this folder",
    'module = "model.py"\n[serve.offline]\nmodule = "model.py"': "set it once, in",
}


@pytest.mark.parametrize("serve", FAULTS)
def test_own_code_is_checked_by_the_manifest(project: Path, serve: str) -> None:
    folder = copy_example(project)
    manifest = folder / "submission.toml"
    manifest.write_text(manifest.read_text().replace('module = "model.py"', serve))
    with pytest.raises(ManifestError, match=FAULTS[serve]):
        read_system(folder, project)


WEIGHTS = {
    "{ file = 'weights.json' }": "write {file = ..., sha256 = ...} or",
    "'weights.json'": "write {file = ..., sha256 = ...} or",
    "{ file = 'none.json', sha256 = '0' }": "there is no such file",
    "{ file = '../custom-module/../../x', sha256 = '0' }": "there is no such file",
    "{ file = 'weights.json', sha256 = '0' }": "sha256 of weights.json is",
    "{ hub = 'a/b', revision = 'main' }": "give the commit, 40 hex digits",
    "{ hub = 'b', revision = '" + "0" * 40 + "' }": "give organisation/name",
}


@pytest.mark.parametrize("weights", WEIGHTS)
def test_weights_are_checked_by_the_manifest(project: Path, weights: str) -> None:
    folder = copy_example(project)
    manifest = (folder / "submission.toml").read_text()
    line = next(line for line in manifest.splitlines() if line.startswith("weights"))
    (folder / "submission.toml").write_text(manifest.replace(line, f"weights = {weights}"))
    with pytest.raises(ManifestError) as caught:
        read_system(folder, project)
    assert WEIGHTS[weights] in str(caught.value)


def test_weights_need_a_step_and_their_content_is_part_of_the_key(project: Path) -> None:
    folder = copy_example(project)
    manifest = folder / "submission.toml"
    task = get_task("sentiment")
    (before,) = plan_system(read_system(folder, project), task, 0).steps
    changed = (folder / "weights.json").read_text().replace("0.", "1.", 1)
    (folder / "weights.json").write_text(changed)
    old = next(line for line in manifest.read_text().split('"') if len(line) == 64)
    new = hashlib.sha256(changed.encode()).hexdigest()
    manifest.write_text(manifest.read_text().replace(old, new))
    (after,) = plan_system(read_system(folder, project), task, 0).steps
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
    assert (system.spec.format, system.spec.layers) == ("onnx", 2)
    build_for_sentiment(system)
    artifact = plan_system(system, get_task("sentiment"), 0).find_artifact()
    assert artifact
    assert artifact.format == "onnx"


def test_weights_of_the_hub_are_known_by_their_commit(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Out of the hub's cache, without a network; unknown until they are fetched."""
    commit = "0123456789abcdef" * 2 + "01234567"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    folder = copy_example(project)
    manifest = folder / "submission.toml"
    line = next(line for line in manifest.read_text().splitlines() if line.startswith("weights"))
    hub = f'weights = {{ hub = "someone/words", revision = "{commit}" }}'
    manifest.write_text(manifest.read_text().replace(line, hub))
    system = read_system(folder, project)
    (step,) = plan_system(system, get_task("sentiment"), 0).steps
    with pytest.raises(HarnessError, match="could not be downloaded from the hub"):
        build_for_sentiment(system)
    snapshot = tmp_path / "hub" / "models--someone--words" / "snapshots" / commit
    snapshot.mkdir(parents=True)
    blob = tmp_path / "blob"
    shutil.copy(folder / "weights.json", blob)
    (snapshot / "weights.json").symlink_to(blob)
    build_for_sentiment(system)
    artifact = plan_system(system, get_task("sentiment"), 0).find_artifact()
    assert artifact
    assert artifact.key == step.key
    copied = artifact.folder / "weights.json"
    assert copied.read_bytes() == blob.read_bytes()
    assert not copied.is_symlink()


def test_export_of_own_code_is_refused(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy_example(project)
    monkeypatch.chdir(project)
    system = read_system(project / "submissions" / "custom-module", project)
    build_for_sentiment(system)
    assert main(["export", "custom-module", "out"]) == 2
    assert not (project / "out").exists()


def test_system_is_named_by_its_folder_too(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    elsewhere = project / "elsewhere" / "custom-module"
    shutil.copytree(EXAMPLES / "custom-module", elsewhere)
    options = SessionOptions(systems=[str(elsewhere)])
    plan, _ = make_session_plan(options, project, project / "results")
    assert {planned.system.name for planned in plan.systems} == {
        *("custom-module", "minilm-l6", "minilm-l6-unpadded", "null"),
    }
    copy_example(project)
    options = SessionOptions(systems=[str(elsewhere), "custom-module"])
    with pytest.raises(HarnessError, match="two systems are called custom-module"):
        make_session_plan(options, project, project / "results")
