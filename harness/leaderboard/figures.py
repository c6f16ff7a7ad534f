"""Figures of a row and formats of cells that need more than one expression; see columns.py."""

from collections.abc import Callable
from typing import Any

from harness.leaderboard.formatting import escape_cell, format_number, format_score
from harness.leaderboard.row import Row, compute_build_cost


def of_record(*path: str) -> Callable[[Row], Any]:
    """Return a function that looks a value up in a row's record; None if a part is missing."""

    def look_up(row: Row) -> Any:
        value: Any = vars(row.record)
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        return value

    return look_up


def of_build(key: str) -> Callable[[Row], float | None]:
    """Return a function that adds up what building a row's artifact took, by CSV column."""

    def look_up(row: Row) -> float | None:
        artifact = row.record.artifact
        return compute_build_cost(artifact.get("recipe", []))[key] if artifact else None

    return look_up


def of_energy(key: str) -> Callable[[Row], float | None]:
    """Return a function that looks up an energy per 1,000 examples, in Wh."""
    return lambda row: row.energy_per_1k[key]


def compute_co2(row: Row) -> float | None:
    """Return the emissions of 1,000 examples in g CO2, at the configuration's carbon intensity."""
    watt_hours = row.energy_per_1k["energy_wh_per_1k"]
    grams: float = row.record.configuration["grams_co2_per_kwh"]
    return None if watt_hours is None else watt_hours / 1000 * grams


def compute_queries_per_wh(row: Row) -> float | None:
    """Return how many examples or queries one watt-hour is enough for."""
    watt_hours = row.energy_per_1k["energy_wh_per_1k"]
    return 1000 / watt_hours if watt_hours else None


def compute_price(row: Row) -> float | None:
    """Return the price of 100 million requests in USD; None for one request at a time."""
    if row.record.scenario == "single_stream":
        return None
    return compute_usd_per_100m(row.record.configuration["usd_per_hour"], row.throughput)


def compute_usd_per_100m(usd_per_hour: float, throughput: float) -> float:
    """Return the price in USD of 100 million requests at full offline load.

    As in Kim & Hassan (2020), Table 3.

    Args:
        usd_per_hour: the price of the machine.
        throughput: examples per second.
    """
    return usd_per_hour / 3600 / throughput * 1e8


def compute_gpu_memory(row: Row) -> float | None:
    """Return the highest use of GPU memory of all rounds in MB; None without a GPU."""
    return max((window.gpu_memory_mb or 0.0 for window in row.rounds), default=0.0) or None


def format_rate(row: Row) -> str:
    """Return the throughput; `>=` if no higher rate of queries was tried."""
    rate = format_number(row.throughput)
    return f">= {rate}" if row.capped else rate


def format_marked_score(row: Row) -> str:
    """Return the score; `~`: the interval includes the floor; `^`: above the reference by more than
    chance.
    """
    return format_score(row.record) + "~" * row.near_floor + "^" * row.above_reference


def format_difference(row: Row) -> str:
    """Return the score less the reference's, with the p-value that there is no difference."""
    if row.comparison is None or row.name == row.record.roles["reference"]:
        return "-"
    value, p = row.comparison.difference.value, row.comparison.p
    return f"{value:+.4f} (p {p:.2f})" if p >= 0.005 else f"{value:+.4f} (p < 0.01)"


def format_share(share: float | None) -> str:
    """Return a share in per cent."""
    return "-" if share is None else f"{share:.2%}"


def format_plain(value: Any) -> str:
    """Return a value as it is, without what would end a table's cell."""
    return "-" if value is None else escape_cell(str(value))
