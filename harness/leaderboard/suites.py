"""All tasks of a suite together: the mean of the scores, the geometric mean of the speed-ups."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from statistics import mean

from harness.leaderboard.formatting import (
    escape_cell,
    format_interval,
    format_number,
    format_rows,
)
from harness.leaderboard.ranking import Section, compute_speedup
from harness.leaderboard.row import Row
from harness.tasks.registry import all_suites


def find_complete_suites(sections: Sequence[Section]) -> dict[str, list[Section]]:
    """Find the sessions that include all tasks of a suite with several tasks.

    Returns:
        The offline sections of each such session in the order of the suite's tasks, by a heading.
    """
    sessions: dict[tuple[str, str], dict[str, Section]] = {}
    for section in sections:
        if section.scenario == "offline":
            key = (section.session, section.rows[0].record.suite)
            sessions.setdefault(key, {})[str(section.task["name"])] = section
    suites = {name: suite.tasks for name, suite in all_suites().items() if len(suite.tasks) > 1}
    return {
        f"All tasks of the suite {suite}, session {session}": [
            by_task[task] for task in suites[suite]
        ]
        for (session, suite), by_task in sessions.items()
        if suite in suites and set(suites[suite]) <= set(by_task)
    }


def format_suite_table(sections: Sequence[Section]) -> str:
    """Return a table of the systems that were measured on every task, the best mean score first.

    A system is ranked by speed if it is above the floor of every task that has one: 1 plus the
    number of such systems of its division that are significantly faster.

    Args:
        sections: one offline section for each task.
    """
    by_task = [
        {row.name: row for row in section.system_rows if row.measured} for section in sections
    ]
    names = set.intersection(*(set(rows) for rows in by_task))
    with_floor = [
        rows for rows, section in zip(by_task, sections, strict=True) if section.floor is not None
    ]
    combined = {name: combine_tasks([rows[name] for rows in by_task]) for name in names}
    for name, row in combined.items():
        row.qualified = bool(with_floor) and all(rows[name].qualified for rows in with_floor)
    roles = sections[0].roles
    reference = combined.get(roles["reference"])
    unpadded = combined.get(roles["unpadded_reference"])
    scores = {
        name: [rows[name].score for rows in by_task]
        for name in names
        if all(rows[name].record.score for rows in by_task)
    }
    lines = []
    for name in sorted(scores, key=lambda name: (-mean(scores[name]), name)):
        row = combined[name]
        rank = 1 + _count_faster(row, combined.values()) if row.qualified else "-"
        is_control = all(rows[name].is_control for rows in by_task)
        lines.append(
            (
                is_control,
                {
                    "rank": str(rank),
                    "system": escape_cell(name),
                    "division": row.record.system["division"],
                    "mean score": f"{mean(scores[name]):.4f}",
                    **{
                        str(section.task["name"]): f"{score:.4f}"
                        for section, score in zip(sections, scores[name], strict=True)
                    },
                    "speed-up": format_interval(compute_speedup(reference, row)),
                    "unpadded": format_interval(compute_speedup(unpadded, row)),
                    "examples/s": format_number(
                        1 / math.exp(mean(map(math.log, row.seconds.values())))
                    ),
                },
            )
        )
    return format_rows(lines)


def combine_tasks(rows: Sequence[Row]) -> Row:
    """Combine one system's rows on several tasks into one.

    Its seconds are the geometric means over the tasks, in the blocks that all rows have.
    """
    blocks = set.intersection(*(set(row.seconds) for row in rows))
    seconds = {
        block: math.exp(mean(math.log(row.seconds[block]) for row in rows)) for block in blocks
    }
    return replace(rows[0], seconds=seconds)


def _count_faster(row: Row, rows: Iterable[Row]) -> int:
    """Count the qualified rows of the same division that are significantly faster."""
    division = row.record.system["division"]
    speedups = [
        compute_speedup(row, peer)
        for peer in rows
        if peer is not row and peer.qualified and peer.record.system["division"] == division
    ]
    return sum(speedup.low > 1 for speedup in speedups if speedup is not None)
