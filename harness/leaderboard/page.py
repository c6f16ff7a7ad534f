"""The leaderboard as one page that works without a network: `results/index.html`."""

import json
import math
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from harness.leaderboard.formatting import format_break_even, format_scenario, round_figure
from harness.leaderboard.ranking import Section
from harness.leaderboard.row import Row, is_energy_measured
from harness.tasks.registry import all_suites


def render_page(sections: Sequence[Section]) -> str:
    """Return the HTML page.

    Texts of submissions cannot become markup: they are in JSON without `<`, and the script only
    writes them as text.
    """
    folder = files("harness.leaderboard")
    html = folder.joinpath("page.html").read_text(encoding="utf-8")
    data = json.dumps(
        [_describe_section(section) for section in _order_sections(sections)],
        separators=(",", ":"),
    )
    parts = {
        "/*STYLE*/": folder.joinpath("page.css").read_text(encoding="utf-8"),
        "/*SCRIPT*/": folder.joinpath("page.js").read_text(encoding="utf-8"),
        "/*DATA*/": data.replace("<", "\\u003c"),
    }
    for marker, part in parts.items():
        before, _, after = html.partition(marker)
        html = before + part + after
    return html


def _order_sections(sections: Sequence[Section]) -> list[Section]:
    """Tasks of the suite `quick` first, then CPUs, then the latest session, then `offline`."""
    order = {"offline": 0, "single_stream": 1, "server": 2}
    quick = all_suites()["quick"].tasks
    by_scenario = sorted(sections, key=lambda section: order[section.scenario])
    latest_first = sorted(by_scenario, key=lambda section: section.started, reverse=True)
    return sorted(
        latest_first, key=lambda section: (section.task["name"] not in quick, section.on_gpu)
    )


def _describe_section(section: Section) -> dict[str, Any]:
    record, config = section.rows[0].record, section.configuration
    measured = all(is_energy_measured(row.record) for row in section.rows)
    score = next((row.record.score for row in section.rows if row.record.score), None) or {}
    name = f"{section.task['name']}, {format_scenario(section.scenario)}"
    floor = "" if section.floor is None else f"; quality floor {section.floor:.4f}"
    return {
        "name": f"{name}, {config['name']}, {section.machine}",
        "scenario": section.scenario,
        "metric": f"{record.task['metric']} on {record.task['name']}",
        "floor": section.floor,
        "majority": _to_json_value(score.get("majority", 0.0)),
        "energy": "measured" if measured else "modelled",
        "description": f"Session {section.session}: {score.get('examples', 0):,} examples; "
        f"{config['title']}; {config['usd_per_hour']:g} USD per hour; energy "
        f"{section.energy_source}; isolation: {record.machine['isolation']}{floor}.",
        "rows": [_describe_row(row) for row in section.rows if row.seed is None],
    }


def _describe_row(row: Row) -> dict[str, Any]:
    record, columns = row.record, row.columns()
    failed = f"failed: {', '.join(row.failed_probes)}" if row.failed_probes else ""
    settings = {key: value for key, value in record.system["serve"].items() if value not in ("", 0)}
    return {key: _to_json_value(columns.get(key)) for key in PAGE_COLUMNS} | {
        "name": row.name,
        "point": row.point,
        "title": record.system["title"],
        "authors": record.system["authors"],
        "licence": record.system["licence"],
        "failure": record.failure and record.failure["reason"],
        "audit": record.audit and (failed or "passed"),
        "recipe": [step["use"] for step in (record.artifact or {}).get("recipe", [])],
        "serve": ", ".join(f"{key} {value}" for key, value in settings.items()),
        "break_even": format_break_even(row.break_even),
        "record": row.record_link,
    }


PAGE_COLUMNS = (
    *("system", "division", "rank", "score", "score_se", "score_difference", "near_floor"),
    *("above_reference", "qualified"),
    *("throughput", "speedup", "speedup_low", "speedup_high", "speedup_unpadded"),
    *("latency_p50_ms", "latency_p90_ms", "latency_p99_ms", "cpu_seconds_per_1k"),
    *("energy_wh_per_1k", "co2_g_per_1k", "usd_per_100m", "memory_mb", "size_mb", "weights_mb"),
    *("parameters", "build_cpu_seconds", "build_wh", "load_seconds", "load_wh", "left"),
    *("seeds", "seeds_score", "seeds_score_sd", "harness_share", "command"),
)
"""The CSV columns that the page shows."""


def _to_json_value(value: Any) -> Any:
    """Round a float; None for infinity and nan, which JSON does not have."""
    if not isinstance(value, float):
        return value
    return round_figure(value) if math.isfinite(value) else None
