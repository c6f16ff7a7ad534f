import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors import safe_open

from harness import record
from harness.board.ranking import load_rows, sections
from harness.board.tables import write_board
from harness.build import build, find_artifact, plan
from harness.configuration import choose
from harness.energy import Meter
from harness.errors import BuildError, HarnessError
from harness.manifest import System, find_systems, read_system
from harness.measure import run, scenarios
from harness.measure.rounds import Material, Setting
from harness.measure.run import Effort
from harness.store import artifact_dir
from harness.tasks.metrics import ACCURACY
from harness.tasks.task import suite, task
from harness.usage import parser

NAMES = ("minilm-l6", "minilm-l6-unpadded", "null", "onnx-int8", "tfidf-logreg")


def systems(project: Path, names: tuple[str, ...] = NAMES) -> list[System]:
    return [read_system(find_systems(project)[name], project) for name in names]


@pytest.fixture
def short_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenarios, "WINDOW_SECONDS", 0.2)
    monkeypatch.setattr(scenarios, "PLENTY_SECONDS", 0.1)


def measure(project: Path, blocks: int, session: str = "", **kwargs: object) -> str:
    names = kwargs.pop("names", NAMES)
    assert isinstance(names, tuple)
    return run.measure(
        systems(project, names),
        [task("sentiment")],
        suite("quick"),
        choose("cpu-1"),
        project,
        project / "results",
        Effort(blocks),
        session,
        say=lambda line: None,
    )


def safetensors_parameters(project: Path) -> int:
    """How many numbers the reference's weights are, counted in the file."""
    artifact = find_artifact(systems(project, ("minilm-l6",))[0], task("sentiment"), 0, project)
    assert artifact
    with safe_open(artifact.folder / "model.safetensors", "np") as file:
        return sum(file.get_tensor(name).size for name in file.keys())  # noqa: SIM118


@pytest.mark.usefixtures("short_windows")
def test_from_manifest_to_board_with_a_fault_and_a_second_helping(project: Path) -> None:
    said: list[str] = []
    asked = [task("sentiment")]
    build(systems(project), asked, choose("cpu-1"), project, say=said.append)
    assert sum("build" in line for line in said) == 3, "the unpadded reference is built already"
    said.clear()
    build(systems(project), asked, choose("cpu-1"), project, say=said.append)
    assert not said, "what is built is skipped"

    shutil.copytree(project / "submissions" / "onnx-int8", project / "submissions" / "broken")
    manifest = project / "submissions" / "broken" / "submission.toml"
    manifest.write_text(
        manifest.read_text()
        .replace("[[step]]", '[[step]]\nuse = "export"\noptimize = false\n[[step]]', 1)
        .replace('[[step]]\nuse = "export"\n\n', "", 1)
    )
    names = (*NAMES, "broken")
    build(systems(project, names), asked, choose("cpu-1"), project, say=said.append)
    broken = find_artifact(systems(project, ("broken",))[0], asked[0], 0, project)
    assert broken
    (broken.folder / "model.onnx").write_bytes(b"damaged")

    session = measure(project, 1, names=names)
    folder = project / "results" / "records" / session
    records = {path.stem: record.read(path) for path in folder.glob("sentiment/offline/*.json")}
    assert set(records) == set(names)
    failure = records["broken"].failure
    assert failure
    assert "InvalidProtobuf" in failure["reason"] or "INVALID_PROTOBUF" in failure["reason"]
    good = [each for name, each in records.items() if name != "broken"]
    assert all(len(each.rounds) == 1 and each.failure is None for each in good)

    measure(project, 2, session)
    again = record.read(folder / "sentiment" / "offline" / "minilm-l6.json")
    assert [each.block for each in again.rounds] == [1, 2]
    assert again.started == records["minilm-l6"].started
    with pytest.raises(HarnessError, match="has 2 blocks already"):
        measure(project, 2, session)

    side = record.read_side(folder / "sentiment" / "offline" / "minilm-l6.json")
    assert again.score
    found = ACCURACY.score(side["answers"], side["labels"], side["groups"])
    assert again.score["value"] == found.value
    assert len(side["labels"]) == 1994
    for path in folder.glob("sentiment/*/*.json"):
        assert path.stat().st_size < 10_000
    for name, format_ in (("minilm-l6", "safetensors"), ("onnx-int8", "onnx")):
        kept = records[name].artifact or {}
        artifact = find_artifact(systems(project, (name,))[0], asked[0], 0, project)
        assert artifact
        size = (artifact.folder / f"model.{format_}").stat().st_size
        assert kept["weights_mb"] == round(size / 1e6, 3) < kept["size_mb"]
    weights = safetensors_parameters(project)
    assert (records["onnx-int8"].artifact or {})["parameters"] == weights
    assert (records["tfidf-logreg"].artifact or {})["parameters"] > 1000
    single = record.read(folder / "sentiment" / "single_stream" / "null.json")
    times = record.read_side(folder / "sentiment" / "single_stream" / "null.json")["latency_us"]
    assert single.latency_ms
    assert single.latency_ms["queries"] == sum(map(len, times))
    assert single.rounds[0].load_seconds > 0.02

    (folder / "sentiment" / "offline" / "tfidf-logreg.json").write_text("{")
    faults = write_board(project / "results").faults
    assert len(faults) == 1
    assert "tfidf-logreg.json: not a record" in faults[0]
    text = (project / "results" / "README.md").read_text()
    assert "**broken failed**" in text
    assert "[onnx-int8](records/" in text
    for link in (folder / "sentiment" / "offline").glob("*.json"):
        if link.stem in NAMES[:4]:
            assert f"records/{session}/sentiment/offline/{link.name}" in text


@pytest.mark.usefixtures("short_windows")
def test_interrupted_block_is_dropped_and_the_session_goes_on(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("null", "majority")
    build(systems(project, names), [task("sentiment")], choose("cpu-1"), project, say=print)
    real, calls = run.play_round, []

    def interrupted(*arguments: object) -> None:
        calls.append(arguments)
        if len(calls) == 4:
            raise KeyboardInterrupt
        real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(run, "play_round", interrupted)
    with pytest.raises(KeyboardInterrupt):
        measure(project, 3, names=names)
    monkeypatch.setattr(run, "play_round", real)
    (path,) = (project / "results" / "records").glob("*/sentiment/offline/null.json")
    assert [each.block for each in record.read(path).rounds] == [1]
    measure(project, 3, path.parts[-4], names=names)
    assert [each.block for each in record.read(path).rounds] == [1, 2, 3]


def test_session_cannot_be_taken_up_by_another_experiment(project: Path) -> None:
    with pytest.raises(HarnessError, match=r"has no record .*Start a new session"):
        measure(project, 1, "2026-01-01T000000-cpu-1-abcd", names=("null",))


def test_system_that_is_not_built_is_said_with_the_command(project: Path) -> None:
    with pytest.raises(BuildError, match="is not built for sentiment") as caught:
        measure(project, 1, names=("tfidf-logreg",))
    remedy = str(caught.value).partition("Run: wattbench ")[2].split()
    options = parser().parse_args(remedy)  # leaves with an error if it is no command
    assert (options.command, options.system) == ("build", ["tfidf-logreg"])


def test_keys_follow_what_an_artifact_is_made_of(project: Path) -> None:
    (int8,) = systems(project, ("onnx-int8",))
    asked = task("sentiment")
    before = [each.key for each in plan(int8, asked, 0, project)]
    assert before == [each.key for each in plan(int8, asked, 0, project)]
    assert not set(before) & {each.key for each in plan(int8, asked, 1, project)}
    manifest = project / "baselines" / "minilm-l6" / "submission.toml"
    manifest.write_text(manifest.read_text().replace("epochs = 1", "epochs = 2"))
    after = [each.key for each in plan(int8, asked, 0, project)]
    assert not set(before) & set(after), "the teacher's recipe changed, so all is built anew"
    manifest = int8.manifest
    manifest.write_text(manifest.read_text().replace('"export"', '"export"\noptimize = false'))
    (changed,) = systems(project, ("onnx-int8",))
    last = [each.key for each in plan(changed, asked, 0, project)]
    assert last[0] == after[0], "the first step is the same"
    assert last[1:] != after[1:]


def test_killed_build_leaves_no_half_artifact_and_is_taken_up(
    project: Path, cache_with_data: Path
) -> None:
    (reference,) = systems(project, ("minilm-l6",))
    order = [str(reference.folder), "sentiment", "cpu-1", str(project), "0"]
    child = subprocess.Popen(
        [sys.executable, "-m", "harness.build", *order], stdout=subprocess.PIPE
    )
    assert child.stdout
    scratch = cache_with_data / "tmp"
    deadline = time.monotonic() + 60
    while not (scratch.is_dir() and list(scratch.iterdir())) and time.monotonic() < deadline:
        time.sleep(0.05)
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    (step,) = plan(reference, task("sentiment"), 0, project)
    assert not artifact_dir(step.key).exists()
    build([reference], [task("sentiment")], choose("cpu-1"), project, say=lambda line: None)
    assert not list(scratch.iterdir()), "what the killed build left is swept away"
    about = json.loads((artifact_dir(step.key) / "artifact.json").read_text())
    cost = about["recipe"][0]["cost"]
    assert cost["energy"]["source"].startswith(("modelled", "measured"))
    assert cost["cpu_seconds"] > 0


def test_build_that_fails_says_file_and_reason(project: Path) -> None:
    manifest = project / "baselines" / "minilm-l6" / "submission.toml"
    manifest.write_text(manifest.read_text().replace("1e-3", "1e30"))
    with pytest.raises(BuildError, match=r"submission\.toml: .*not finite.*Lower learning_rate"):
        build(
            systems(project, ("minilm-l6",)),
            [task("sentiment")],
            choose("cpu-1"),
            project,
            say=lambda line: None,
        )


def test_answers_that_differ_from_the_accuracy_pass_fail_the_row(project: Path) -> None:
    (null,) = systems(project, ("null",))
    asked = task("sentiment")
    row = run._row(null, asked, run_about(), project, 0, Effort().scenarios)
    row.answers = [1] * 1994
    one = choose("cpu-1")
    run.play_round(row, 1, Setting(Material.of(asked), one, Meter(one)))
    assert row.failed
    failure = row.records["offline"].failure
    assert failure
    assert "0.00% of its answers in single_stream" in failure["reason"]


def test_memory_over_the_configuration_fails_the_row(project: Path) -> None:
    from dataclasses import replace

    (null,) = systems(project, ("null",))
    small = replace(choose("cpu-1"), memory_gb=0.001)
    row = run._row(null, task("sentiment"), run_about(), project, 0, Effort().scenarios)
    run.play_round(row, 1, Setting(Material.of(task("sentiment")), small, Meter(small)))
    failure = row.records["offline"].failure
    assert failure
    assert "the configuration allows 0.001 GiB" in failure["reason"]


def run_about() -> dict[str, object]:
    return {
        "session": "s",
        "started": "2026-01-01T00:00:00Z",
        "suite": "quick",
        "roles": {},
        "configuration": {},
        "machine": {},
        "software": {},
        "energy": {},
    }


def test_labels_never_go_over_the_wire() -> None:
    from harness.tasks.task import Example

    examples = [Example((("same text",),), label) for label in (0, 1)]
    bodies = scenarios.Questions.of(examples, 2).bodies
    assert bodies == [b'[["same text"]]'] * 2


def test_every_prefix_of_the_order_is_a_fair_sample_of_lengths() -> None:
    from harness.tasks.task import Example

    examples = [Example((("x" * (5 + number % 300),),), 0) for number in range(2000)]
    questions = scenarios.Questions.of(examples, 2)
    whole = sum(map(len, questions.bodies)) / 2000
    for seed in range(20):
        order = questions.order(seed)
        assert sorted(order) == list(range(2000))
        prefix = order[:50]
        assert sum(len(questions.bodies[row]) for row in prefix) / 50 == pytest.approx(
            whole, rel=0.04
        )
    assert questions.order(1) != questions.order(2)


def test_offline_rows_fill_the_window() -> None:
    order = list(range(1000))
    assert scenarios.offline_rows(order, 100) == order[:150]
    assert len(scenarios.offline_rows(order, 800)) == 2000
    assert len(scenarios.offline_rows(order, 1_000_000)) == 500_000


def test_board_sections_never_mix_sessions(project: Path) -> None:
    names = ("null",)
    first = measure(project, 1, names=names)
    second = measure(project, 1, names=names)
    rows, faults = load_rows(project / "results" / "records")
    assert not faults
    shown = [{row.record.session for row in each.rows} for each in sections(rows)]
    assert len(shown) == 2, "single_stream and offline"
    assert all(len(each) == 1 and each <= {first, second} for each in shown)


def test_driver_sleeps_while_it_waits(project: Path) -> None:
    """100 queries a second cost the driver less than 2% of a core."""
    from harness.measure.protocol import Worker

    script = (
        "import sys, time\n"
        "for n, line in enumerate(sys.stdin):\n"
        '    time.sleep(0.01); print(\'{"id": %d, "answers": [0]}\' % n, flush=True)'
    )
    questions = scenarios.Questions.of(task("sentiment").examples("validation")[:50], 2)
    with Worker(1, [sys.executable, "-c", script]) as worker:
        window = scenarios.single_stream(worker, questions, range(50), Meter(choose("cpu-1")))
    assert 70 < len(window.rows) / window.seconds < 100
    assert window.driver_cpu_seconds / window.seconds < 0.02


def test_one_slow_round_does_not_make_the_estimate() -> None:
    said: list[str] = []
    progress = run.Progress(8, 5, said.append)
    progress.times[0] -= 65
    progress.done()
    progress.step("second")
    assert said == ["second (1/40 rounds, about 3.9 min left)"]
    progress.times = [10.0 * number for number in range(9)]
    progress.step("ninth")
    assert said[1] == "ninth (8/40 rounds, about 5.3 min left)"
