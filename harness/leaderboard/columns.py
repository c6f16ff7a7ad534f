"""The registry of the leaderboard's columns.

CSV, JSON, Markdown tables, page, comparison, energy report and model card take their figures,
headings and formats from here. A new column is one entry: it is in CSV and JSON, and in each kind
of table that it names.
"""

import math
from collections.abc import Collection, Sequence
from statistics import median
from typing import Any

from harness.leaderboard.column import Column, Table
from harness.leaderboard.commands import rerun_command
from harness.leaderboard.figures import (
    compute_co2,
    compute_gpu_memory,
    compute_price,
    compute_queries_per_wh,
    format_difference,
    format_marked_score,
    format_plain,
    format_rate,
    format_share,
    of_build,
    of_energy,
    of_record,
)
from harness.leaderboard.formatting import (
    escape_cell,
    format_break_even,
    format_interval,
    format_machine,
    format_number,
    shorten_session,
)
from harness.leaderboard.row import Row


def _latency(name: str, tables: tuple[Table, ...]) -> Column:
    return Column(
        f"latency_{name}_ms",
        of_record("latency_ms", name),
        label=f"{name} ms",
        unit=f"latency, {name} (ms)",
        better="lower",
        scenarios=("single_stream", "server"),
        tables=tables,
        axis="page" in tables,
    )


COLUMNS = (
    Column(
        "system",
        lambda row: row.base_name,
        label="system",
        cell=lambda row: escape_cell(row.name),
        tables=("offline", "latency", "page"),
        timed=False,
    ),
    Column("point", lambda row: row.point or None, format=format_plain, timed=False),
    Column(
        "division",
        of_record("system", "division"),
        label="division",
        format=format_plain,
        tables=("offline", "page"),
        timed=False,
    ),
    Column("machine", lambda row: format_machine(row.record), format=format_plain, timed=False),
    Column("configuration", of_record("configuration", "name"), format=format_plain, timed=False),
    Column("task", of_record("task", "name"), format=format_plain, timed=False),
    Column("scenario", of_record("scenario"), format=format_plain, timed=False),
    Column(
        "left",
        lambda row: "/".join(f"{share:.4f}" for share in row.exit_shares) or None,
        cell=lambda row: " / ".join(f"{share:.1%}" for share in row.exit_shares) or "-",
    ),
    Column(
        "rank",
        lambda row: row.rank,
        label="rank",
        format=lambda rank: str(rank or "-"),
        better="lower",
        tables=("offline", "latency", "page"),
    ),
    Column(
        "score",
        of_record("score", "value"),
        label="score",
        cell=format_marked_score,
        better="higher",
        tables=("offline", "page", "card"),
        timed=False,
    ),
    Column("score_se", of_record("score", "se"), timed=False),
    Column(
        "score_difference",
        lambda row: row.comparison and row.comparison.difference.value,
        label="difference",
        cell=format_difference,
        better="higher",
        tables=("page",),
        timed=False,
    ),
    Column("score_p", lambda row: row.comparison and row.comparison.p, timed=False),
    Column(
        "throughput",
        lambda row: row.throughput,
        label="{queries}/s",
        unit="throughput (examples or queries per second)",
        cell=format_rate,
        better="higher",
        tables=("offline", "latency", "overview", "summary", "page", "card"),
        axis=True,
    ),
    Column(
        "speedup",
        lambda row: row.speedup and row.speedup.value,
        label="speed-up",
        unit="speed-up over the reference",
        cell=lambda row: format_interval(row.speedup),
        better="higher",
        tables=("offline", "latency", "overview", "summary", "page", "card"),
        axis=True,
    ),
    Column("speedup_low", lambda row: row.speedup and row.speedup.low),
    Column("speedup_high", lambda row: row.speedup and row.speedup.high),
    Column(
        "speedup_unpadded",
        lambda row: row.unpadded_speedup and row.unpadded_speedup.value,
        label="unpadded",
        cell=lambda row: format_interval(row.unpadded_speedup),
        better="higher",
        tables=("offline", "latency", "overview", "summary", "page", "card"),
    ),
    _latency("p50", ("latency", "overview", "summary", "page", "comparison", "card")),
    _latency("p90", ("latency",)),
    _latency("p99", ("latency", "page", "comparison", "card")),
    Column(
        "cpu_seconds_per_1k",
        lambda row: row.per_1k(window.cpu_seconds for window in row.rounds),
        label="CPU s/1k",
        unit="CPU-seconds per 1,000 examples",
        better="lower",
        tables=("page", "comparison"),
        axis=True,
    ),
    Column(
        "energy_wh_per_1k",
        of_energy("energy_wh_per_1k"),
        label="Wh/1k",
        note="{energy}",
        unit="energy (Wh per 1,000 examples)",
        better="lower",
        tables=("offline", "overview", "summary", "page", "comparison", "card"),
        axis=True,
    ),
    Column(
        "energy_above_idle_wh_per_1k",
        of_energy("energy_above_idle_wh_per_1k"),
        label="Wh/1k above idle",
        better="lower",
        tables=("offline",),
        hidden_if_unknown=True,
    ),
    Column("cpu_wh_per_1k", of_energy("cpu_wh_per_1k")),
    Column("ram_wh_per_1k", of_energy("ram_wh_per_1k")),
    Column("gpu_wh_per_1k", of_energy("gpu_wh_per_1k")),
    Column("energy_source", of_record("energy", "source"), format=format_plain, timed=False),
    Column(
        "queries_per_wh",
        compute_queries_per_wh,
        label="queries/Wh",
        note="{energy}",
        unit="queries per watt-hour",
        better="higher",
        tables=("page", "comparison", "energy"),
        axis=True,
    ),
    Column(
        "usd_per_100m",
        compute_price,
        label="USD/100M",
        unit="cost (USD per 100 million requests)",
        better="lower",
        scenarios=("offline", "server"),
        tables=("offline", "overview", "page", "comparison"),
        axis=True,
    ),
    Column(
        "memory_mb",
        lambda row: max(window.memory_mb for window in row.rounds),
        label="memory MB",
        unit="memory (MB)",
        better="lower",
        tables=("offline", "overview", "page", "comparison", "card"),
        axis=True,
    ),
    Column(
        "gpu_memory_mb",
        compute_gpu_memory,
        label="GPU MB",
        unit="GPU memory (MB)",
        better="lower",
        tables=("overview", "page"),
        hidden_if_unknown=True,
        axis=True,
    ),
    Column("harness_share", lambda row: row.harness_share, format=format_share),
    Column("build_seconds", of_build("build_seconds"), timed=False),
    Column(
        "build_cpu_seconds",
        of_build("build_cpu_seconds"),
        label="build CPU min",
        format=lambda seconds: format_number((seconds or 0) / 60),
        better="lower",
        tables=("page", "comparison"),
        timed=False,
    ),
    Column("build_wh", of_build("build_wh"), timed=False),
    Column(
        "parameters",
        of_record("artifact", "parameters"),
        label="parameters",
        format=lambda count: f"{(count or 0) / 1e6:.2f} M",
        better="lower",
        tables=("page",),
        timed=False,
    ),
    Column("weights_mb", of_record("artifact", "weights_mb"), timed=False),
    Column(
        "size_mb",
        of_record("artifact", "size_mb"),
        label="artifact MB",
        unit="artifact size (MB)",
        better="lower",
        tables=("page",),
        timed=False,
        axis=True,
    ),
    Column(
        "break_even_requests",
        lambda row: None if row.break_even == math.inf else row.break_even,
        label="requests to break even",
        cell=lambda row: format_break_even(row.break_even),
        better="lower",
        tables=("page",),
    ),
    Column(
        "load_seconds",
        lambda row: median(window.load_seconds for window in row.rounds),
        label="load s",
        better="lower",
        tables=("page",),
    ),
    Column(
        "load_wh",
        lambda row: median(window.load_wh for window in row.rounds),
        better="lower",
    ),
    Column(
        "co2_g_per_1k",
        compute_co2,
        label="g CO2/1k",
        note="{country}, {grams} g/kWh",
        better="lower",
        tables=("page",),
    ),
    Column("qualified", lambda row: row.qualified, format=format_plain),
    Column("near_floor", lambda row: row.near_floor, format=format_plain),
    Column("above_reference", lambda row: row.above_reference, format=format_plain),
    Column("seed", of_record("artifact", "seed"), format=format_plain, timed=False),
    Column(
        "seeds",
        lambda row: len(row.seed_rows) if row.seed_scores else None,
        format=format_plain,
        timed=False,
    ),
    Column("seeds_score", lambda row: row.seed_scores and row.seed_scores[0], timed=False),
    Column("seeds_score_sd", lambda row: row.seed_scores and row.seed_scores[1], timed=False),
    Column(
        "rounds",
        lambda row: len(row.rounds) if row.measured else None,
        format=format_plain,
        timed=False,
    ),
    Column(
        "session",
        of_record("session"),
        label="session",
        cell=lambda row: escape_cell(shorten_session(row.record.session)),
        tables=("offline", "latency", "overview", "summary", "page"),
        timed=False,
    ),
    Column(
        "date",
        lambda row: row.record.started[:10],
        label="date",
        format=format_plain,
        tables=("offline", "latency", "overview", "summary", "page"),
        timed=False,
    ),
    Column(
        "state",
        lambda row: row.state.name,
        label="state",
        format=format_plain,
        tables=("offline", "page"),
        timed=False,
    ),
    Column(
        "newer",
        lambda row: "; ".join(map(str, row.newer)) or None,
        format=format_plain,
        timed=False,
    ),
    Column("reference", of_record("roles", "reference"), format=format_plain, timed=False),
    Column("revision", of_record("software", "revision"), format=format_plain, timed=False),
    Column("command", rerun_command, format=format_plain, timed=False),
    Column("failure", of_record("failure", "reason"), format=format_plain, timed=False),
)
"""All columns, in the order of tables."""

CSV_ORDER = (
    *("system", "point", "division", "machine", "configuration", "task", "scenario"),
    *("score", "score_se", "score_difference", "score_p"),
    *("throughput", "latency_p50_ms", "latency_p90_ms", "latency_p99_ms"),
    *("speedup", "speedup_low", "speedup_high", "speedup_unpadded"),
    *("cpu_seconds_per_1k", "energy_wh_per_1k", "energy_above_idle_wh_per_1k", "cpu_wh_per_1k"),
    *("ram_wh_per_1k", "gpu_wh_per_1k", "energy_source", "co2_g_per_1k", "usd_per_100m"),
    *("build_seconds", "build_cpu_seconds", "build_wh", "break_even_requests"),
    *("load_seconds", "load_wh", "memory_mb", "gpu_memory_mb"),
    *("size_mb", "weights_mb", "parameters"),
    *("left", "rank", "qualified", "near_floor", "above_reference", "harness_share"),
    *("seed", "seeds", "seeds_score", "seeds_score_sd"),
    *("rounds", "session", "command", "failure"),
)
"""The order of the first columns of CSV files, for programs that count them; others follow."""

_by_key = {column.key: column for column in COLUMNS}

CSV_COLUMNS = (*CSV_ORDER, *(key for key in _by_key if key not in CSV_ORDER))


def get_column(key: str) -> Column:
    """Return the column of a key."""
    return _by_key[key]


def get_figures(row: Row) -> dict[str, Any]:
    """Return the values of all columns by key."""
    return {column.key: column.value(row) for column in COLUMNS}


def find_columns(
    table: Table, rows: Sequence[Row], scenarios: Collection[str] = ()
) -> list[Column]:
    """Return the columns of a table.

    Args:
        table: the kind of table.
        rows: its rows.
        scenarios: the scenarios that it is about (default: those of its rows).
    """
    scenarios = set(scenarios) or {row.record.scenario for row in rows}
    return [
        column
        for column in COLUMNS
        if table in column.tables
        and scenarios.intersection(column.scenarios)
        and (not column.hidden_if_unknown or any(column.value(row) is not None for row in rows))
    ]
