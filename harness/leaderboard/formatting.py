"""How figures are written in tables."""

import math
from typing import Any

from harness.results.statistics import Interval


def interval(found: Interval | None) -> str:
    """`12.3x [12.1, 12.5]`."""
    if found is None:
        return "-"
    if math.isnan(found.low) or found.low == found.high:
        return f"{number(found.value)}x"
    return f"{number(found.value)}x [{number(found.low)}, {number(found.high)}]"


def number(value: Any) -> str:
    """Three significant digits, thousands separated; a dash for None."""
    if value is None:
        return "-"
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}" if digits <= 6 else f"{value:.2e}"


def requests(count: float | None) -> str:
    """How many until it has paid for itself, to two digits."""
    if count == math.inf:
        return "never"
    return "-" if count is None else f"{float(f'{count:.2g}'):,.0f}"


def cell(text: str) -> str:
    """Safe in a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
