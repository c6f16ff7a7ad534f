"""What the Markdown shows of one section: its table and the notes on its figures."""

from collections.abc import Mapping, Sequence

from harness.leaderboard.column import Column, Table
from harness.leaderboard.columns import find_columns
from harness.leaderboard.formatting import format_number, format_rows
from harness.leaderboard.ranking import Section, get_pace
from harness.leaderboard.repeats import SessionVariation
from harness.leaderboard.row import Row
from harness.leaderboard.warnings import find_newer_rows, find_stale_rows, find_warnings
from harness.tasks.registry import all_suites


def choose_main_section(sections: Sequence[Section]) -> Section | None:
    """Return the section that tables and plots show first; None if no section has a floor.

    It is the latest offline section, of the suite `quick` with its reference and on a CPU where
    there is one.
    """
    candidates = [
        section
        for section in sections
        if section.scenario == "offline" and section.floor is not None
    ]
    quick = all_suites()["quick"]
    return max(
        candidates,
        key=lambda section: (
            section.task["name"] in quick.tasks,
            section.roles["reference"] == quick.reference,
            not section.on_gpu,
            section.started,
        ),
        default=None,
    )


def format_section(section: Section) -> str:
    """Return the table of a section's systems, without operating points and further seeds."""
    pace = get_pace(section.rows)
    rows = sorted(section.system_rows, key=lambda row: (not row.qualified, pace(row)))
    table: Table = "offline" if section.scenario == "offline" else "latency"
    columns = section.get_headings(find_columns(table, rows))
    return format_rows([(row.is_control, _format_line(row, columns)) for row in rows])


def _format_line(row: Row, columns: Mapping[str, Column]) -> dict[str, str]:
    line = {heading: column.text(row) for heading, column in columns.items()}
    is_failed = "score" in line and (row.record.failure or not row.record.score)
    return line | ({"score": "failed"} if is_failed else {})


def find_notes(section: Section) -> list[str]:
    """Return the notes on a section: failures, newer and stale rows, audits, and warnings about
    its figures.
    """
    notes = [
        f"{row.name} failed: {row.record.failure['reason']}"
        for row in section.rows
        if row.record.failure
    ]
    for row in section.system_rows:
        if row.failed_probes:
            probes = (row.audit or {})["probes"]
            results = "; ".join(f"{probe}: {probes[probe]}" for probe in row.failed_probes)
            notes.append(f"{row.name} failed its audit and is not ranked: {results}")
    passed = [row.name for row in section.system_rows if row.audit and not row.failed_probes]
    if passed:
        notes.append(f"Passed the audit: {', '.join(passed)}")
    if len(section.sessions) > 1:
        notes.append(_describe_ranking(section.variation))
    notes += [*find_newer_rows(section), *find_stale_rows(section)]
    return notes + find_warnings(section)


def _describe_ranking(variation: SessionVariation) -> str:
    """Return how rows of different sessions are ranked."""
    origin = "until there are enough repeats to estimate it"
    if variation.sessions:
        origin = (
            f"estimated from {variation.repeats} speed-ups of the same code in "
            f"{variation.sessions} sessions"
        )
    return (
        "The rows are of several sessions, and each speed-up is that of its own session. A system "
        "counts as faster than one of another session only if its speed-up is larger by more than "
        f"chance and by a factor of more than {format_number(variation.factor)}, by which sessions "
        f"of the same code differ ({origin})."
    )


def describe_floor(section: Section) -> str:
    """Return the quality floor of a section in words."""
    floors = section.floors
    if not floors:
        return (
            "The reference is not significantly above the majority class, so the systems are "
            "listed and not ranked."
        )
    if len(floors) == 1:
        return f"The quality floor is {floors[0]:.4f}."
    return f"The quality floor is that of each row's session, {floors[0]:.4f} to {floors[-1]:.4f}."


def below_floor_note(section: Section, row: Row) -> str:
    """Return a note to append to a score that is below the quality floor, else ''."""
    return "" if row.qualified or section.floor is None else " below the floor"
