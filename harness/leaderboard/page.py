"""The leaderboard as one page that needs no network: `results/index.html`."""

import json
import math
from collections.abc import Sequence
from importlib.resources import files
from typing import Any
from urllib.parse import quote

from harness.leaderboard.formatting import requests
from harness.leaderboard.ranking import Section
from harness.leaderboard.row import Row, energy_measured
from harness.tasks.registry import all_suites


def page(found: Sequence[Section]) -> str:
    """The whole page. Texts of submissions are data, in JSON without `<`, and the script writes
    them as text only.
    """
    room = files("harness.leaderboard")
    text = room.joinpath("page.html").read_text(encoding="utf-8")
    data = json.dumps([_section(each) for each in _quick_first(found)], separators=(",", ":"))
    parts = {
        "/*STYLE*/": room.joinpath("page.css").read_text(encoding="utf-8"),
        "/*SCRIPT*/": room.joinpath("page.js").read_text(encoding="utf-8"),
        "/*DATA*/": data.replace("<", "\\u003c"),
    }
    for mark, part in parts.items():
        before, _, after = text.partition(mark)
        text = before + part + after
    return text


def _quick_first(found: Sequence[Section]) -> list[Section]:
    """Tasks of the suite `quick` first, then by session, the latest first; `offline` first of each
    session.
    """
    order = {"offline": 0, "single_stream": 1, "server": 2}
    quick = all_suites()["quick"].tasks
    by_scenario = sorted(found, key=lambda each: order[each.scenario])
    latest = sorted(by_scenario, key=lambda each: each.started, reverse=True)
    return sorted(latest, key=lambda each: each.task["name"] not in quick)


def _section(section: Section) -> dict[str, Any]:
    it, config = section.rows[0].record, section.configuration
    measured = all(energy_measured(row.record) for row in section.rows)
    score = next((row.record.score for row in section.rows if row.record.score), None) or {}
    scenario = section.scenario.replace("_", " ")
    return {
        "name": f"{section.task['name']}, {scenario}, {config['name']}, {section.machine}",
        "scenario": section.scenario,
        "metric": f"{it.task['metric']} on {it.task['name']}",
        "floor": section.floor,
        "majority": _brief(score.get("majority", 0.0)),
        "energy": "measured" if measured else "modelled",
        "about": f"Session {section.session}: {score.get('examples', 0):,} examples; "
        f"{config['title']}; {config['usd_per_hour']:g} USD an hour; energy {section.source}; "
        f"isolation: {it.machine['isolation']}"
        + (f"; the floor is {section.floor:.4f}." if section.floor is not None else "."),
        "rows": [_row(row) for row in section.rows if row.seed is None],
    }


def _row(row: Row) -> dict[str, Any]:
    it, columns = row.record, row.columns()
    failure = it.failure
    steps = [each["use"] for each in (it.artifact or {}).get("recipe", [])]
    served = {key: value for key, value in it.system["serve"].items() if value not in ("", 0)}
    place = quote(f"records/{it.session}/{it.task['name']}/{it.scenario}/{row.name}.json")
    shown = {key: _brief(columns.get(key)) for key in SHOWN}
    return shown | {
        "name": row.name,
        "point": row.point,
        "title": it.system["title"],
        "authors": it.system["authors"],
        "licence": it.system["licence"],
        "failure": failure and failure["reason"],
        "audit": it.audit and (f"failed: {', '.join(row.caught)}" if row.caught else "passed"),
        "recipe": steps,
        "serve": ", ".join(f"{key} {value}" for key, value in served.items()),
        "break_even": requests(row.break_even),
        "record": place,
    }


SHOWN = (
    *("system", "division", "rank", "score", "score_se", "score_difference", "near_floor"),
    *("above_reference", "qualified"),
    *("throughput", "speedup", "speedup_low", "speedup_high", "speedup_unpadded"),
    *("latency_p50_ms", "latency_p90_ms", "latency_p99_ms", "cpu_seconds_per_1k"),
    *("energy_wh_per_1k", "co2_g_per_1k", "usd_per_100m", "memory_mb", "size_mb", "weights_mb"),
    *("parameters", "build_cpu_seconds", "build_wh", "load_seconds", "load_wh", "left"),
    *("seeds", "seeds_score", "seeds_score_sd", "harness_share", "command"),
)


def _brief(value: Any) -> Any:
    """Six digits; what is not a number JSON has no word for."""
    if not isinstance(value, float):
        return value
    return float(f"{value:.6g}") if math.isfinite(value) else None
