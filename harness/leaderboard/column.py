"""A column of the leaderboard: how a figure is computed, named and written."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from harness.leaderboard.formatting import format_number
from harness.leaderboard.row import Row, is_energy_measured
from harness.results.record import Record
from harness.results.record_parts import SCENARIOS

Table = Literal["offline", "latency", "overview", "summary", "page", "comparison", "card", "energy"]
"""A kind of table: all systems of an offline section, all systems of another section, a task's
overview, its short summary, the page, the comparison of two systems, the model card, and the energy
report."""


@dataclass(frozen=True)
class Column:
    """One figure of a row.

    Attributes:
        key: its name in CSV and JSON.
        compute: returns its value: a string, a number, a boolean, or None if it is not known.
        label: its heading in tables, with `{queries}` for what the scenario counts.
        note: what follows the label in brackets: `{energy}` for measured or modelled, `{country}`
            and `{grams}` for the carbon intensity.
        unit: in words, for axes.
        format: writes the value.
        cell: writes a cell that needs more than the value.
        better: whether a higher or a lower value is better; '' for neither.
        scenarios: the scenarios whose tables show it.
        tables: the kinds of tables that show it.
        timed: whether it needs timed windows; of a row without them it is None.
        hidden_if_unknown: whether a table without any value leaves it out.
        axis: whether the page offers it as an axis.
    """

    key: str
    compute: Callable[[Row], Any]
    label: str = ""
    note: str = ""
    unit: str = ""
    format: Callable[[Any], str] = format_number
    cell: Callable[[Row], str] | None = None
    better: Literal["higher", "lower", ""] = ""
    scenarios: tuple[str, ...] = SCENARIOS
    tables: tuple[Table, ...] = ()
    timed: bool = True
    hidden_if_unknown: bool = False
    axis: bool = False

    def value(self, row: Row) -> Any:
        """Return the value of a row; None if it is not known.

        It is computed once, so call this only after the row has been compared.
        """
        if self.key not in row.figures:
            is_known = row.measured or not self.timed
            row.figures[self.key] = self.compute(row) if is_known else None
        return row.figures[self.key]

    def heading(self, record: Record, energy_measured: bool | None = None) -> str:
        """Return the heading of the column in a table.

        Args:
            record: a record of the table; its scenario and configuration are used.
            energy_measured: whether the energy of all rows is measured (default: of this record).
        """
        measured = is_energy_measured(record) if energy_measured is None else energy_measured
        heading = f"{self.label} ({self.note})" if self.note else self.label
        return heading.format(
            queries="queries" if record.scenario == "server" else "examples",
            energy="measured" if measured else "modelled",
            country=record.configuration["country"],
            grams=f"{record.configuration['grams_co2_per_kwh']:.0f}",
        )

    def text(self, row: Row) -> str:
        """Return the cell of a row."""
        if self.timed and not row.measured:
            return "-"
        return self.cell(row) if self.cell else self.format(self.value(row))
