"""Energy report: the energy of answering a whole evaluation set, and its provenance.

As in the SustaiNLP 2020 shared task (Wang & Wolf 2020).
"""

from collections.abc import Sequence

import pandas

from harness.errors import HarnessError
from harness.leaderboard.columns import find_columns
from harness.leaderboard.commands import write_session_command
from harness.leaderboard.formatting import (
    escape_cell,
    format_fingerprint,
    format_interval,
    format_number,
    format_rows,
    shorten_session,
)
from harness.leaderboard.plots import draw_reductions
from harness.leaderboard.ranking import Section, is_of_one_session
from harness.leaderboard.row import is_energy_measured
from harness.leaderboard.suites import MeasuredSuite, find_measured_suites
from harness.leaderboard.tables import round_columns
from harness.leaderboard.template import render_template
from harness.leaderboard.warnings import find_caveats
from harness.reports.energy_entries import EnergyEntry, energy_entries, name_quantity
from harness.reports.energy_suite import (
    PUBLISHED_REDUCTION,
    collect_suite_entries,
    format_by_task,
    format_totals,
    render_suite_csv,
)
from harness.tasks.suites import Suite


def render_energy_report(sections: Sequence[Section], style: str, task: str = "") -> str:
    """Return the energy report.

    Args:
        sections: the sections of the board.
        style: `md`, `csv` or `latex`.
        task: show only this task.

    Raises:
        HarnessError: there is nothing to report.
    """
    by_section = _collect_entries(sections, task)
    if not by_section:
        raise HarnessError(
            f"no record has the energy of offline answers{' on ' + task if task else ''}. Run: "
            "wattbench bench"
        )
    if style == "csv":
        return _render_csv(by_section)
    if style == "latex":
        return "\n\n".join(_render_latex(*pair) for pair in by_section) + "\n"
    return _render_markdown(by_section)


def render_suite_report(sections: Sequence[Section], style: str, suite: Suite) -> str:
    """Return the energy report of a suite alone: the sums over its tasks.

    Args:
        sections: the sections of the board.
        style: `md`, `csv` or `latex`.
        suite: the suite.

    Raises:
        HarnessError: at least half of its tasks have not been measured on one machine.
    """
    measured = [item for item in _find_suites(sections) if item.suite.name == suite.name]
    if not measured:
        raise HarnessError(
            f"no machine has records of half of the tasks of {suite.name} against one reference. "
            f"Run: wattbench bench --suite {suite.name}"
        )
    if style == "csv":
        return render_suite_csv(measured)
    if style == "latex":
        return "\n\n".join(map(_render_suite_latex, measured)) + "\n"
    return render_template("reports/energy_suite.md.j2", suites=map(_describe_suite, measured))


def render_energy_files(sections: Sequence[Section]) -> dict[str, str]:
    """Return the energy report as Markdown and as CSV, that of suites as CSV and as a picture, by
    file name; what has no figures is left out.
    """
    by_section = _collect_entries(sections)
    if not by_section:
        return {}
    files = {
        "energy-report.md": _render_markdown(by_section),
        "energy-report.csv": _render_csv(by_section),
    }
    if measured := _find_suites([section for section, _ in by_section]):
        files["energy-suites.csv"] = render_suite_csv(measured)
        # the one with most tasks, and the latest of these
        drawn = max(measured, key=lambda item: (len(item.suite.tasks), item.sections[-1].started))
        files["energy-suite.svg"] = _draw_suite(drawn)
    return files


SectionEntries = Sequence[tuple[Section, list[EnergyEntry]]]


def _collect_entries(sections: Sequence[Section], task: str = "") -> SectionEntries:
    """Return the offline sections that have entries, those with measured energy first."""
    offline = [
        section
        for section in sections
        if section.scenario == "offline" and task in ("", section.task["name"])
    ]
    offline.sort(key=lambda section: not is_energy_measured(section.rows[0].record))
    pairs = [(section, energy_entries(section)) for section in offline]
    return [pair for pair in pairs if pair[1]]


def _render_markdown(by_section: SectionEntries) -> str:
    suites = _find_suites([section for section, _ in by_section])
    return render_template(
        "reports/energy.md.j2",
        suites=[_describe_suite(measured) for measured in suites],
        parts=[_describe_section(*pair) for pair in by_section],
    )


def _find_suites(sections: Sequence[Section]) -> list[MeasuredSuite]:
    """Return the suites whose energy can be added up: those of one machine."""
    return [measured for measured in find_measured_suites(sections) if measured.on_one_machine]


def _describe_suite(measured: MeasuredSuite) -> dict[str, object]:
    """Return what the template shows of a suite."""
    entries = collect_suite_entries(measured)
    return {
        "heading": measured.heading,
        "missing": measured.describe_missing(),
        "totals": format_totals(entries),
        "by_task": format_by_task(entries),
        "published": PUBLISHED_REDUCTION,
    }


def _draw_suite(measured: MeasuredSuite) -> str:
    """Return an SVG of the mean score against the reduction."""
    entries = [entry for entry in collect_suite_entries(measured) if not entry.is_control]
    quantity = name_quantity(all(entry.is_measured for entry in entries))
    points = {
        entry.name: (entry.division, entry.reduction.value if entry.reduction else 1.0, entry.score)
        for entry in entries
    }
    label = f"{quantity} reduction over {measured.reference}, {measured.suite.name}"
    return draw_reductions(points, label, PUBLISHED_REDUCTION, "Kim & Hassan (2020)")


def _render_suite_latex(measured: MeasuredSuite) -> str:
    """The two tables of a suite for a paper (package `booktabs`)."""
    entries = collect_suite_entries(measured)
    low, high = PUBLISHED_REDUCTION
    caption = (
        f"{measured.heading}. {measured.describe_missing()} Energy is "
        f"{measured.sections[0].energy_source}. Kim & Hassan (2020) report {low}x to {high}x."
    )
    return "\n\n".join(
        _wrap_latex(table, text)
        for table, text in (
            (format_totals(entries, "latex_booktabs"), caption),
            (format_by_task(entries, "latex_booktabs"), f"{measured.heading}: each task."),
        )
    )


def _render_csv(by_section: SectionEntries) -> str:
    frame = pandas.DataFrame([entry.columns() for _, entries in by_section for entry in entries])
    round_columns(frame)
    text: str = frame.to_csv(index=False, lineterminator="\n")
    return text


def _describe_section(section: Section, entries: Sequence[EnergyEntry]) -> dict[str, object]:
    """Return what the template shows of a section."""
    return {
        "section": section,
        "sessions": [_describe_session(part) for part in section.split_sessions()],
        "examples": entries[0].examples,
        "table": _format_table(entries),
        "caveats": find_caveats(section),
    }


def _describe_session(section: Section) -> dict[str, str]:
    """Return what the template shows of one session of a section."""
    record, machine = section.latest.record, section.fingerprint
    return {
        "name": section.session,
        "started": section.started,
        "machine": f"{format_fingerprint(machine)}; {', '.join(machine['flags'])}",
        "software": ", ".join(f"{name} {text}" for name, text in record.software.items()),
        "command": write_session_command(section, has_server=False),
    }


def _format_table(entries: Sequence[EnergyEntry], style: str = "github") -> str:
    measured = all(is_energy_measured(entry.row.record) for entry in entries)
    columns = find_columns("energy", [entry.row for entry in entries])
    is_one = is_of_one_session([entry.row for entry in entries])
    lines = [
        (
            entry.row.is_control,
            {
                "system": escape_cell(entry.row.name) if style == "github" else entry.row.name,
                "score": f"{entry.row.score:.4f}",
                "answering kWh": format_number(entry.kwh),
                "loading kWh": format_number(entry.load_kwh),
                "mean W": format_number(entry.watts),
                "seconds": format_number(entry.seconds),
                "g CO2": format_number(entry.co2_g),
                **{
                    column.heading(entry.row.record, measured): column.text(entry.row)
                    for column in columns
                },
                "CPU / RAM / GPU": " / ".join(
                    "-" if share is None else f"{share:.0%}" for share in entry.shares.values()
                ),
                f"{name_quantity(measured)} reduction": format_interval(entry.reduction),
                **({} if is_one else {"session": shorten_session(entry.row.record.session)}),
            },
        )
        for entry in entries
    ]
    return format_rows(lines, style)


def _render_latex(section: Section, entries: Sequence[EnergyEntry]) -> str:
    """A table for a paper (package `booktabs`); the caption says where the figures come from."""
    caption = (
        f"{section.task['name']}, {entries[0].examples} examples on "
        f"{section.configuration['name']} ({section.machine}). Energy is {section.energy_source}. "
        f"Session{'s' * (len(section.sessions) > 1)} {', '.join(section.sessions)}."
    )
    return _wrap_latex(_format_table(entries, "latex_booktabs"), caption)


def _wrap_latex(table: str, caption: str) -> str:
    """Return a table with its caption, whose special characters are escaped."""
    for special in "_%&#$":
        caption = caption.replace(special, f"\\{special}")
    return "\n".join(
        ["\\begin{table}", "\\centering", table, f"\\caption{{{caption}}}", "\\end{table}"]
    )
