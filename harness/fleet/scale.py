"""What a shared task of many submissions would take, from records: `python -m harness.fleet.scale`.

Each submission is assumed to be the mean of the recorded ones. The fine-tuning of the teacher,
which a recipe begins with, is counted once for each task and seed.
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

JOB_SECONDS = 3.0
"""A job's processes start and end: 0.9 s were measured without PyTorch; the rest is assumed."""

JOBS_PER_MINUTE = 1000
"""Jobs that are handed out in a minute, at least."""

MACHINES = 20


@dataclass(frozen=True)
class RowCost:
    """What a system on a task takes.

    Attributes:
        builds: seconds of each of its own steps.
        teacher: seconds of fine-tuning the teacher, which others share.
        round: seconds of a round.
        megabytes: size of what its steps write, in 10^6 bytes; all but the last count as fp32.
        usd_per_hour: price of the machine.
    """

    builds: tuple[float, ...]
    teacher: float
    round: float
    megabytes: float
    usd_per_hour: float


def read_costs(records: Path) -> list[RowCost]:
    """Return the costs of all submissions in a folder of records, each from its latest session."""
    costs = {}
    for path in find_record_paths(records):
        record = read_record(path)
        if record.scenario != "offline" or record.failure or not record.artifact:
            continue
        if record.system["division"] == "baseline" or not record.configuration["name"].startswith(
            "cpu"
        ):
            continue
        single = path.parent.parent / "single_stream" / path.name
        costs[record.task["name"], record.system["name"]] = _compute_cost(
            record, read_record(single) if single.is_file() else record
        )
    return list(costs.values())


def _compute_cost(record: Record, single: Record) -> RowCost:
    assert record.artifact is not None
    recipe = [step for step in record.artifact.get("recipe", ()) if "cost" in step]
    teacher = [step for step in recipe[:1] if step["use"] == "finetune"]
    builds = tuple(step["cost"]["seconds"] for step in recipe[len(teacher) :])
    windows = [
        window.seconds + other.seconds + window.load_seconds
        for window, other in zip(record.rounds, single.rounds, strict=False)
    ]
    size = record.artifact.get("size_mb", 0.0)
    between = max(size, 4 * record.artifact.get("parameters", 0) / 1e6)
    return RowCost(
        builds=builds,
        teacher=sum(step["cost"]["seconds"] for step in teacher),
        round=START_SECONDS + (mean(windows) if windows else 0.0),
        megabytes=size + between * (len(builds) - 1) if builds else 0.0,
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
    jobs = round(rows * mean(len(cost.builds) for cost in costs)) + tasks * (seeds + 1)
    builds = rows * mean(sum(cost.builds) for cost in costs) / 3600
    teachers = tasks * seeds * mean(cost.teacher for cost in costs) / 3600
    sessions = rows * blocks * mean(cost.round for cost in costs) / 3600
    starts = jobs * JOB_SECONDS / 3600
    hours = builds + teachers + sessions + starts
    price = mean(cost.usd_per_hour for cost in costs)
    slowest = max(sum(cost.builds) for cost in costs)
    typical = median(sum(cost.builds) for cost in costs)
    longest = mean(cost.teacher for cost in costs) / 3600 + slowest / 3600 + sessions / tasks
    traffic = 2 * rows * mean(cost.megabytes for cost in costs) / 1e3
    return [
        ("rows (submissions x tasks x seeds)", f"{rows:,}"),
        ("machine-hours of builds", format_number(builds)),
        ("machine-hours of shared teachers", format_number(teachers)),
        (f"machine-hours of sessions, {blocks} blocks", format_number(sessions)),
        ("machine-hours of starting processes", format_number(starts)),
        ("USD", format_number(hours * price)),
        (f"days on {MACHINES} machines", format_number(hours / MACHINES / 24)),
        ("hours of the session of one task, on one machine", format_number(sessions / tasks)),
        ("hours at least: teacher, slowest build, session", format_number(longest)),
        ("slowest build against the median", f"{format_number(slowest / max(typical, 1e-9))}x"),
        ("GB through the store, each artifact written and read once", format_number(traffic)),
        ("jobs", f"{jobs:,}"),
        ("minutes to hand them out", format_number(jobs / JOBS_PER_MINUTE)),
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
