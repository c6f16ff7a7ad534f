"""The leaderboard as a data frame, and its overview in one table."""

import json
from collections.abc import Sequence

import pandas

from harness.leaderboard.columns import CSV_COLUMNS, find_columns, get_figures
from harness.leaderboard.formatting import (
    escape_cell,
    format_rows,
    format_score,
    round_figure,
)
from harness.leaderboard.ranking import Section
from harness.leaderboard.row import Row
from harness.leaderboard.suites import find_measured_suites, format_suite_table
from harness.leaderboard.warnings import find_newer_rows, find_warnings


def build_frame(sections: Sequence[Section]) -> pandas.DataFrame:
    """Return plain numbers: a line for each machine, configuration, task, scenario and system."""
    lines = []
    for section in sections:
        for row in section.rows:
            lines.append(get_figures(row))
    frame = pandas.DataFrame(lines, columns=list(CSV_COLUMNS))
    for name in ("rank", "rounds", "parameters"):
        frame[name] = frame[name].astype("Int64")
    round_columns(frame)
    return frame


def render_json(frame: pandas.DataFrame) -> str:
    """Return a frame as JSON, with all digits of its numbers and null for unknown values."""
    known = frame.astype(object).where(frame.notna(), None)
    return json.dumps(known.to_dict("records"), indent=1, separators=(",", ":")) + "\n"


def round_columns(frame: pandas.DataFrame) -> None:
    """Round the columns of floating-point numbers to the digits of the CSV files, in place."""
    for name in frame.select_dtypes("float"):
        frame[name] = [round_figure(value) for value in frame[name]]


def format_summary(sections: Sequence[Section]) -> str:
    """Return the sections that the latest session is part of in Markdown, with its warnings.

    The rows of that session stand among those of earlier ones.
    """
    _, latest = max((section.started, section.session) for section in sections)
    updated = [section for section in sections if section.session == latest]
    parts = [
        f"{section.task['name']}, {section.configuration['name']}\n\n"
        f"{format_overview(sections, section)}"
        for section in updated
        if section.scenario == "offline"
    ]
    parts += [
        f"{measured.heading}\n\n{format_suite_table(measured)}"
        for measured in find_measured_suites(sections)
        if any(section.session == latest for section in measured.sections)
    ]
    scenarios: dict[str, list[str]] = {}
    for section in updated:
        for text in [*find_newer_rows(section), *find_warnings(section.split_sessions()[0])]:
            scenarios.setdefault(text, []).append(section.scenario)
    warnings = [
        f"- warning: {', '.join(dict.fromkeys(names))}: {text}" for text, names in scenarios.items()
    ]
    return "\n\n".join([*parts, *(["\n".join(warnings)] if warnings else [])])


def format_overview(sections: Sequence[Section], offline: Section, short: bool = False) -> str:
    """Return all divisions of one offline section in one table.

    Args:
        sections: the sections of the board; `single_stream` of the same place adds the latency, to
            each row that of its own session.
        offline: the section that is shown.
        short: show only systems above the quality floor, and fewer columns.
    """
    single_stream = {
        (row.record.session, row.name): row
        for section in sections
        if section.scenario == "single_stream" and section.place == offline.place
        for row in section.rows
    }
    rows = sorted(offline.system_rows, key=_fastest_qualified_first)
    if short:
        rows = [row for row in rows if row.qualified and not row.is_control]
    columns = offline.get_headings(
        column
        for column in find_columns(
            "summary" if short else "overview", rows, ("offline", "single_stream")
        )
        if len(offline.sessions) > 1 or column.key not in ("session", "date")
    )
    lines = []
    for row in rows:
        failure = row.record.failure
        score = f"failed: {failure['reason']}"[:60] if failure else format_score(row.record)
        line = {
            "system": row.name,
            "division": row.record.system["division"],
            "score": score,
        }
        for heading, column in columns.items():
            latency = single_stream.get((row.record.session, row.name))
            shown = row if "offline" in column.scenarios else latency
            line[heading] = column.text(shown) if shown else "-"
        line = {heading: escape_cell(text) for heading, text in line.items()}
        lines.append((row.is_control, line))
    return format_rows(lines)


def _fastest_qualified_first(row: Row) -> tuple[bool, float]:
    return not row.qualified, -(row.speedup.value if row.speedup else 0.0)
