"""The ladder of a suite: what each optimization adds (Kim & Hassan 2020, Table 3)."""

from collections.abc import Sequence

from harness.errors import HarnessError
from harness.leaderboard.columns import get_column
from harness.leaderboard.formatting import format_interval, format_number, format_table
from harness.leaderboard.ranking import Section, compute_speedup
from harness.leaderboard.row import Row
from harness.leaderboard.section import below_floor_note
from harness.leaderboard.warnings import find_caveats
from harness.tasks.registry import all_suites
from harness.tasks.suites import Suite


def render_ladder(sections: Sequence[Section], suite: Suite) -> str:
    """Return a table for each task: time for the whole set, speed-ups, score and price.

    Speed-ups are over the first system of the ladder (`offline` and `single_stream`) and over the
    system before (`offline`).

    Args:
        sections: the sections of the board.
        suite: the suite whose ladder is shown.

    Raises:
        HarnessError: no session has every system of the ladder.
    """
    tables = _render_tables(sections, suite)
    if not tables:
        raise HarnessError(
            f"no session has all systems of the ladder ({', '.join(suite.ladder) or suite.name}). "
            f"Run: wattbench bench --suite {suite.name} --ladder"
        )
    return "\n\n".join(tables)


def render_ladders(sections: Sequence[Section]) -> str:
    """Return the ladders of all suites that the sections have completely; '' if there is none."""
    names = {row.record.suite for section in sections for row in section.rows}
    suites = [suite for name, suite in all_suites().items() if name in names and suite.ladder]
    tables = [table for suite in suites for table in _render_tables(sections, suite)]
    return "\n\n".join(dict.fromkeys(tables))  # suites may share a ladder


def find_rungs(section: Section, names: Sequence[str]) -> list[Row]:
    """Return the rows of a ladder in its order; none if one is missing or failed."""
    by_name = {row.name: row for row in section.rows if row.seconds}
    if not all(name in by_name for name in names):
        return []
    return [by_name[name] for name in names]


def _render_tables(sections: Sequence[Section], suite: Suite) -> list[str]:
    complete = [section for section in sections if find_rungs(section, suite.ladder)]
    return [
        _render_table(section, complete, suite)
        for section in complete
        if section.scenario == "offline"
    ]


def _render_table(offline: Section, sections: Sequence[Section], suite: Suite) -> str:
    rungs = find_rungs(offline, suite.ladder)
    single_stream: dict[str, Row] = {}
    for section in sections:
        same_session = (section.session, section.task) == (offline.session, offline.task)
        if section.scenario == "single_stream" and same_session and not single_stream:
            single_stream = {row.name: row for row in find_rungs(section, suite.ladder)}
    lines = []
    first = rungs[0]
    for previous, row in zip([None, *rungs], rungs, strict=False):
        examples = row.record.score["examples"] if row.record.score else 0
        seconds = examples / row.throughput if row.throughput else None
        single_speedup = None
        if row.name in single_stream:
            single_speedup = compute_speedup(single_stream[first.name], single_stream[row.name])
        score = f"{row.score:.4f}" if row.record.score else "-"
        lines.append(
            {
                "system": row.name,
                f"s for {examples:,}": format_number(seconds),
                "speed-up": format_interval(compute_speedup(first, row)),
                "step speed-up": format_interval(compute_speedup(previous, row)),
                "single stream": format_interval(single_speedup),
                "score": score + below_floor_note(offline, row),
                "USD/100M": get_column("usd_per_100m").text(row),
            }
        )
    place = f"{offline.task['name']} on {offline.configuration['name']}, {offline.machine}"
    heading = f"{place}, session {offline.session}"
    return "\n\n".join([heading, format_table(lines), *find_caveats(offline)])
