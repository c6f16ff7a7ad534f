"""The leaderboard as one page that works without a network: `results/index.html`."""

import math
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from harness.leaderboard.column import Column
from harness.leaderboard.columns import COLUMNS, get_column, get_figures
from harness.leaderboard.formatting import format_scenario, round_figure
from harness.leaderboard.history import HistoryEntry
from harness.leaderboard.history_table import HISTORY_HEADINGS, format_entry
from harness.leaderboard.ranking import Section, is_of_one_session
from harness.leaderboard.row import Row
from harness.leaderboard.section import describe_floor
from harness.leaderboard.template import render_template
from harness.tasks.registry import all_suites


def render_page(sections: Sequence[Section], has_energy: bool = False) -> str:
    """Return the HTML page; `has_energy` says whether there is an energy report.

    Texts of submissions cannot become markup: they are in JSON, in which jinja2's filter `tojson`
    replaces `<`, and the script only writes them as text.
    """
    from markupsafe import Markup

    folder = files("harness.leaderboard")
    style, script = (
        Markup(folder.joinpath(name).read_text(encoding="utf-8"))  # noqa: S704
        for name in ("page.css", "page.js")
    )
    return render_template(
        "leaderboard/page.html.j2",
        style=style,
        script=script,
        has_energy=has_energy,
        sections=[_describe_section(section) for section in _order_sections(sections)],
        history_headings=HISTORY_HEADINGS,
    )


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
    score = next((row.record.score for row in section.rows if row.record.score), None) or {}
    name = f"{section.task['name']}, {format_scenario(section.scenario)}"
    floor = "" if section.floor is None else f" {describe_floor(section)}"
    rows = [row for row in section.rows if row.seed is None]
    isolations = sorted({row.record.machine["isolation"] for row in rows})
    columns = [column for column in COLUMNS if "page" in column.tables]
    columns = [
        column
        for column in columns
        if not column.timed or any(column.value(row) is not None for row in rows)
    ]
    return {
        "name": f"{name}, {config['name']}, {section.machine}",
        "metric": f"{record.task['metric']} on {record.task['name']}",
        "floor": section.floor,
        "majority": _to_json_value(score.get("majority", 0.0)),
        "description": f"{_name_sessions(section)}: {score.get('examples', 0):,} examples; "
        f"{config['title']}; {config['usd_per_hour']:g} USD per hour; energy "
        f"{section.energy_source}; isolation: {', '.join(isolations)}.{floor}",
        "x": _choose_axis(section),
        "columns": [
            {
                "key": column.key,
                "heading": heading,
                "better": column.better,
                "axis": column.unit if column.axis else "",
            }
            for heading, column in section.get_headings(columns).items()
        ],
        "rows": [_describe_row(row, columns) for row in rows],
    }


def _name_sessions(section: Section) -> str:
    sessions = list(section.sessions)
    further = f" and {len(sessions) - 1} earlier" if sessions[1:] else ""
    return f"Session {sessions[0]}{further}"


def _choose_axis(section: Section) -> str:
    """Return the key of the X axis that is shown first.

    Rates of several sessions are not comparable, speed-ups are.
    """
    if not is_of_one_session(section.rows):
        return "speedup"
    return "latency_p50_ms" if section.scenario == "single_stream" else "throughput"


def _describe_row(row: Row, columns: Sequence[Column]) -> dict[str, Any]:
    """Return a row; `cells` are in the order of the columns, and `values` are, too, after the
    standard error of the score. With their keys the page would be a third larger.
    """
    record, figures = row.record, get_figures(row)
    keys = ["score_se", *(column.key for column in columns)]
    return {
        "name": row.name,
        "point": row.point,
        "title": record.system["title"],
        "qualified": row.qualified,
        "control": row.is_control,
        "values": [_to_json_value(figures[key]) for key in keys],
        "cells": [_write_cell(row, column) for column in columns],
        "failure": record.failure and record.failure["reason"],
        "details": _list_details(row),
        "history": [_describe_entry(entry) for entry in row.history],
        "command": figures["command"],
        "record": row.record_link,
    }


def _describe_entry(entry: HistoryEntry) -> dict[str, Any]:
    """Return what the page shows of a row's history, for one session."""
    record = entry.record
    score = (None if record.failure else record.score) or {}
    speedup = entry.speedup and [
        _to_json_value(value)
        for value in (entry.speedup.value, entry.speedup.low, entry.speedup.high)
    ]
    return {
        "session": record.session,
        "date": record.started[:10],
        "score": _to_json_value(score.get("value")),
        "se": _to_json_value(score.get("se")),
        "speedup": speedup,
        "cells": list(format_entry(entry).values()),
    }


def _write_cell(row: Row, column: Column) -> str:
    if row.record.failure and column.key not in ("system", "division"):
        return "failed" if column.key == "score" else "-"
    return column.text(row)


def _list_details(row: Row) -> list[tuple[str, str]]:
    """Return what the page shows of a row when it is opened: names and texts."""
    record, figures = row.record, get_figures(row)
    verdict = f"failed: {', '.join(row.failed_probes)}" if row.failed_probes else "passed"
    state = f"{row.state.name}: {'; '.join(row.state.reasons)}".rstrip(": ")
    recipe = [step["use"] for step in (record.artifact or {}).get("recipe", [])]
    settings = {key: value for key, value in record.system["serve"].items() if value not in ("", 0)}

    def write(key: str) -> str:
        return get_column(key).text(row)

    latencies = [write(f"latency_{name}_ms") for name in ("p50", "p90", "p99")]
    details = {
        "title": record.system["title"],
        "authors": f"{', '.join(record.system['authors'])} ({record.system['licence']})",
        "failed": record.failure and record.failure["reason"],
        "audit": row.audit and verdict,
        "session": f"{record.session}, revision {record.software.get('revision', 'unknown')}",
        "state": state,
        "newer": "; ".join(map(str, row.newer)),
        "recipe": " → ".join(recipe),
        "extensions": ", ".join(record.extensions),
        "engine settings": ", ".join(f"{key} {value}" for key, value in settings.items()),
        "exits per stage": figures["left"] and write("left"),
        "training seeds": row.seed_scores
        and f"{len(row.seed_rows)}: score {row.seed_scores[0]:.4f} ± {row.seed_scores[1]:.4f} "
        "(standard deviation)",
        "p50 / p90 / p99": latencies != ["-"] * 3 and f"{' / '.join(latencies)} ms",
        "build": figures["build_cpu_seconds"]
        and f"{write('build_cpu_seconds')} CPU-minutes, {write('build_wh')} Wh; requests to break "
        f"even against the unpadded reference: {write('break_even_requests')}",
        "load": figures["load_seconds"] and f"{write('load_seconds')} s, {write('load_wh')} Wh",
        "weights": figures["parameters"]
        and f"{write('parameters')} parameters, {write('weights_mb')} MB",
        "harness share of the time": figures["harness_share"] and write("harness_share"),
    }
    return [(name, str(text)) for name, text in details.items() if text]


def _to_json_value(value: Any) -> Any:
    """Round a float; None for infinity and nan, which JSON does not have."""
    if not isinstance(value, float):
        return value
    return round_figure(value) if math.isfinite(value) else None
