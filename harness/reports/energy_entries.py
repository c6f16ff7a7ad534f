"""The energy of answering a whole evaluation set, of each system of a section."""

from dataclasses import dataclass
from statistics import median
from typing import Any

from harness.leaderboard.columns import find_columns, get_column
from harness.leaderboard.commands import rerun_command
from harness.leaderboard.ranking import Section, ratio_within_blocks
from harness.leaderboard.row import Row, get_watt_hours, is_energy_measured
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
            "reduction_of": name_quantity(is_energy_measured(record)),
            "reduction": reduction and reduction.value,
            "reduction_low": reduction and reduction.low,
            "reduction_high": reduction and reduction.high,
            "session": record.session,
            "command": rerun_command(self.row),
            **{column.key: column.value(self.row) for column in find_columns("energy", [self.row])},
        }


def energy_entries(section: Section) -> list[EnergyEntry]:
    """Return the entries of an offline section's systems with known energy, the lowest first and
    controls last.
    """
    rows = [
        row
        for row in section.system_rows
        if row.measured and row.scored and get_column("energy_wh_per_1k").value(row) is not None
    ]
    entries = [compute_entry(row) for row in rows]
    return sorted(entries, key=lambda entry: (entry.row.is_control, entry.kwh, entry.row.name))


def compute_entry(row: Row) -> EnergyEntry:
    """Return the entry of a row with known energy."""
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
    before, after = compute_use_per_example(reference), compute_use_per_example(row)
    blocks = set(before) & set(after)
    if not all(before[block] > 0 and after[block] > 0 for block in blocks):
        return None
    return ratio_within_blocks(before, after)


def compute_use_per_example(row: Row) -> dict[int, float]:
    """Wh per example by block; CPU-seconds where energy is modelled."""
    if not is_energy_measured(row.record):
        return {window.block: window.cpu_seconds / window.examples for window in row.rounds}
    return {
        window.block: sum(get_watt_hours(window.energy)) / window.examples for window in row.rounds
    }


def name_quantity(measured: bool) -> str:
    """Return what a reduction is of."""
    return "energy" if measured else "CPU time"
