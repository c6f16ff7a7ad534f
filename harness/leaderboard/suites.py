"""A suite as a whole: the mean of its tasks' scores, and the geometric mean of its speed-ups."""

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import mean

from tabulate import tabulate

from harness.leaderboard.formatting import cell, interval, number
from harness.leaderboard.ranking import Section, faster
from harness.leaderboard.row import Row
from harness.tasks.registry import all_suites


def whole(found: Sequence[Section]) -> dict[str, list[Section]]:
    """The offline sections of each session that played all tasks of a suite with several, by a
    heading.
    """
    sessions: dict[tuple[str, str], dict[str, Section]] = {}
    for each in found:
        if each.scenario == "offline":
            place = (each.session, each.rows[0].record.suite)
            sessions.setdefault(place, {})[str(each.task["name"])] = each
    wanted = {name: each.tasks for name, each in all_suites().items() if len(each.tasks) > 1}
    return {
        f"The suite {suite} as a whole, session {session}": [
            by_task[name] for name in wanted[suite]
        ]
        for (session, suite), by_task in sessions.items()
        if suite in wanted and set(wanted[suite]) <= set(by_task)
    }


def together(rows: Sequence[Row]) -> Row:
    """One system's rows on several tasks as one: seconds are geometric means, block by block."""
    blocks = set.intersection(*(set(row.seconds) for row in rows))
    seconds = {
        block: math.exp(mean(math.log(row.seconds[block]) for row in rows)) for block in blocks
    }
    return replace(rows[0], seconds=seconds)


def suite_table(sections: Sequence[Section], style: str) -> str:
    """A line for each system that was measured on every task, the best mean score first.

    A system is ranked by speed where it is above the floor of every task that has one: 1 and the
    number of such systems of its division that are significantly faster.
    """
    by_name = [{row.name: row for row in each.systems if row.measured} for each in sections]
    names = set.intersection(*(set(each) for each in by_name))
    floors = [each for each, one in zip(by_name, sections, strict=True) if one.floor is not None]
    rows = {name: together([each[name] for each in by_name]) for name in names}
    for name, row in rows.items():
        row.qualified = bool(floors) and all(each[name].qualified for each in floors)
    roles = sections[0].rows[0].record.roles
    reference, unpadded = (rows.get(roles[role]) for role in ("reference", "unpadded_reference"))
    lines = []
    scores = {
        name: [float((each[name].record.score or {})["value"]) for each in by_name]
        for name in names
        if all(each[name].record.score for each in by_name)
    }
    for name in sorted(scores, key=lambda name: (-mean(scores[name]), name)):
        row = rows[name]
        peers = [
            found
            for each in rows.values()
            if each is not row
            and each.qualified
            and each.record.system["division"] == row.record.system["division"]
            and (found := faster(row, each))
        ]
        lines.append(
            {
                "rank": 1 + sum(each.low > 1 for each in peers) if row.qualified else "-",
                "system": cell(name),
                "division": row.record.system["division"],
                "mean score": f"{mean(scores[name]):.4f}",
                **{
                    str(each.task["name"]): f"{score:.4f}"
                    for each, score in zip(sections, scores[name], strict=True)
                },
                "speed-up": interval(faster(reference, row)),
                "unpadded": interval(faster(unpadded, row)),
                "examples/s": number(1 / math.exp(mean(map(math.log, row.seconds.values())))),
            }
        )
    return tabulate(lines, headers="keys", tablefmt=style, disable_numparse=True)
