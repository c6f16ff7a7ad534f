"""Sessions whose energy is measured, on a fake tree of RAPL counters."""

from pathlib import Path

import pytest

from harness.leaderboard.ranking import load_rows
from harness.results.record import Record, read_record
from harness.tasks.task import Task
from harness.telemetry import energy
from harness.telemetry.energy import Meter
from tests.support.rapl import Counter, drawing
from tests.support.systems import measure

READING_SECONDS = 0.3
"""What reading the counters may take before and after a window on a busy machine."""


def session(project: Path, task: Task) -> dict[str, Record]:
    """The records of `null` by scenario."""
    folder = project / "results" / "records" / measure(project, ["null"], task)
    return {path.parent.name: read_record(path) for path in folder.glob("*/*/null.json")}


@pytest.mark.serial
def test_session_on_counters_holds_answering_loading_and_the_idle_machine(
    project: Path, reviews: Task, counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(energy, "IDLE_SECONDS", 0.5)
    with drawing(counter, 25.0):
        found = session(project, reviews)
    for each in found.values():
        assert each.failure is None
        assert each.energy["source"].startswith("measured: CPU by RAPL")
        assert each.energy["idle"]["cpu_w"] == pytest.approx(25.0, rel=0.05)
        (only,) = each.rounds
        drawn = only.energy["cpu_wh"] * 3600 / 25.0
        assert 0.99 * only.seconds < drawn < only.seconds + READING_SECONDS
        assert only.load_wh > only.load_seconds * 25.0 / 3600 * 0.95
    (row,) = [row for row in load_rows(project / "results" / "records")[0] if row.seconds][:1]
    above_idle = row.columns()["energy_above_idle_wh_per_1k"]
    assert abs(above_idle) * row.rounds[0].examples / 1000 * 3600 / 25.0 < READING_SECONDS


@pytest.mark.usefixtures("counter")
def test_counter_that_stands_still_fails_the_row(
    project: Path, reviews: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Meter, "idle_watts", lambda self: None)
    found = session(project, reviews)
    assert all("returned no energy" in (each.failure or {})["reason"] for each in found.values())
