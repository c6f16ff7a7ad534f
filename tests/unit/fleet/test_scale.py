"""What many submissions would take."""

from pathlib import Path
from typing import Any

import pytest

from harness.fleet.scale import RowCost, estimate, read_costs
from tests.support.sessions import write_session


def test_hours_and_money_of_many_submissions() -> None:
    costs = [
        RowCost((3000, 600), 1800, 6, 10, 0.1),
        RowCost((3600, 1800, 900, 900), 1800, 6, 30, 0.1),
    ]
    lines = dict(estimate(costs, submissions=10, tasks=2, seeds=1, blocks=6))
    assert lines["rows (submissions x tasks x seeds)"] == "20"
    assert lines["jobs"] == "64"  # 20 times 3, two teachers, two sessions
    assert lines["machine-hours of builds"] == "30.0"  # 20 times 1.5 hours
    assert lines["machine-hours of shared teachers"] == "1.00"
    assert lines["machine-hours of sessions, 6 blocks"] == "0.200"
    assert lines["machine-hours of starting processes"] == "0.0533"  # 64 times 3 seconds
    assert lines["USD"] == "3.13"
    assert lines["hours of the session of one task, on one machine"] == "0.100"
    assert lines["hours at least: teacher, slowest build, session"] == "2.60"
    assert lines["slowest build against the median"] == "1.33x"
    assert lines["GB through the store, each artifact written and read once"] == "0.800"


@pytest.mark.parametrize("first", ["finetune", "distill"])
def test_costs_come_from_the_latest_records_of_submissions(tmp_path: Path, first: str) -> None:
    def change(record: Any) -> None:
        uses = (first, "distill", "quantize")
        record.artifact |= {
            "recipe": [
                {"use": use, "cost": {"seconds": seconds}}
                for use, seconds in zip(uses, (100.0, 60.0, 2.0), strict=True)
            ],
            "size_mb": 10.0,
            "parameters": 5_000_000,
        }
        record.system["division"] = "baseline" if "fast" not in record.system["name"] else "open"

    for day in (1, 2):
        write_session(tmp_path, f"session-{day}", day, {"fast": 10.0}, change=change)
    (cost,) = read_costs(tmp_path)
    is_teacher = first == "finetune"
    assert cost.teacher == (100 if is_teacher else 0)
    assert cost.builds == ((60, 2) if is_teacher else (100, 60, 2))
    assert cost.megabytes == (10 + 20 if is_teacher else 10 + 40)
    assert cost.round > 1
