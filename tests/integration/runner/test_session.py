"""Sessions: blocks, records, interruptions, and rows that fail."""

import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from harness.errors import BuildError, HarnessError
from harness.leaderboard.ranking import group_sections, load_rows
from harness.loadgen import scenarios, server
from harness.progress import ProgressLine
from harness.results import record
from harness.results.record import LEAST_BATCHES, Timing
from harness.runner import session as session_module
from harness.runner.config import SMOKE, RunConfig
from harness.runner.evaluate import run_round
from harness.runner.records import make_run
from harness.runner.system_run import EvalData, RunContext, SystemRun
from harness.submissions.plan import plan_system
from harness.tasks.metrics import ACCURACY
from harness.tasks.registry import get_task
from harness.tasks.task import Task
from harness.telemetry.configuration import choose_configuration
from harness.telemetry.energy import EnergyMeter
from harness.worker.driver import Worker
from tests.support.commands import parse_command
from tests.support.systems import (
    build_all,
    build_and_measure,
    copy_example,
    load_systems,
    measure,
    offline_records,
)


def test_sentiment_is_measured_with_code_in_two_languages(project: Path) -> None:
    """The built-in task whole: 1,994 examples, a bag of words, and a program that is not Python."""
    names = ("null", "tfidf-logreg", "custom-module", "custom-command")
    for name in names[2:]:
        copy_example(project, name)
    records = build_and_measure(project, names, get_task("sentiment"))
    assert not [record.failure for record in records.values() if record.failure]
    scores = {name: (record.score or {})["value"] for name, record in records.items()}
    assert scores["custom-module"] == scores["custom-command"] == pytest.approx(0.7533, abs=0.0001)
    assert 0.79 < scores["tfidf-logreg"] < 0.82
    path = records["tfidf-logreg"].path(project / "results" / "records")
    side = record.read_side_file(path)
    assert len(side["labels"]) == 1994
    score = ACCURACY.score(side["answers"], side["labels"], side["groups"])
    assert scores["tfidf-logreg"] == score.value
    for file in path.parents[1].glob("*/*.json"):
        assert file.stat().st_size < 10_000


def test_damaged_artifact_fails_its_row_alone_and_the_session_continues(
    built_project: Path, reviews: Task
) -> None:
    names = ("minilm-l6", "null", "onnx-int8", "tfidf-logreg", "broken")
    shutil.copytree(
        built_project / "submissions" / "onnx-int8", built_project / "submissions" / "broken"
    )
    manifest = built_project / "submissions" / "broken" / "submission.toml"
    plain = manifest.read_text().replace('use = "export"', 'use = "export"\noptimize = false')
    manifest.write_text(plain)
    build_all(built_project, names, reviews)
    broken = plan_system(load_systems(built_project, ["broken"])[0], reviews, 0).find_artifact()
    assert broken
    (broken.folder / "model.onnx").write_bytes(b"damaged")

    session = measure(built_project, names, reviews)
    records = offline_records(built_project, session)
    assert set(records) == set(names)
    failure = records["broken"].failure
    assert failure
    assert "INVALID_PROTOBUF" in failure["reason"].upper().replace(
        "INVALIDPROTOBUF", "INVALID_PROTOBUF"
    )
    others = [record for name, record in records.items() if name != "broken"]
    assert all(len(record.rounds) == 1 and record.failure is None for record in others)
    assert records["null"].timing == SMOKE
    assert records["null"].smoke

    measure(built_project, names, reviews, session, blocks=2)
    resumed = offline_records(built_project, session)["minilm-l6"]
    assert [window.block for window in resumed.rounds] == [1, 2]
    assert resumed.started == records["minilm-l6"].started
    with pytest.raises(HarnessError, match="has 2 blocks already"):
        measure(built_project, names, reviews, session, blocks=2)
    with pytest.raises(HarnessError, match=r"timing \(window [\d.]+ -> [\d.]+.*\) changed since"):
        measure(built_project, names, reviews, session, blocks=3, timing=Timing())

    for name, suffix in (("minilm-l6", "safetensors"), ("onnx-int8", "onnx")):
        fields = records[name].artifact or {}
        artifact = plan_system(load_systems(built_project, [name])[0], reviews, 0).find_artifact()
        assert artifact
        size = (artifact.folder / f"model.{suffix}").stat().st_size
        assert fields["weights_mb"] == round(size / 1e6, 3) < fields["size_mb"]
    folder = built_project / "results" / "records" / session / "reviews"
    single = record.read_record(folder / "single_stream" / "null.json")
    times = record.read_side_file(folder / "single_stream" / "null.json")["latency_us"]
    assert single.latency_ms
    assert single.latency_ms["queries"] == sum(map(len, times))
    assert single.rounds[0].load_seconds > 0.02


def test_parameters_of_a_quantized_graph_are_those_of_its_weights(
    built_project: Path, reviews: Task
) -> None:
    session = measure(built_project, ("minilm-l6", "onnx-int8", "tfidf-logreg"), reviews)
    records = offline_records(built_project, session)
    artifact = plan_system(
        load_systems(built_project, ["minilm-l6"])[0], reviews, 0
    ).find_artifact()
    assert artifact
    with safe_open(artifact.folder / "model.safetensors", "np") as file:
        weights = sum(file.get_tensor(name).size for name in file.keys())  # noqa: SIM118
    assert (records["minilm-l6"].artifact or {})["parameters"] == weights
    assert (records["onnx-int8"].artifact or {})["parameters"] == weights
    assert (records["tfidf-logreg"].artifact or {})["parameters"] > 500


def test_window_holds_several_batches_however_short_it_is(project: Path, reviews: Task) -> None:
    manifest = copy_example(project) / "submission.toml"
    manifest.write_text(f"{manifest.read_text()}\n[serve.offline]\nbatch = 4096\n")
    timing = replace(SMOKE, window=0.01, short_window=0.005)
    records = build_and_measure(project, ["custom-module"], reviews, timing=timing)
    (window,) = records["custom-module"].rounds
    assert records["custom-module"].failure is None
    assert window.examples >= LEAST_BATCHES * 4096
    assert window.seconds > 2 * timing.window


def test_interrupted_block_is_dropped_and_the_session_can_be_resumed(
    built_project: Path, reviews: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("null", "majority")
    play_round, calls = session_module.run_round, []

    def interrupt(*arguments: object) -> None:
        calls.append(arguments)
        if len(calls) == 4:
            raise KeyboardInterrupt
        play_round(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(session_module, "run_round", interrupt)
    with pytest.raises(KeyboardInterrupt):
        measure(built_project, names, reviews, blocks=3)
    monkeypatch.setattr(session_module, "run_round", play_round)
    (path,) = (built_project / "results" / "records").glob("*/reviews/offline/null.json")
    assert [window.block for window in record.read_record(path).rounds] == [1]
    measure(built_project, names, reviews, path.parts[-4], blocks=3)
    assert [window.block for window in record.read_record(path).rounds] == [1, 2, 3]


def test_session_resumed_with_other_counters_is_refused(project: Path, reviews: Task) -> None:
    session = measure(project, ["null"], reviews)
    path = project / "results" / "records" / session / "reviews" / "offline" / "null.json"
    data = json.loads(path.read_text())
    data["energy"]["source"] = "measured: CPU by RAPL"
    path.write_text(json.dumps(data))
    with pytest.raises(HarnessError, match=r"its energy is measured.* now it would be modelled"):
        measure(project, ["null"], reviews, session, blocks=2)


def test_session_cannot_be_resumed_with_other_systems(project: Path, reviews: Task) -> None:
    with pytest.raises(HarnessError, match=r"has no record .*Start a new session"):
        measure(project, ["null"], reviews, "2026-01-01T000000-cpu-1-abcd")


def test_system_that_is_not_built_is_reported_with_the_command(
    project: Path, reviews: Task
) -> None:
    with pytest.raises(BuildError, match="is not built for reviews") as caught:
        measure(project, ["tfidf-logreg"], reviews)
    remedy = str(caught.value).partition("Run: wattbench ")[2].split()
    command, values = parse_command(remedy)
    assert (command, values["systems"]) == ("build", ["tfidf-logreg"])
    assert values["tasks"] == [reviews.address]


SESSION_FIELDS = {
    "session": "s",
    "started": "2026-01-01T00:00:00Z",
    "suite": "quick",
    **{part: {} for part in ("roles", "configuration", "machine", "software", "energy")},
}
"""What all records of a session share, for tests that need none of it."""


def run_null(
    project: Path, task: Task, answers: list[int], rate: float = 0.0, memory_gb: float = 4.0
) -> SystemRun:
    """Play a round of `null` after an accuracy pass with these answers."""
    (null,) = load_systems(project, ["null"])
    run = make_run(plan_system(null, task, 0), SESSION_FIELDS, RunConfig())
    run.answers, run.rate = answers, rate
    configuration = choose_configuration("cpu-1").model_copy(update={"memory_gb": memory_gb})
    meter = EnergyMeter(configuration)
    run_round(run, 1, RunContext(EvalData.load(task), configuration, meter, timing=SMOKE))
    return run


def find_reason(run: SystemRun) -> str:
    """Return why a round failed."""
    failure = run.records["offline"].failure
    assert run.failed
    assert failure
    return str(failure["reason"])


def test_answers_that_differ_from_the_accuracy_pass_fail_the_row(
    project: Path, reviews: Task
) -> None:
    reason = find_reason(run_null(project, reviews, [1] * 100))
    assert re.match(r"0\.00% of its \d+ answers in single_stream \(block 1\)", reason)


def test_memory_over_the_configuration_fails_the_row(project: Path, reviews: Task) -> None:
    reason = find_reason(run_null(project, reviews, [0] * 100, memory_gb=0.001))
    assert "the configuration allows 0.001 GiB" in reason


def test_window_is_long_enough_though_the_expected_rate_was_wrong(
    project: Path, reviews: Task
) -> None:
    """As after a sample of few examples in which the machine stood still."""
    run = run_null(project, reviews, [0] * 100, rate=10.0)
    (window,) = run.records["offline"].rounds
    assert window.seconds >= SMOKE.short_window / 2


def test_board_sections_never_mix_sessions(project: Path, reviews: Task) -> None:
    first, second = (measure(project, ["null"], reviews) for _ in range(2))
    rows, faults = load_rows(project / "results" / "records")
    assert not faults
    sessions = [{row.record.session for row in section.rows} for section in group_sections(rows)]
    assert len(sessions) == 2, "single_stream and offline"
    assert all(len(names) == 1 and names <= {first, second} for names in sessions)


@pytest.mark.serial
def test_nothing_is_logged_within_a_timed_window(
    project: Path, reviews: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A progress bar changes only with the next line of the log."""
    events: list[str] = []

    def note(timed: Callable[..., AbstractContextManager[None]]) -> Callable[..., Any]:
        @contextmanager
        def noted(*arguments: Any) -> Iterator[None]:
            with timed(*arguments):
                events.append("start")
                yield
                events.append("end")

        return noted

    noted = note(scenarios.timed)
    monkeypatch.setattr(scenarios, "timed", noted)
    monkeypatch.setattr(server, "timed", noted)
    measure(project, ["null"], reviews, log=events.append, server=True, blocks=2)
    starts = [number for number, event in enumerate(events) if event == "start"]
    assert len(starts) > 9  # the pass; in each block: loading, two scenarios, and some rates
    assert all(events[number + 1] == "end" for number in starts)
    lines = [event for event in events if isinstance(event, ProgressLine)]
    assert [line.text for line in lines] == [
        "accuracy pass: null on reviews",
        "block 1: null on reviews",
        "block 2: null on reviews",
    ]
    assert [line.done for line in lines] == [0.0, 0.0, 0.5]


def test_progress_before_the_blocks_is_of_the_accuracy_passes(
    built_project: Path, reviews: Task
) -> None:
    lines: list[str] = []
    measure(built_project, ["null", "minilm-l6"], reviews, log=lines.append, blocks=1)
    passes = [line for line in lines if isinstance(line, ProgressLine) and "pass" in line]
    assert [line.done for line in passes] == [0.0, 0.5]
    assert all(line.seconds_left is None for line in passes), "a pass may take any time"
    first, _ = (line for line in lines if line.startswith("block"))
    assert isinstance(first, ProgressLine)
    assert first.seconds_left


def test_driver_sleeps_while_it_waits(reviews: Task) -> None:
    """100 queries a second cost the driver 1 to 2% of a core; waiting in a loop would be 100%."""
    script = (
        "import sys, time\n"
        "for n, line in enumerate(sys.stdin):\n"
        '    time.sleep(0.01); print(\'{"id": %d, "answers": [0]}\' % n, flush=True)'
    )
    samples = scenarios.QuerySamples.from_examples(reviews.examples("validation")[:50], 2)
    with Worker(1, [sys.executable, "-c", script]) as worker:
        window = scenarios.single_stream(
            worker, samples, range(50), EnergyMeter(choose_configuration("cpu-1"))
        )
    assert window.driver_cpu_seconds / window.seconds < 0.1
