"""The tables of one section in Markdown."""

from collections.abc import Sequence

from harness.leaderboard.formatting import (
    escape_cell,
    format_break_even,
    format_interval,
    format_number,
    format_scenario,
    format_table,
)
from harness.leaderboard.ranking import Section
from harness.leaderboard.row import Row, is_energy_measured
from harness.leaderboard.warnings import find_warnings
from harness.results.record import Record

DIVISION_HEADINGS = {
    "closed": "Closed division: the reference's own weights, only executed differently",
    "open": "Open division",
    "baseline": "Baselines",
}


def render_section(section: Section) -> str:
    """Return the Markdown of a section: one table per division, further tables, and notes."""
    floor = (
        f"The quality floor is {section.floor:.4f}."
        if section.floor is not None
        else "The reference is not above the majority class, so no system is ranked."
    )
    parts = [
        f"### {format_scenario(section.scenario)}",
        "",
        f"Energy is {section.energy_source or 'not known'}. {floor}",
        "",
    ]
    for division, heading in DIVISION_HEADINGS.items():
        rows = [row for row in section.system_rows if row.record.system["division"] == division]
        if rows:
            parts += [f"**{heading}**", "", _format_division_table(section, rows), ""]
    if any(row.exit_shares for row in section.rows):
        parts += ["**Early exits**", "", _format_exits_table(section), ""]
    if any(row.seed_rows for row in section.system_rows):
        parts += ["**Training seeds**", "", _format_seeds_table(section), ""]
    if section.scenario == "offline":
        parts += ["**Cost of building, storing and loading**", "", _format_cost_table(section), ""]
    parts += _describe_failures(section)
    if warnings := find_warnings(section):
        parts += ["*Notes on these figures:*", "", *(f"- {escape_cell(text)}" for text in warnings)]
    return "\n".join(parts).rstrip()


def _describe_failures(section: Section) -> list[str]:
    """List the systems that failed, and those that failed or passed an audit."""
    lines = [
        f"- **{row.name} failed**: {escape_cell(row.record.failure['reason'])}"
        for row in section.rows
        if row.record.failure
    ]
    for row in section.system_rows:
        if row.failed_probes:
            probes = (row.record.audit or {})["probes"]
            results = "; ".join(f"{probe}: {probes[probe]}" for probe in row.failed_probes)
            failed = f"**{row.name} failed its audit** and is not ranked"
            lines.append(f"- {failed}: {escape_cell(results)}")
    passed = [row.name for row in section.system_rows if row.record.audit and not row.failed_probes]
    if passed:
        lines.append(f"- Passed the audit: {', '.join(map(escape_cell, passed))}")
    return lines


def _format_division_table(section: Section, rows: Sequence[Row]) -> str:
    energy = energy_heading(section)
    return format_table([_format_line(row, energy) for row in rows])


def _format_line(row: Row, energy: str) -> dict[str, str]:
    record, columns = row.record, row.columns()
    line = {"rank": str(row.rank or "-"), "system": f"[{escape_cell(row.name)}]({row.record_link})"}
    if record.failure or not record.score:
        return line | {"score": "failed"}
    rate = format_number(row.throughput if row.measured else None)
    line |= {
        "score": _format_marked_score(row),
        "difference": _format_difference(row),
        rate_heading(record.scenario): f">= {rate}" if row.capped else rate,
        "speed-up": format_interval(row.speedup),
        "unpadded": format_interval(row.unpadded_speedup),
    }
    headings: dict[str, str] = {}
    if record.scenario != "offline":
        headings |= {f"{name} ms": f"latency_{name}_ms" for name in ("p50", "p90", "p99")}
    headings |= {"CPU s/1k": "cpu_seconds_per_1k", energy: "energy_wh_per_1k"}
    if is_energy_measured(record):
        headings["Wh/1k above idle"] = "energy_above_idle_wh_per_1k"
    if record.scenario != "single_stream":
        headings["USD/100M"] = "usd_per_100m"
    headings["memory MB"] = "memory_mb"
    line |= {heading: format_number(columns.get(name)) for heading, name in headings.items()}
    share = row.harness_share
    return line | {"harness share": "-" if share is None else f"{share:.2%}"}


def _format_cost_table(section: Section) -> str:
    """The cost of building and loading, the size of the artifact, and the CO2 of answering."""
    grams, country = (section.configuration[key] for key in ("grams_co2_per_kwh", "country"))
    lines = []
    for row in sorted(section.system_rows, key=lambda row: row.name):
        columns = row.columns()
        line = {
            "system": escape_cell(row.name),
            "build CPU min": format_number((columns.get("build_cpu_seconds") or 0) / 60),
            "build Wh": format_number(columns.get("build_wh")),
            "parameters": f"{(columns.get('parameters') or 0) / 1e6:.2f} M",
            "weights MB": format_number(columns.get("weights_mb")),
            "artifact MB": format_number(columns.get("size_mb")),
            "requests to break even": format_break_even(row.break_even),
            "load s": format_number(columns.get("load_seconds")),
            "load Wh": format_number(columns.get("load_wh")),
        }
        co2 = f"g CO2/1k ({country}, {grams:.0f} g/kWh)"
        lines.append(line | {co2: format_number(columns.get("co2_g_per_1k"))})
    return format_table(lines)


def _format_seeds_table(section: Section) -> str:
    """The variation of scores over training seeds."""
    lines = []
    for row in section.system_rows:
        if not row.seed_scores:
            continue
        average, deviation = row.seed_scores
        scores = [seed_row.score for seed_row in row.seed_rows if seed_row.scored]
        rates = [seed_row.throughput for seed_row in row.seed_rows if seed_row.measured]
        lines.append(
            {
                "system": escape_cell(row.name),
                "seeds": str(len(scores)),
                "mean score": f"{average:.4f}",
                "standard deviation": f"{deviation:.4f}",
                "scores": " / ".join(f"{score:.4f}" for score in scores),
                "examples/s": " / ".join(map(format_number, rates)),
            }
        )
    return format_table(lines)


def _format_exits_table(section: Section) -> str:
    """Each system with early exits and its operating points, from the slowest to the fastest."""
    rows = [row for row in section.rows if row.exit_shares and row.measured and row.seed is None]
    rows.sort(key=lambda row: (row.base_name, row.throughput))
    lines = [
        {
            "system": escape_cell(row.base_name),
            "operating point": escape_cell(row.point) or "-",
            "threshold": str(row.record.system["serve"].get("threshold", "tuned")),
            "exits per stage": " / ".join(f"{share:.1%}" for share in row.exit_shares),
            "score": _format_marked_score(row),
            "difference": _format_difference(row),
            "examples/s": format_number(row.throughput),
            "speed-up": format_interval(row.speedup),
            "unpadded": format_interval(row.unpadded_speedup),
            "CPU s/1k": format_number(row.columns().get("cpu_seconds_per_1k")),
        }
        for row in rows
    ]
    return format_table(lines)


def _format_difference(row: Row) -> str:
    """The score less the reference's, with the p-value that there is no difference."""
    if row.comparison is None or row.name == row.record.roles["reference"]:
        return "-"
    value, p = row.comparison.difference.value, row.comparison.p
    return f"{value:+.4f} (p {p:.2f})" if p >= 0.005 else f"{value:+.4f} (p < 0.01)"


def _format_marked_score(row: Row) -> str:
    """`~`: the interval includes the floor; `^`: above the reference by more than chance."""
    return format_score(row.record) + "~" * row.near_floor + "^" * row.above_reference


def format_score(record: Record) -> str:
    """Return the score with its standard error, and the metrics that it is the mean of."""
    if not record.score:
        return "-"
    parts = " / ".join(f"{value:.4f}" for value in record.score.get("parts", {}).values())
    text = f"{record.score['value']:.4f} ± {record.score['se']:.4f}"
    return f"{text} ({parts})" if parts else text


def below_floor_note(section: Section, row: Row) -> str:
    """Return a note to append to a score that is below the quality floor, else ''."""
    return "" if row.qualified or section.floor is None else " below the floor"


def rate_heading(scenario: str) -> str:
    """Return the heading of the throughput column."""
    return "queries/s" if scenario == "server" else "examples/s"


def energy_heading(section: Section) -> str:
    """Return the heading of the energy column, which says whether energy is measured."""
    measured = all(is_energy_measured(row.record) for row in section.rows)
    return f"Wh/1k ({'measured' if measured else 'modelled'})"
