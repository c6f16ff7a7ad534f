"""Sessions with measured energy, on fake RAPL counters."""

from pathlib import Path

import pytest

from harness.leaderboard.columns import get_figures
from harness.leaderboard.ranking import load_rows
from harness.results.record import Record, read_record
from harness.tasks.task import Task
from harness.telemetry import energy
from harness.telemetry.energy import EnergyMeter
from tests.support.rapl import Counter, constant_power
from tests.support.systems import measure

READING_SECONDS = 0.3
"""How long reading the counters may take around a window on a busy machine."""


def measure_null(project: Path, task: Task) -> dict[str, Record]:
    """Run a session; return the records of `null` by scenario."""
    folder = project / "results" / "records" / measure(project, ["null"], task)
    return {path.parent.name: read_record(path) for path in folder.glob("*/*/null.json")}


@pytest.mark.serial
def test_session_records_energy_of_answering_of_loading_and_of_the_idle_machine(
    project: Path, reviews: Task, counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(energy, "IDLE_SECONDS", 0.5)
    with constant_power(counter, 25.0):
        records = measure_null(project, reviews)
    for record in records.values():
        assert record.failure is None
        assert record.energy["source"].startswith("measured: CPU by RAPL")
        assert record.energy["idle"]["cpu_w"] == pytest.approx(25.0, rel=0.05)
        (window,) = record.rounds
        seconds_at_25_watts = window.energy["cpu_wh"] * 3600 / 25.0
        assert 0.99 * window.seconds < seconds_at_25_watts < window.seconds + READING_SECONDS
        assert window.load_wh > window.load_seconds * 25.0 / 3600 * 0.95
    (row,) = [row for row in load_rows(project / "results" / "records")[0] if row.seconds][:1]
    above_idle = get_figures(row)["energy_above_idle_wh_per_1k"]
    assert abs(above_idle) * row.rounds[0].examples / 1000 * 3600 / 25.0 < READING_SECONDS


@pytest.mark.usefixtures("counter")
def test_counter_that_does_not_change_fails_the_system(
    project: Path, reviews: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EnergyMeter, "measure_idle_watts", lambda self: None)
    for record in measure_null(project, reviews).values():
        assert record.failure is not None
        assert "returned no energy" in record.failure["reason"]
