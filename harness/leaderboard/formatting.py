"""How figures and tables are written."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tabulate import tabulate

from harness.results.record import Record
from harness.results.record_parts import MachinePart
from harness.results.statistics import Interval


def format_interval(interval: Interval | None) -> str:
    """Return a ratio with its 95% confidence interval, `12.3x [12.1, 12.5]`; a dash for None."""
    if interval is None:
        return "-"
    value = f"{format_number(interval.value)}x"
    if math.isnan(interval.low) or interval.low == interval.high:
        return value
    return f"{value} [{format_number(interval.low)}, {format_number(interval.high)}]"


def describe_ratio(interval: Interval | None) -> str:
    """Return a ratio for a sentence, which must not state an estimate that its interval does not
    support: `5.1x to 1,336x`.
    """
    if interval is None or not interval.is_wide:
        return format_interval(interval)
    if not interval.is_known:
        return f"{format_interval(interval)} (one block, without an interval)"
    return f"{format_number(interval.low)}x to {format_number(interval.high)}x"


def format_number(value: Any) -> str:
    """Return three significant digits with thousands separated; a dash for None."""
    if value is None:
        return "-"
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}" if digits <= 6 else f"{value:.2e}"


def format_break_even(requests: float | None) -> str:
    """Return the number of requests to break even, to two digits; `never` for infinity."""
    if requests == math.inf:
        return "never"
    return "-" if requests is None else f"{float(f'{requests:.2g}'):,.0f}"


def format_scenario(scenario: str) -> str:
    """Return a scenario's name as words: `single stream`."""
    return scenario.replace("_", " ")


def shorten_session(name: str) -> str:
    """Return the end of a session's name, by which commands find it too."""
    return name.rpartition("-")[2]


def format_fingerprint(machine: MachinePart) -> str:
    """Return a machine's hardware, system and isolation in one line."""
    quota = f", quota {machine['quota']:g} cores" if machine["quota"] else ""
    gpu = ""
    if device := machine.get("gpu"):
        gpu = f"{device['name']}, {device['memory_gb']:g} GiB, driver {device['driver']}; "
    return (
        f"{gpu}{machine['cpu']}, {machine['cores']} cores{quota}, {machine['memory_gb']:g} GiB, "
        f"{machine['system']} {machine['kernel']}, isolation: {machine['isolation']}"
    )


def round_figure(value: float) -> float:
    """Return a value rounded to the six significant digits of the CSV files and the page."""
    return float(f"{value:.6g}")


def format_table(
    lines: Iterable[Mapping[str, Any]] | Iterable[Sequence[Any]],
    style: str = "github",
    headings: str | Sequence[str] = "keys",
) -> str:
    """Return a table whose cells are written as they are.

    Args:
        lines: dicts from heading to cell, or sequences of cells.
        style: one of tabulate's formats.
        headings: of sequences of cells; dicts have their own.
    """
    return tabulate(lines, headers=headings, tablefmt=style, disable_numparse=True)


def format_rows(lines: Sequence[tuple[bool, Mapping[str, str]]], style: str = "github") -> str:
    """Return a table whose controls are last, below a line of their own.

    Args:
        lines: whether the line is of a control (`Row.is_control`), and its cells by heading.
        style: one of tabulate's formats.
    """
    systems = [line for is_control, line in lines if not is_control]
    controls = [line for is_control, line in lines if is_control]
    if systems and controls:
        systems.append({"system": "controls:"})
    return format_table([*systems, *controls], style)


def compact_table(table: str) -> str:
    """Return a Markdown table without the spaces that align its columns.

    It is shorter, and a changed cell changes only its own line.
    """
    return re.sub(r"(?<=\|)-+(?=\|)", "---", re.sub(" {2,}", " ", table))


def escape_cell(text: str) -> str:
    """Return a text that is safe in a cell of a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def format_score(record: Record) -> str:
    """Return the score with its standard error, and the metrics that it is the mean of."""
    if not record.score:
        return "-"
    parts = " / ".join(f"{value:.4f}" for value in record.score.get("parts", {}).values())
    text = f"{record.score['value']:.4f} ± {record.score['se']:.4f}"
    return f"{text} ({parts})" if parts else text


MAX_LINES = 10
"""Messages of one kind that are shown; of others only the number is."""


def shorten_list(lines: Sequence[str]) -> list[str]:
    """Return the first of many lines, and how many more there are."""
    if len(lines) <= MAX_LINES + 1:
        return list(lines)
    return [*lines[:MAX_LINES], f"and {len(lines) - MAX_LINES:,} more"]


NAMED_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp")


def format_machine(record: Record) -> str:
    """Return a short name of a record's machine: GPU, CPU, cores, quota, best vector
    instructions.
    """
    machine = record.machine
    gpu = f"{machine['gpu']['name']}; " if machine.get("gpu") else ""
    flags = [flag for flag in machine["flags"] if flag in NAMED_FLAGS]
    quota = f", quota {machine['quota']:g}" if machine.get("quota") else ""
    return (
        f"{gpu}{machine['cpu']}, {machine['cores']} cores{quota} "
        f"({flags[-1] if flags else 'no vector flags'})"
    )
