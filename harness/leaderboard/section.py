"""The tables of one section in Markdown."""

from collections.abc import Mapping, Sequence

from harness.leaderboard.column import Column
from harness.leaderboard.columns import find_columns
from harness.leaderboard.formatting import (
    escape_cell,
    format_number,
    format_scenario,
    format_table,
)
from harness.leaderboard.ranking import Section
from harness.leaderboard.row import Row
from harness.leaderboard.warnings import find_warnings

DIVISION_HEADINGS = {
    "closed": "Closed division: the reference's own weights, only executed differently",
    "open": "Open division",
    "baseline": "Baselines",
}


def render_section(section: Section) -> str:
    """Return the Markdown of a section: one table per division, further tables, and notes."""
    floor = (
        f"The quality floor is {section.floor:.4f}."
        if section.floor is not None
        else "The reference is not above the majority class, so no system is ranked."
    )
    parts = [
        f"### {format_scenario(section.scenario)}",
        "",
        f"Energy is {section.energy_source or 'not known'}. {floor}",
        "",
    ]
    for division, heading in DIVISION_HEADINGS.items():
        rows = [row for row in section.system_rows if row.record.system["division"] == division]
        if rows:
            parts += [f"**{heading}**", "", _format_division_table(section, rows), ""]
    if any(row.exit_shares for row in section.rows):
        parts += ["**Early exits**", "", _format_exits_table(section), ""]
    if any(row.seed_rows for row in section.system_rows):
        parts += ["**Training seeds**", "", _format_seeds_table(section), ""]
    if section.scenario == "offline":
        parts += ["**Cost of building, storing and loading**", "", _format_cost_table(section), ""]
    parts += _describe_failures(section)
    if warnings := find_warnings(section):
        parts += ["*Notes on these figures:*", "", *(f"- {escape_cell(text)}" for text in warnings)]
    return "\n".join(parts).rstrip()


def _describe_failures(section: Section) -> list[str]:
    """List the systems that failed, and those that failed or passed an audit."""
    lines = [
        f"- **{row.name} failed**: {escape_cell(row.record.failure['reason'])}"
        for row in section.rows
        if row.record.failure
    ]
    for row in section.system_rows:
        if row.failed_probes:
            probes = (row.record.audit or {})["probes"]
            results = "; ".join(f"{probe}: {probes[probe]}" for probe in row.failed_probes)
            failed = f"**{row.name} failed its audit** and is not ranked"
            lines.append(f"- {failed}: {escape_cell(results)}")
    passed = [row.name for row in section.system_rows if row.record.audit and not row.failed_probes]
    if passed:
        lines.append(f"- Passed the audit: {', '.join(map(escape_cell, passed))}")
    return lines


def _format_division_table(section: Section, rows: Sequence[Row]) -> str:
    columns = section.get_headings(find_columns("division", rows))
    return format_table([_format_line(row, columns) for row in rows])


def _format_line(row: Row, columns: Mapping[str, Column]) -> dict[str, str]:
    line = {"rank": str(row.rank or "-"), "system": f"[{escape_cell(row.name)}]({row.record_link})"}
    if row.record.failure or not row.record.score:
        return line | {"score": "failed"}
    return line | {heading: column.text(row) for heading, column in columns.items()}


def _format_cost_table(section: Section) -> str:
    """The cost of building and loading, the size of the artifact, and the CO2 of answering."""
    rows = sorted(section.system_rows, key=lambda row: row.name)
    columns = section.get_headings(find_columns("cost", rows))
    return format_table(
        [
            {"system": escape_cell(row.name)}
            | {heading: column.text(row) for heading, column in columns.items()}
            for row in rows
        ]
    )


def _format_seeds_table(section: Section) -> str:
    """The variation of scores over training seeds."""
    lines = []
    for row in section.system_rows:
        if not row.seed_scores:
            continue
        average, deviation = row.seed_scores
        scores = [seed_row.score for seed_row in row.seed_rows if seed_row.scored]
        rates = [seed_row.throughput for seed_row in row.seed_rows if seed_row.measured]
        lines.append(
            {
                "system": escape_cell(row.name),
                "seeds": str(len(scores)),
                "mean score": f"{average:.4f}",
                "standard deviation": f"{deviation:.4f}",
                "scores": " / ".join(f"{score:.4f}" for score in scores),
                "examples/s": " / ".join(map(format_number, rates)),
            }
        )
    return format_table(lines)


def _format_exits_table(section: Section) -> str:
    """Each system with early exits and its operating points, from the slowest to the fastest."""
    rows = [row for row in section.rows if row.exit_shares and row.measured and row.seed is None]
    rows.sort(key=lambda row: (row.base_name, row.throughput))
    columns = section.get_headings(find_columns("exits", rows))
    lines = [
        {
            "system": escape_cell(row.base_name),
            "operating point": escape_cell(row.point) or "-",
            "threshold": str(row.record.system["serve"].get("threshold", "tuned")),
            **{heading: column.text(row) for heading, column in columns.items()},
        }
        for row in rows
    ]
    return format_table(lines)


def below_floor_note(section: Section, row: Row) -> str:
    """Return a note to append to a score that is below the quality floor, else ''."""
    return "" if row.qualified or section.floor is None else " below the floor"
