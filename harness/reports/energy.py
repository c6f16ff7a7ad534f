"""The energy report: what it takes each system to answer a whole evaluation set, as the SustaiNLP
2020 shared task asked (Wang & Wolf 2020), with where each figure comes from.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, median
from typing import Any

import pandas
from tabulate import tabulate

from harness.errors import HarnessError
from harness.leaderboard.formatting import cell, interval, number
from harness.leaderboard.ranking import Section
from harness.leaderboard.row import Row, again, energy_measured
from harness.leaderboard.suites import whole
from harness.results import statistics
from harness.results.statistics import Interval

INTRODUCTION = """# Energy report

How much energy it takes to answer a whole evaluation set, everything at once (`offline`), after the
SustaiNLP 2020 shared task. Loading the model is listed apart: it is paid once. Drawn from the
records by `wattbench report energy`; `--format csv` and `--format latex` give the same for a
spreadsheet and a paper.

Watt-hours are *measured* only where RAPL or NVML counters were read. Else they are *modelled*, the
configuration's watts for each busy core times CPU-seconds; a reduction is then one of CPU time, and
no energy saving is claimed. RAM and GPU have a share where they are known. CO2 is energy times the
carbon intensity of the configuration's country."""


@dataclass(frozen=True)
class Entry:
    """One system on one task: examples, loading and answering in kWh, seconds, mean watts, grams of
    CO2, shares of the energy by component, and the reduction against the reference.
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
        """On average while it answers."""
        return self.kwh * 3.6e6 / self.seconds

    def columns(self) -> dict[str, Any]:
        """Plain numbers, as the CSV has them."""
        it, least = self.row.record, self.reduction
        return {
            "system": self.row.name,
            "division": it.system["division"],
            "task": it.task["name"],
            "configuration": it.configuration["name"],
            "examples": self.examples,
            "score": (it.score or {})["value"],
            "load_kwh": self.load_kwh,
            "answer_kwh": self.kwh,
            "total_kwh": self.load_kwh + self.kwh,
            "mean_watts": self.watts,
            "seconds": self.seconds,
            "co2_g": self.co2_g,
            **{f"{name}_share": value for name, value in self.shares.items()},
            "energy_source": it.energy["source"],
            "reduction_of": "energy" if energy_measured(it) else "CPU time",
            "reduction": least and least.value,
            "reduction_low": least and least.low,
            "reduction_high": least and least.high,
            "session": it.session,
            "command": again(self.row),
        }


def energy_report(found: Sequence[Section], style: str, task: str = "") -> str:
    """The whole report. style: `md`, `csv` or `latex`. task: only this one.

    Raises: HarnessError if there is nothing to report.
    """
    found = [
        each for each in found if each.scenario == "offline" and task in ("", each.task["name"])
    ]
    entries = [(section, entries_of(section)) for section in found]
    if not any(each for _, each in entries):
        raise HarnessError(
            f"no record of offline answers{' on ' + task if task else ''} to report. Run: "
            "wattbench bench"
        )
    if style == "csv":
        lines = [entry.columns() for _, each in entries for entry in each]
        text = io.StringIO()
        table = pandas.DataFrame(lines)
        for column in table.select_dtypes("float"):
            table[column] = [float(f"{value:.6g}") for value in table[column]]
        table.to_csv(text, index=False, lineterminator="\n")
        return text.getvalue()
    if style == "latex":
        return "\n\n".join(_latex(section, each) for section, each in entries if each) + "\n"
    parts = [INTRODUCTION]
    for head, members in whole(found).items():
        parts += [f"## {head}", TOTALS, _totals(members, "github")]
    for section, each in entries:
        if each:
            parts += [*_head(section, each), _table(each, "github")]
    return "\n\n".join(parts) + "\n"


def entries_of(section: Section) -> list[Entry]:
    """Each system of an offline section, the most frugal first."""
    rows = [
        row
        for row in section.systems
        if row.measured and row.scored and row.columns()["energy_wh_per_1k"] is not None
    ]
    by_name = {row.name: row for row in rows}
    reference = by_name.get(section.rows[0].record.roles["reference"])
    found = [_entry(row, reference) for row in rows]
    return sorted(found, key=lambda each: (each.kwh, each.row.name))


def _entry(row: Row, reference: Row | None) -> Entry:
    it = row.record
    seconds, watt_hours = row.whole_set()
    parts = row.energy_per_1k()
    total = parts["energy_wh_per_1k"] or 1.0
    shares = {}
    for name in ("cpu", "ram", "gpu"):
        part = parts[f"{name}_wh_per_1k"]
        shares[name] = None if part is None else part / total
    return Entry(
        row,
        int((it.score or {})["examples"]),
        median(each.load_wh for each in it.rounds) / 1000,
        watt_hours / 1000,
        seconds,
        watt_hours / 1000 * it.configuration["grams_co2_per_kwh"],
        shares,
        _reduction(reference, row),
    )


def _reduction(reference: Row | None, row: Row) -> Interval | None:
    """How many times less than the reference, block by block: energy where it is measured, else
    CPU time.
    """
    if reference is None or reference is row:
        return None
    sides = [_used(reference), _used(row)]
    shared = sorted(set(sides[0]) & set(sides[1]))
    if not shared or not all(side[block] > 0 for side in sides for block in shared):
        return None
    return statistics.ratio(*([side[block] for block in shared] for side in sides))


def _used(row: Row) -> dict[int, float]:
    """By block, for one example."""
    if not energy_measured(row.record):
        return {each.block: each.cpu_seconds / each.examples for each in row.rounds}
    return {
        each.block: sum(v for name, v in each.energy.items() if name.endswith("_wh"))
        / each.examples
        for each in row.rounds
    }


def _head(section: Section, entries: Sequence[Entry]) -> list[str]:
    it, machine, config = entries[0].row.record, section.fingerprint, section.configuration
    software = ", ".join(f"{name} {version}" for name, version in it.software.items())
    flags = ", ".join(machine["flags"])
    quota = f", quota {machine['quota']:g} cores" if machine["quota"] else ""
    return [
        f"## {section.task['name']} on {config['name']}, {section.machine}",
        f"{entries[0].examples} examples, session `{section.session}` of {section.started}. "
        f"Energy is {section.source}. Carbon intensity {config['grams_co2_per_kwh']:g} g/kWh "
        f"({config['country']}).",
        f"- Configuration `{config['name']}` ({config['hash']}): {config['title']}",
        f"- Machine: {machine['cpu']}, {machine['cores']} cores{quota}, {machine['memory_gb']:g} "
        f"GiB, {machine['system']} {machine['kernel']}, isolation: {machine['isolation']}; {flags}",
        f"- Software: {software}",
        f"- Command: `{again(entries[0].row).replace(f'--system {entries[0].row.name}', '--all')}`",
    ]


def _table(entries: Sequence[Entry], style: str) -> str:
    what = "energy" if all(energy_measured(each.row.record) for each in entries) else "CPU time"
    lines = [
        {
            "system": cell(each.row.name) if style == "github" else each.row.name,
            "score": f"{(each.row.record.score or {})['value']:.4f}",
            "kWh, answering": number(each.kwh),
            "kWh, loading": number(each.load_kwh),
            "mean W": number(each.watts),
            "seconds": number(each.seconds),
            "g CO2": number(each.co2_g),
            "CPU / RAM / GPU": " / ".join(
                "-" if value is None else f"{value:.0%}" for value in each.shares.values()
            ),
            f"{what}, times less": interval(each.reduction),
        }
        for each in entries
    ]
    return tabulate(lines, headers="keys", tablefmt=style, disable_numparse=True)


TOTALS = (
    "Sums over the suite's tasks, loading once for each, with the mean of the scores; how many "
    "times less the sum is than the reference's."
)


def _totals(members: Sequence[Section], style: str) -> str:
    by_name: dict[str, list[Entry]] = {}
    for section in members:
        for each in entries_of(section):
            by_name.setdefault(each.row.name, []).append(each)
    complete = {name: each for name, each in by_name.items() if len(each) == len(members)}
    roles = members[0].rows[0].record.roles
    measured = all(energy_measured(row.record) for section in members for row in section.rows)
    sums = {
        name: sum(each.load_kwh + each.kwh for each in own) if measured else _cpu_seconds(own)
        for name, own in complete.items()
    }
    standard = sums.get(roles["reference"], 0.0)
    head = f"{'energy' if measured else 'CPU time'}, times less"
    lines = []
    for name in sorted(complete, key=lambda name: (sums[name], name)):
        own = complete[name]
        lines.append(
            {
                "system": cell(name),
                "mean score": f"{mean((e.row.record.score or {})['value'] for e in own):.4f}",
                "examples": str(sum(each.examples for each in own)),
                "kWh": number(sum(each.load_kwh + each.kwh for each in own)),
                "seconds": number(sum(each.seconds for each in own)),
                "g CO2": number(sum(each.co2_g for each in own)),
                head: f"{number(standard / sums[name])}x" if standard and sums[name] else "-",
            }
        )
    return tabulate(lines, headers="keys", tablefmt=style, disable_numparse=True)


def _cpu_seconds(own: Sequence[Entry]) -> float:
    """To answer all the sets."""
    return sum(
        each.examples / 1000 * each.row.per_1k(one.cpu_seconds for one in each.row.rounds)
        for each in own
    )


def _latex(section: Section, entries: Sequence[Entry]) -> str:
    """A table for a paper (package `booktabs`), with where the figures come from in its caption."""
    body = _table(entries, "latex_booktabs")
    config = section.configuration
    caption = (
        f"{section.task['name']}, {entries[0].examples} examples on {config['name']} "
        f"({section.machine}). Energy is {section.source}. Session {section.session}."
    )
    for special in "_%&#$":
        caption = caption.replace(special, f"\\{special}")
    return "\n".join(
        ["\\begin{table}", "\\centering", body, f"\\caption{{{caption}}}", "\\end{table}"]
    )
