"""Energy report: the energy of answering a whole evaluation set, and its provenance.

As in the SustaiNLP 2020 shared task (Wang & Wolf 2020).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, median
from typing import Any

import pandas

from harness.errors import HarnessError
from harness.leaderboard.columns import find_columns, get_column
from harness.leaderboard.commands import rerun_command, write_session_command
from harness.leaderboard.formatting import (
    escape_cell,
    format_fingerprint,
    format_interval,
    format_number,
    format_rows,
    shorten_session,
)
from harness.leaderboard.ranking import Section, is_of_one_session, ratio_within_blocks
from harness.leaderboard.row import Row, get_watt_hours, is_energy_measured
from harness.leaderboard.suites import find_measured_suites
from harness.leaderboard.tables import round_columns
from harness.leaderboard.template import render_template
from harness.leaderboard.warnings import find_caveats
from harness.results.statistics import Interval


@dataclass(frozen=True)
class EnergyEntry:
    """The energy of one system on one task.

    Attributes:
        row: the row of the leaderboard.
        examples: the number of examples of the evaluation set.
        load_kwh: the energy of loading the model once.
        kwh: the energy of answering the whole set.
        seconds: the time of answering the whole set.
        co2_g: the CO2 of answering the whole set, in grams.
        shares: the share of each component (`cpu`, `ram`, `gpu`) in the energy; None if unknown.
        reduction: the reference's energy (CPU time where energy is modelled) divided by the
            system's.
    """

    row: Row
    examples: int
    load_kwh: float
    kwh: float
    seconds: float
    co2_g: float
    shares: dict[str, float | None]
    reduction: Interval | None

    @property
    def watts(self) -> float:
        """The mean power while answering."""
        return self.kwh * 3.6e6 / self.seconds

    @property
    def total_kwh(self) -> float:
        """The energy of loading and answering."""
        return self.load_kwh + self.kwh

    def columns(self) -> dict[str, Any]:
        """Return the figures by CSV column."""
        record, reduction = self.row.record, self.reduction
        return {
            "system": self.row.name,
            "division": record.system["division"],
            "task": record.task["name"],
            "configuration": record.configuration["name"],
            "examples": self.examples,
            "score": self.row.score,
            "load_kwh": self.load_kwh,
            "answer_kwh": self.kwh,
            "total_kwh": self.total_kwh,
            "mean_watts": self.watts,
            "seconds": self.seconds,
            "co2_g": self.co2_g,
            **{f"{name}_share": value for name, value in self.shares.items()},
            "energy_source": record.energy["source"],
            "reduction_of": _name_quantity(is_energy_measured(record)),
            "reduction": reduction and reduction.value,
            "reduction_low": reduction and reduction.low,
            "reduction_high": reduction and reduction.high,
            "session": record.session,
            "command": rerun_command(self.row),
            **{column.key: column.value(self.row) for column in find_columns("energy", [self.row])},
        }


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


def render_energy_files(sections: Sequence[Section]) -> dict[str, str]:
    """Return the energy report as Markdown and as CSV, by file name; empty without figures."""
    by_section = _collect_entries(sections)
    if not by_section:
        return {}
    return {
        "energy-report.md": _render_markdown(by_section),
        "energy-report.csv": _render_csv(by_section),
    }


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
    suites = find_measured_suites([section for section, _ in by_section])
    return render_template(
        "reports/energy.md.j2",
        totals={
            complete.heading: _format_totals(complete.sections)
            for complete in suites
            if complete.on_one_machine
        },
        parts=[_describe_section(*pair) for pair in by_section],
    )


def energy_entries(section: Section) -> list[EnergyEntry]:
    """Return the entries of an offline section's systems with known energy, the lowest first and
    controls last.
    """
    rows = [
        row
        for row in section.system_rows
        if row.measured and row.scored and get_column("energy_wh_per_1k").value(row) is not None
    ]
    entries = [_compute_entry(row) for row in rows]
    return sorted(entries, key=lambda entry: (entry.row.is_control, entry.kwh, entry.row.name))


def _compute_entry(row: Row) -> EnergyEntry:
    record = row.record
    seconds, watt_hours = row.full_set_cost()
    energy = row.energy_per_1k
    total = energy["energy_wh_per_1k"] or 1.0
    shares = {}
    for name in ("cpu", "ram", "gpu"):
        component = energy[f"{name}_wh_per_1k"]
        shares[name] = None if component is None else component / total
    return EnergyEntry(
        row=row,
        examples=int((record.score or {})["examples"]),
        load_kwh=median(window.load_wh for window in record.rounds) / 1000,
        kwh=watt_hours / 1000,
        seconds=seconds,
        co2_g=watt_hours / 1000 * record.configuration["grams_co2_per_kwh"],
        shares=shares,
        reduction=_compute_reduction(row.references.get("reference"), row),
    )


def _compute_reduction(reference: Row | None, row: Row) -> Interval | None:
    """The reference's energy over the row's within blocks; CPU time where energy is modelled."""
    if reference is None or reference is row:
        return None
    before, after = _use_per_example(reference), _use_per_example(row)
    blocks = set(before) & set(after)
    if not all(before[block] > 0 and after[block] > 0 for block in blocks):
        return None
    return ratio_within_blocks(before, after)


def _use_per_example(row: Row) -> dict[int, float]:
    """Wh per example by block; CPU-seconds where energy is modelled."""
    if not is_energy_measured(row.record):
        return {window.block: window.cpu_seconds / window.examples for window in row.rounds}
    return {
        window.block: sum(get_watt_hours(window.energy)) / window.examples for window in row.rounds
    }


def _name_quantity(measured: bool) -> str:
    return "energy" if measured else "CPU time"


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
                f"{_name_quantity(measured)} reduction": format_interval(entry.reduction),
                **({} if is_one else {"session": shorten_session(entry.row.record.session)}),
            },
        )
        for entry in entries
    ]
    return format_rows(lines, style)


def _format_totals(sections: Sequence[Section]) -> str:
    """The sums over a suite's tasks, of the systems that have an entry for each."""
    by_name: dict[str, list[EnergyEntry]] = {}
    for section in sections:
        for entry in energy_entries(section):
            by_name.setdefault(entry.row.name, []).append(entry)
    complete = {name: rows for name, rows in by_name.items() if len(rows) == len(sections)}
    measured = all(is_energy_measured(row.record) for section in sections for row in section.rows)
    sums = {name: _sum_costs(entries, measured) for name, entries in complete.items()}
    lines = []
    for name in sorted(complete, key=lambda name: (sums[name], name)):
        entries = complete[name]
        references = [
            _compute_entry(reference)
            for entry in entries
            if (reference := entry.row.references.get("reference"))
        ]
        reduction = "-"
        if len(references) == len(entries) and sums[name]:
            reduction = f"{format_number(_sum_costs(references, measured) / sums[name])}x"
        lines.append(
            (
                all(entry.row.is_control for entry in entries),
                {
                    "system": escape_cell(name),
                    "mean score": f"{mean(entry.row.score for entry in entries):.4f}",
                    "examples": str(sum(entry.examples for entry in entries)),
                    "kWh": format_number(sum(entry.total_kwh for entry in entries)),
                    "seconds": format_number(sum(entry.seconds for entry in entries)),
                    "g CO2": format_number(sum(entry.co2_g for entry in entries)),
                    f"{_name_quantity(measured)} reduction": reduction,
                },
            )
        )
    return format_rows(lines)


def _sum_costs(entries: Sequence[EnergyEntry], measured: bool) -> float:
    """The kWh of loading and answering all sets; where energy is modelled, the CPU-seconds of
    answering them.
    """
    if measured:
        return sum(entry.total_kwh for entry in entries)
    total = 0.0
    for entry in entries:
        cpu_seconds = [window.cpu_seconds for window in entry.row.rounds]
        total += entry.examples / 1000 * entry.row.per_1k(cpu_seconds)
    return total


def _render_latex(section: Section, entries: Sequence[EnergyEntry]) -> str:
    """A table for a paper (package `booktabs`); the caption says where the figures come from."""
    caption = (
        f"{section.task['name']}, {entries[0].examples} examples on "
        f"{section.configuration['name']} ({section.machine}). Energy is {section.energy_source}. "
        f"Session{'s' * (len(section.sessions) > 1)} {', '.join(section.sessions)}."
    )
    for special in "_%&#$":
        caption = caption.replace(special, f"\\{special}")
    table = _format_table(entries, "latex_booktabs")
    return "\n".join(
        ["\\begin{table}", "\\centering", table, f"\\caption{{{caption}}}", "\\end{table}"]
    )
