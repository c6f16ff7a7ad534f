"""Energy report over a suite: the sums over its tasks, in the manner of the SustaiNLP 2020 shared
task (Wang & Wolf 2020).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

import pandas

from harness.leaderboard.formatting import (
    escape_cell,
    format_interval,
    format_number,
    format_rows,
)
from harness.leaderboard.ranking import ratio_within_blocks
from harness.leaderboard.row import is_energy_measured
from harness.leaderboard.suites import MeasuredSuite
from harness.leaderboard.tables import round_columns
from harness.reports.energy_entries import (
    EnergyEntry,
    compute_entry,
    compute_use_per_example,
    energy_entries,
    name_quantity,
)
from harness.results.statistics import Interval

PUBLISHED_REDUCTION = (6.9, 125.8)
"""Smallest and largest reduction of energy that Kim & Hassan (2020, abstract) report for their
systems on SuperGLUE, relative to the baselines of the shared task."""


@dataclass(frozen=True)
class SuiteEntry:
    """The energy of one system on all measured tasks of a suite.

    Attributes:
        entries: one for each task, in order.
        references: those of the reference; None for one that was not measured.
        use: the use of the whole suite by block, see `_sum_use`.
        reduction: the reference's use divided by the system's; None for the reference itself.
    """

    entries: tuple[EnergyEntry, ...]
    references: tuple[EnergyEntry | None, ...]
    use: dict[int, float]
    reduction: Interval | None

    @property
    def name(self) -> str:
        """The name of the system."""
        return self.entries[0].row.name

    @property
    def division(self) -> str:
        """The division of the system."""
        return str(self.entries[0].row.record.system["division"])

    @property
    def is_control(self) -> bool:
        """Whether it is a control on every task."""
        return all(entry.row.is_control for entry in self.entries)

    @property
    def is_measured(self) -> bool:
        """Whether its energy is measured on every task."""
        return all(is_energy_measured(entry.row.record) for entry in self.entries)

    @property
    def score(self) -> float:
        """The mean of the scores."""
        return mean(entry.row.score for entry in self.entries)

    @property
    def differences(self) -> list[float | None]:
        """For each task the score minus the reference's."""
        return [
            None if reference is None else entry.row.score - reference.row.score
            for entry, reference in zip(self.entries, self.references, strict=True)
        ]

    @property
    def difference(self) -> float | None:
        """The mean of the differences; None if one is not known."""
        known = [difference for difference in self.differences if difference is not None]
        return mean(known) if len(known) == len(self.entries) else None

    @property
    def cpu_seconds(self) -> float:
        """CPU time of answering all evaluation sets."""
        return sum(_sum_cpu_seconds(entry) for entry in self.entries)


def collect_suite_entries(measured: MeasuredSuite) -> list[SuiteEntry]:
    """Return the systems that have an entry for each task, the lowest use first, controls last.

    Args:
        measured: a suite whose tasks were measured on one machine.
    """
    by_name: dict[str, list[EnergyEntry]] = {}
    for section in measured.sections:
        for entry in energy_entries(section):
            by_name.setdefault(entry.row.name, []).append(entry)
    entries = [
        _make_entry(entries)
        for entries in by_name.values()
        if len(entries) == len(measured.sections)
    ]
    entries = [entry for entry in entries if entry.use]
    return sorted(
        entries, key=lambda entry: (entry.is_control, mean(entry.use.values()), entry.name)
    )


def _make_entry(entries: Sequence[EnergyEntry]) -> SuiteEntry:
    rows = [entry.row.references.get("reference") for entry in entries]
    references = [None if row is None else compute_entry(row) for row in rows]
    known = [reference for reference in references if reference is not None]
    is_reference = all(row is entry.row for row, entry in zip(rows, entries, strict=True))
    use, reduction = _sum_use(entries), None
    if len(known) == len(entries) and not is_reference and all(use.values()):
        reduction = ratio_within_blocks(_sum_use(known), use)
    return SuiteEntry(tuple(entries), tuple(references), use, reduction)


def _sum_use(entries: Sequence[EnergyEntry]) -> dict[int, float]:
    """Return what the tasks need together, in each block that all have.

    It is the kWh of loading and answering; where energy is modelled, the CPU-seconds of answering.
    The blocks of tasks of different sessions are independent, so any may be added.
    """
    is_measured = all(is_energy_measured(entry.row.record) for entry in entries)
    by_block = [compute_use_per_example(entry.row) for entry in entries]
    blocks = set.intersection(*(set(use) for use in by_block))
    sums = dict.fromkeys(sorted(blocks), 0.0)
    for entry, use in zip(entries, by_block, strict=True):
        for block in sums:
            value = use[block] * entry.examples
            sums[block] += value / 1000 + entry.load_kwh if is_measured else value
    return sums


def _sum_cpu_seconds(entry: EnergyEntry) -> float:
    cpu_seconds = [window.cpu_seconds for window in entry.row.rounds]
    return entry.examples / 1000 * entry.row.per_1k(cpu_seconds)


def format_totals(entries: Sequence[SuiteEntry], style: str = "github") -> str:
    """Return the table of the sums over all tasks."""
    quantity = _name_quantity(entries)
    lines = []
    for entry in entries:
        line = {
            "system": _escape(entry.name, style),
            "mean score": f"{entry.score:.4f}",
            "difference": _format_difference(entry.difference),
            "examples": str(sum(part.examples for part in entry.entries)),
            "kWh": format_number(sum(part.total_kwh for part in entry.entries)),
            "CPU s": format_number(entry.cpu_seconds),
            "seconds": format_number(sum(part.seconds for part in entry.entries)),
            "g CO2": format_number(sum(map(_compute_co2_grams, entry.entries))),
            f"{quantity} reduction": format_interval(entry.reduction),
        }
        lines.append((entry.is_control, line))
    return format_rows(lines, style)


def _compute_co2_grams(entry: EnergyEntry) -> float:
    """Return the CO2 of loading and answering."""
    return entry.total_kwh * float(entry.row.record.configuration["grams_co2_per_kwh"])


def format_by_task(entries: Sequence[SuiteEntry], style: str = "github") -> str:
    """Return the table with the reduction and the score of each task."""
    lines = []
    for entry in entries:
        line = {"system": _escape(entry.name, style)}
        for part, difference in zip(entry.entries, entry.differences, strict=True):
            text = f"{part.row.score:.4f}"
            if part.reduction:
                factor = format_number(part.reduction.value)
                text = f"{factor}x, {text} ({_format_difference(difference)})"
            line[str(part.row.record.task["name"])] = text
        lines.append((entry.is_control, line))
    return format_rows(lines, style)


def render_suite_csv(measured: Sequence[MeasuredSuite]) -> str:
    """Return the figures of suites as CSV: a row for each system and task, and one for all."""
    rows: list[dict[str, Any]] = []
    for suite in measured:
        for entry in collect_suite_entries(suite):
            common = {
                "suite": suite.suite.name,
                "reference": suite.reference,
                "configuration": suite.sections[0].configuration["name"],
                "machine": suite.sections[0].machine,
                "system": entry.name,
                "division": entry.division,
                "reduction_of": _name_quantity([entry]),
            }
            parts = zip(entry.entries, entry.differences, strict=True)
            rows += [
                {
                    **common,
                    "task": part.row.record.task["name"],
                    "examples": part.examples,
                    "score": part.row.score,
                    "difference": difference,
                    "kwh": part.total_kwh,
                    "cpu_seconds": _sum_cpu_seconds(part),
                    **_get_bounds(part.reduction),
                    "session": part.row.record.session,
                }
                for part, difference in parts
            ]
            rows.append(
                {
                    **common,
                    "task": "all",
                    "examples": sum(part.examples for part in entry.entries),
                    "score": entry.score,
                    "difference": entry.difference,
                    "kwh": sum(part.total_kwh for part in entry.entries),
                    "cpu_seconds": entry.cpu_seconds,
                    **_get_bounds(entry.reduction),
                    "session": "",
                }
            )
    frame = pandas.DataFrame(rows)
    round_columns(frame)
    text: str = frame.to_csv(index=False, lineterminator="\n")
    return text


def _get_bounds(reduction: Interval | None) -> dict[str, float | None]:
    return {
        "reduction": reduction.value if reduction else None,
        "reduction_low": reduction.low if reduction else None,
        "reduction_high": reduction.high if reduction else None,
    }


def _name_quantity(entries: Sequence[SuiteEntry]) -> str:
    return name_quantity(all(entry.is_measured for entry in entries))


def _format_difference(difference: float | None) -> str:
    return "-" if difference is None else f"{difference:+.4f}"


def _escape(name: str, style: str) -> str:
    return escape_cell(name) if style == "github" else name
