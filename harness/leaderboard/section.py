"""The tables of one section, as GitHub's Markdown."""

from collections.abc import Sequence
from urllib.parse import quote

from tabulate import tabulate

from harness.leaderboard.formatting import cell, interval, number, requests
from harness.leaderboard.ranking import Section
from harness.leaderboard.row import Row, energy_measured
from harness.leaderboard.warnings import remarks
from harness.results.record import Record

DIVISIONS = {
    "closed": "Closed division: the reference's own weights, only executed differently",
    "open": "Open division",
    "baseline": "Baselines",
}


def section_tables(section: Section) -> str:
    """One table a division."""
    floor = (
        f" The floor is {section.floor:.4f}."
        if section.floor is not None
        else " The reference is not above the majority class: nothing is ranked."
    )
    parts = [
        f"### {section.scenario.replace('_', ' ')}",
        "",
        f"Energy is {section.source or 'not known'}.{floor}",
        "",
    ]
    for division, title in DIVISIONS.items():
        rows = [row for row in section.systems if row.record.system["division"] == division]
        if rows:
            parts += [f"**{title}**", "", division_table(section, rows), ""]
    if any(row.left for row in section.rows):
        parts += ["**Where examples leave**", "", exits_table(section), ""]
    if any(row.seeds for row in section.systems):
        parts += ["**Training seeds**", "", seeds_table(section), ""]
    if section.scenario == "offline":
        parts += ["**Building, carrying and loading**", "", burden_table(section), ""]
    failed = [row for row in section.rows if row.record.failure]
    parts += [
        f"- **{row.name} failed**: {cell((row.record.failure or {})['reason'])}" for row in failed
    ]
    for row in section.systems:
        if row.caught:
            probes = (row.record.audit or {})["probes"]
            told = "; ".join(f"{each}: {probes[each]}" for each in row.caught)
            parts.append(f"- **{row.name} did not pass its audit** and has no rank: {cell(told)}")
    if passed := [row.name for row in section.systems if row.record.audit and not row.caught]:
        parts.append(f"- audited, and passed: {', '.join(map(cell, passed))}")
    if noticed := remarks(section):
        parts += ["*What to know of these figures:*", "", *(f"- {cell(each)}" for each in noticed)]
    return "\n".join(parts).rstrip()


def division_table(section: Section, rows: Sequence[Row]) -> str:
    """GitHub's Markdown."""
    energy = energy_head(section)
    return tabulate(
        [_line(section, row, energy) for row in rows],
        headers="keys",
        tablefmt="github",
        disable_numparse=True,
    )


def burden_table(section: Section) -> str:
    """What it took to build, what there is to carry and to load, and the carbon of answering, in
    GitHub's Markdown.
    """
    grams = section.configuration["grams_co2_per_kwh"]
    lines = []
    for row in sorted(section.systems, key=lambda row: row.name):
        columns = row.columns()
        lines.append(
            {
                "system": cell(row.name),
                "build CPU min": number((columns.get("build_cpu_seconds") or 0) / 60),
                "build Wh": number(columns.get("build_wh")),
                "parameters": f"{(columns.get('parameters') or 0) / 1e6:.2f} M",
                "weights MB": number(columns.get("weights_mb")),
                "artifact MB": number(columns.get("size_mb")),
                "requests to break even": requests(row.break_even),
                "load s": number(columns.get("load_seconds")),
                "load Wh": number(columns.get("load_wh")),
                f"g CO2/1k ({section.configuration['country']}, {grams:.0f} g/kWh)": number(
                    columns.get("co2_g_per_1k")
                ),
            }
        )
    return tabulate(lines, headers="keys", tablefmt="github", disable_numparse=True)


def seeds_table(section: Section) -> str:
    """How much of a score is the training seed's, in GitHub's Markdown."""
    lines = []
    for row in section.systems:
        if spread := row.seed_scores:
            rates = [each.throughput for each in row.seeds if each.measured]
            scores = [(each.record.score or {})["value"] for each in row.seeds if each.scored]
            lines.append(
                {
                    "system": cell(row.name),
                    "seeds": str(len(scores)),
                    "mean score": f"{spread[0]:.4f}",
                    "standard deviation": f"{spread[1]:.4f}",
                    "scores": " / ".join(f"{each:.4f}" for each in scores),
                    "examples/s": " / ".join(number(each) for each in rates),
                }
            )
    return tabulate(lines, headers="keys", tablefmt="github", disable_numparse=True)


def exits_table(section: Section) -> str:
    """Each system whose examples may leave early, and its other operating points: one curve from
    the slowest to the fastest, in GitHub's Markdown.
    """
    rows = [row for row in section.rows if row.left and row.measured and row.seed is None]
    rows.sort(key=lambda row: (row.curve, row.throughput))
    lines = [
        {
            "system": cell(row.curve),
            "point": cell(row.point) or "-",
            "threshold": str(row.record.system["serve"].get("threshold", "chosen")),
            "left at": " / ".join(f"{share:.1%}" for share in row.left),
            "score": marked_score(row),
            "difference": _difference(row),
            "examples/s": number(row.throughput),
            "speed-up": interval(row.speedup),
            "unpadded": interval(row.unpadded),
            "CPU s/1k": number(row.columns().get("cpu_seconds_per_1k")),
        }
        for row in rows
    ]
    return tabulate(lines, headers="keys", tablefmt="github", disable_numparse=True)


def _line(section: Section, row: Row, energy: str) -> dict[str, str]:
    it, columns = row.record, row.columns()
    place = quote(f"records/{it.session}/{it.task['name']}/{it.scenario}/{row.name}.json")
    line = {"rank": str(row.rank or "-"), "system": f"[{cell(row.name)}]({place})"}
    if it.failure or not it.score:
        return line | {"score": "failed"}
    rate = number(row.throughput if row.measured else None)
    if row.capped:
        rate = f">= {rate}"
    line |= {
        "score": marked_score(row),
        "difference": _difference(row),
        "queries/s" if it.scenario == "server" else "examples/s": rate,
        "speed-up": interval(row.speedup),
        "unpadded": interval(row.unpadded),
    }
    if it.scenario != "offline":
        line |= {
            f"{name} ms": number(columns.get(f"latency_{name}_ms"))
            for name in ("p50", "p90", "p99")
        }
    heads = {"CPU s/1k": "cpu_seconds_per_1k", energy: "energy_wh_per_1k"}
    if energy_measured(it):
        heads["above idle"] = "energy_above_idle_wh_per_1k"
    if it.scenario != "single_stream":
        heads["USD/100M"] = "usd_per_100m"
    heads["memory MB"] = "memory_mb"
    line |= {head: number(columns.get(name)) for head, name in heads.items()}
    return line | {"harness": f"{row.share:.2%}" if row.share is not None else "-"}


def _difference(row: Row) -> str:
    """Against the reference, with the p-value that there is none."""
    if row.compared is None or row.name == row.record.roles["reference"]:
        return "-"
    value, p = row.compared.difference.value, row.compared.p
    return f"{value:+.4f} (p {p:.2f})" if p >= 0.005 else f"{value:+.4f} (p < 0.01)"


def marked_score(row: Row) -> str:
    """`~`: it may be on the other side of the floor; `^`: above the reference beyond chance."""
    return score_text(row.record) + "~" * row.near + "^" * row.above


def score_text(it: Record) -> str:
    """With its standard error, and the metrics that it is the mean of."""
    if not it.score:
        return "-"
    parts = " / ".join(f"{each:.4f}" for each in it.score.get("parts", {}).values())
    return f"{it.score['value']:.4f} ± {it.score['se']:.4f}" + (f" ({parts})" if parts else "")


def energy_head(section: Section) -> str:
    """The head of the energy column says where the figures come from."""
    measured = all(energy_measured(row.record) for row in section.rows)
    return f"Wh/1k ({'measured' if measured else 'modelled'})"
