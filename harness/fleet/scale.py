"""What a shared task of many submissions would take, from records: `python -m harness.fleet.scale`.

Each submission is assumed to be the mean of the recorded ones: its build, without what it shares
with others (its teacher), its share of a session, and the size of its artifact.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median

from harness.leaderboard.formatting import format_number, format_table
from harness.results.record import Record, find_record_paths, read_record

START_SECONDS = 1.0
"""A worker's start and end, and its warm-up, in a round."""

JOBS_PER_MINUTE = 1000
"""Jobs that are handed out in a minute; a test holds it."""

PARAMETER_BYTES = {"int8": 1, "fp16": 2, "bf16": 2, "fp32": 4}


@dataclass(frozen=True)
class RowCost:
    """What a system on a task takes.

    Attributes:
        build: seconds of its own steps.
        teacher: seconds of the first step, which others share.
        round: seconds of a round.
        megabytes: size of its artifact in 10^6 bytes, from its parameters.
        usd_per_hour: price of the machine.
    """

    build: float
    teacher: float
    round: float
    megabytes: float
    usd_per_hour: float


def read_costs(records: Path) -> list[RowCost]:
    """Return the costs of all submissions in a folder of records."""
    costs = []
    for path in find_record_paths(records):
        record = read_record(path)
        if record.scenario != "offline" or record.failure or not record.artifact:
            continue
        if record.system["division"] == "baseline" or not record.configuration["name"].startswith(
            "cpu"
        ):
            continue
        single = path.parent.parent / "single_stream" / path.name
        costs.append(_compute_cost(record, read_record(single) if single.is_file() else record))
    return costs


def _compute_cost(record: Record, single: Record) -> RowCost:
    assert record.artifact is not None
    seconds = [
        step["cost"]["seconds"] for step in record.artifact.get("recipe", ()) if "cost" in step
    ]
    windows = [
        window.seconds + other.seconds + window.load_seconds
        for window, other in zip(record.rounds, single.rounds, strict=False)
    ]
    parameters = record.artifact.get("model", {}).get("parameters", 0)
    return RowCost(
        build=sum(seconds[1:]),
        teacher=seconds[0] if seconds else 0.0,
        round=START_SECONDS + (mean(windows) if windows else 0.0),
        megabytes=parameters * PARAMETER_BYTES.get(record.artifact.get("dtype", "fp32"), 4) / 1e6,
        usd_per_hour=record.configuration["usd_per_hour"],
    )


def estimate(
    costs: Sequence[RowCost], submissions: int, tasks: int, seeds: int, blocks: int
) -> list[tuple[str, str]]:
    """Return what so many submissions take, as lines of a table.

    Args:
        costs: of recorded submissions; at least one.
        submissions: the number of submissions.
        tasks: the number of tasks.
        seeds: training seeds of each.
        blocks: blocks of a session.
    """
    rows = submissions * tasks * seeds
    builds = rows * mean(cost.build for cost in costs) / 3600
    teachers = tasks * seeds * mean(cost.teacher for cost in costs) / 3600
    sessions = rows * blocks * mean(cost.round for cost in costs) / 3600
    price = mean(cost.usd_per_hour for cost in costs)
    traffic = 2 * rows * mean(cost.megabytes for cost in costs) / 1e3
    slowest = max(cost.build for cost in costs)
    typical = median(cost.build for cost in costs)
    hours = builds + teachers + sessions
    return [
        ("rows", f"{rows:,}"),
        ("machine-hours of builds", format_number(builds)),
        ("machine-hours of shared teachers", format_number(teachers)),
        (f"machine-hours of sessions, {blocks} blocks", format_number(sessions)),
        ("USD", format_number(hours * price)),
        ("days on 20 machines", format_number(hours / 20 / 24)),
        ("GB through the store, written and read once", format_number(traffic)),
        ("jobs", f"{rows * 5 + tasks:,}"),
        ("minutes to hand them out", format_number((rows * 5 + tasks) / JOBS_PER_MINUTE)),
        ("slowest build against the median", f"{format_number(slowest / max(typical, 1e-9))}x"),
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m harness.fleet.scale", description=__doc__)
    parser.add_argument("records", type=Path, help="a folder of sessions, e.g. results/records")
    parser.add_argument("--submissions", type=int, default=1000)
    parser.add_argument("--tasks", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--blocks", type=int, default=5)
    options = parser.parse_args()
    costs = read_costs(options.records)
    if not costs:
        parser.error(f"{options.records}: no record of a submission")
    lines = estimate(costs, options.submissions, options.tasks, options.seeds, options.blocks)
    print(format_table(lines, headings=("of", "estimate")))


if __name__ == "__main__":
    main()
