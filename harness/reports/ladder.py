"""What each optimization adds: the table of the FastFormers paper (Kim & Hassan 2020, Table 3)."""

from collections.abc import Sequence

from tabulate import tabulate

from harness.errors import HarnessError
from harness.leaderboard.formatting import interval, number
from harness.leaderboard.ranking import Section, faster
from harness.leaderboard.row import Row
from harness.tasks.registry import all_suites
from harness.tasks.suites import Suite


def ladder(found: Sequence[Section], suite: Suite, style: str) -> str:
    """One table a task: the time for the whole set, speed-ups over the first rung and over the one
    before (`offline`, and over the first also `single_stream`), score and price.

    style: one of tabulate's formats.

    Raises: HarnessError if no session holds every rung.
    """
    tables = _tables(found, suite, style)
    if not tables:
        raise HarnessError(
            f"no session holds all of {', '.join(suite.ladder) or suite.name}. Run: "
            f"wattbench bench --suite {suite.name} --ladder"
        )
    return "\n\n".join(tables)


def ladders(found: Sequence[Section], style: str) -> str:
    """The tables of all suites that these rows hold whole; '' if there is none."""
    names = {row.record.suite for each in found for row in each.rows}
    known = [each for name, each in all_suites().items() if name in names and each.ladder]
    tables = (table for each in known for table in _tables(found, each, style))
    return "\n\n".join(dict.fromkeys(tables))  # suites may share a ladder


def _tables(found: Sequence[Section], suite: Suite, style: str) -> list[str]:
    found = [each for each in found if rungs(each, suite.ladder)]
    return [_table(each, found, suite, style) for each in found if each.scenario == "offline"]


def rungs(section: Section, names: Sequence[str]) -> list[Row]:
    """The rows of the ladder in its order; empty where one is missing or failed."""
    good = {row.name: row for row in section.rows if row.seconds}
    found = [good[name] for name in names if name in good]
    return found if len(found) == len(names) else []


def _table(offline: Section, found: Sequence[Section], suite: Suite, style: str) -> str:
    shown = rungs(offline, suite.ladder)
    single = next(
        (
            {row.name: row for row in rungs(each, suite.ladder)}
            for each in found
            if each.scenario == "single_stream"
            and (each.session, each.task) == (offline.session, offline.task)
        ),
        {},
    )
    first, lines = shown[0], []
    for before, row in zip([None, *shown], shown, strict=False):
        score, columns = row.record.score, row.columns()
        count = score["examples"] if score else 0
        lines.append(
            {
                "system": row.name,
                f"s for {count:,}": number(count / row.throughput if row.throughput else None),
                "speed-up": interval(faster(first, row)),
                "of the step": interval(faster(before, row)),
                "single stream": interval(faster(single.get(first.name), single[row.name]))
                if row.name in single
                else "-",
                "score": (f"{score['value']:.4f}" if score else "-")
                + ("" if row.qualified or offline.floor is None else " below the floor"),
                "USD/100M": number(columns.get("usd_per_100m")),
            }
        )
    head = f"{offline.task['name']} on {offline.configuration['name']}, {offline.machine}, session "
    return (
        f"{head}{offline.session}\n\n"
        f"{tabulate(lines, headers='keys', tablefmt=style, disable_numparse=True)}"
    )
