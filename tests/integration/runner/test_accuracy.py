"""The accuracy pass of a session: once for all rows that give the same answers."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.loadgen.scenarios import Window
from harness.results import record
from harness.results.record import MEASUREMENT_VERSION, Record
from harness.runner import accuracy
from harness.runner.system_run import RunContext, SystemRun
from harness.submissions.plan import plan_system
from harness.tasks.task import Task
from tests.support.systems import (
    build_and_measure,
    copy_example,
    load_systems,
    measure,
    offline_records,
)

PADDED, UNPADDED = "minilm-l6", "minilm-l6-unpadded"

Answer = Callable[[SystemRun, Sequence[int], RunContext], Window]


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """System and number of examples of each worker that runs before the first block."""
    calls: list[tuple[str, int]] = []
    answer = accuracy.answer_rows

    def note(run: SystemRun, rows: Sequence[int], context: RunContext) -> Window:
        calls.append((run.system.name, len(rows)))
        return answer(run, rows, context)

    monkeypatch.setattr(accuracy, "answer_rows", note)
    return calls


def read_answers(project: Path, entry: Record) -> Any:
    return record.read_side_file(entry.path(project / "results" / "records"))["answers"]


def test_rows_of_one_artifact_are_scored_by_one_pass(
    built_project: Path, reviews: Task, passes: list[tuple[str, int]]
) -> None:
    examples = len(reviews.examples("validation"))
    session = measure(built_project, (PADDED, UNPADDED, "null"), reviews)
    assert passes == [(UNPADDED, examples), (PADDED, 64), ("null", examples)]
    records = offline_records(built_project, session)
    assert records[UNPADDED].accuracy_pass == {"system": UNPADDED}
    assert records[PADDED].accuracy_pass == {"system": UNPADDED, "agreement": 1.0}
    assert records[PADDED].score == records[UNPADDED].score
    answers = [read_answers(built_project, records[name]) for name in (PADDED, UNPADDED)]
    assert answers[0] == answers[1]
    assert len(answers[0]) == examples
    for path in (built_project / "results" / "records" / session).glob("*/*/*.json"):
        entry = record.read_record(path)
        assert entry.measurement == MEASUREMENT_VERSION
        assert [window.agreement for window in entry.rounds] == [1.0]

    passes.clear()
    measure(built_project, (PADDED, UNPADDED, "null"), reviews, session, blocks=2)
    assert not passes, "a resumed session has its answers"
    resumed = offline_records(built_project, session)
    assert resumed[PADDED].accuracy_pass == records[PADDED].accuracy_pass
    assert resumed[PADDED].score == records[PADDED].score
    assert [window.block for window in resumed[PADDED].rounds] == [1, 2]


def test_failure_of_a_pass_fails_all_rows_that_share_it(built_project: Path, reviews: Task) -> None:
    planned = plan_system(load_systems(built_project, [PADDED])[0], reviews, 0)
    artifact = planned.find_artifact()
    assert artifact
    (artifact.folder / "model.safetensors").write_bytes(b"damaged")
    session = measure(built_project, (PADDED, UNPADDED, "null"), reviews)
    records = offline_records(built_project, session)
    reasons = {name: (entry.failure or {}).get("reason", "") for name, entry in records.items()}
    assert reasons[UNPADDED].endswith("(in the accuracy pass)")
    shared = f"(in the accuracy pass of {UNPADDED}, whose answers this row shares)"
    assert reasons[PADDED].endswith(shared)
    assert reasons["null"] == ""
    assert records[PADDED].score is records[PADDED].accuracy_pass is None
    assert len(records["null"].rounds) == 1


def test_row_whose_own_sample_disagrees_fails_alone(
    built_project: Path, reviews: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = accuracy.answer_rows

    def change(run: SystemRun, rows: Sequence[int], context: RunContext) -> Window:
        window = answer(run, rows, context)
        if run.system.name == PADDED:
            window.answers[:2] = [1 - old for old in window.answers[:2]]
        return window

    monkeypatch.setattr(accuracy, "answer_rows", change)
    session = measure(built_project, (PADDED, UNPADDED), reviews)
    records = offline_records(built_project, session)
    failure = records[PADDED].failure
    assert failure
    assert "96.88% of its 64 answers in the accuracy check" in failure["reason"]
    assert records[PADDED].rounds == []
    assert records[PADDED].score is records[PADDED].accuracy_pass is None
    assert records[UNPADDED].failure is None


def test_custom_code_is_scored_by_its_own_untimed_pass(
    project: Path, reviews: Task, passes: list[tuple[str, int]]
) -> None:
    for name in ("custom-module", "custom-command"):
        copy_example(project, name)
    records = build_and_measure(project, ("custom-module", "custom-command"), reviews)
    examples = len(reviews.examples("validation"))
    assert passes == [("custom-module", examples), ("custom-command", examples)]
    for name, entry in records.items():
        assert entry.accuracy_pass == {"system": name}
        assert entry.rounds[0].agreement == 1.0
