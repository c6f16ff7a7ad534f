"""The leaderboard as Markdown, CSV and JSON."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import pandas
from tabulate import tabulate

from harness.board.figures import cell, interval, number
from harness.board.ladder import ladders
from harness.board.noise import remarks
from harness.board.plots import pareto
from harness.board.ranking import (
    CSV_COLUMNS,
    Row,
    Section,
    energy_measured,
    load_rows,
    sections,
)
from harness.board.suites import suite_table, whole
from harness.errors import HarnessError
from harness.record import Record
from harness.store import write_atomically
from harness.tasks.metrics import METRICS
from harness.tasks.task import suites

DIVISIONS = {
    "closed": "Closed division: the reference's own weights, only executed differently",
    "open": "Open division",
    "baseline": "Baselines",
}


def write_board(results: Path) -> list[str]:
    """Render everything below `results` from its records.

    Returns: the faults of records that were left out.

    Raises: HarnessError if there is no record that can be read.
    """
    rows, faults = load_rows(results / "records")
    if not rows:
        raise HarnessError(
            "\n".join(
                [*faults, f"{results / 'records'}: there is no record to draw. Run: wattbench run"]
            )
        )
    found = sections(rows)
    table = frame(found)
    text = io.StringIO()
    table.to_csv(text, index=False, lineterminator="\n")
    write_atomically(results / "leaderboard.csv", text.getvalue().encode())
    lines = json.loads(table.to_json(orient="records"))
    write_atomically(results / "leaderboard.json", (json.dumps(lines, indent=1) + "\n").encode())
    write_atomically(results / "README.md", markdown(found, faults).encode())
    offline = [each for each in found if each.scenario == "offline" and each.floor is not None]
    if offline:
        first = suites()["quick"].tasks
        shown = max(offline, key=lambda each: (each.task["name"] in first, each.started))
        write_atomically(results / "pareto.svg", pareto(shown))
    return faults


def frame(found: Sequence[Section]) -> pandas.DataFrame:
    """One line per (machine, configuration, task, scenario, system), plain numbers."""
    lines = []
    for section in found:
        for row in section.rows:
            failure = row.record.failure
            lines.append(row.columns() | {"failure": failure["reason"] if failure else None})
    table = pandas.DataFrame(lines, columns=list(CSV_COLUMNS))
    for name in ("rank", "rounds", "parameters"):
        table[name] = table[name].astype("Int64")
    for column in table.select_dtypes("float"):
        table[column] = [float(f"{value:.6g}") for value in table[column]]
    return table


def summary(rows: Sequence[Row]) -> str:
    """The overview of the latest session, for the terminal."""
    latest = max(row.record.started for row in rows)
    found = [each for each in sections(rows) if each.started == latest]
    parts = [
        f"{each.task['name']}, {each.configuration['name']}\n{overview(found, each, 'simple')}"
        for each in found
        if each.scenario == "offline"
    ]
    noticed = [f"{each.scenario}: {one}" for each in found for one in remarks(each)]
    parts += [f"{head}\n{suite_table(each, 'simple')}" for head, each in whole(found).items()]
    return "\n\n".join(parts) + "".join(f"\nwarning: {each}" for each in noticed)


def overview(found: Sequence[Section], offline: Section, style: str) -> str:
    """All divisions of one offline section in one table, with the latency of `single_stream`.

    style: one of tabulate's formats.
    """
    single = {
        row.name: row.columns()
        for each in found
        if each.scenario == "single_stream" and each.session == offline.session
        for row in each.rows
        if each.task == offline.task
    }
    lines = []
    for row in sorted(offline.systems, key=_fastest_qualified_first):
        failure, columns = row.record.failure, row.columns()
        lines.append(
            {
                "system": row.name,
                "division": row.record.system["division"],
                "score": f"failed: {failure['reason']}"[:60] if failure else _score(row.record),
                "examples/s": number(row.throughput if row.measured else None),
                "speed-up": interval(row.speedup),
                "unpadded": interval(row.unpadded),
                "p50 ms": number(single.get(row.name, {}).get("latency_p50_ms")),
                energy_head(offline): number(columns.get("energy_wh_per_1k")),
                "USD/100M": number(columns.get("usd_per_100m")),
                "memory MB": number(columns.get("memory_mb")),
            }
        )
    if style == "github":
        lines = [{key: cell(value) for key, value in line.items()} for line in lines]
    return tabulate(lines, headers="keys", tablefmt=style, disable_numparse=True)


def _fastest_qualified_first(row: Row) -> tuple[bool, float]:
    return not row.qualified, -(row.speedup.value if row.speedup else 0.0)


def energy_head(section: Section) -> str:
    """The head of the energy column says where the figures come from."""
    measured = all(energy_measured(row.record) for row in section.rows)
    return f"Wh/1k ({'measured' if measured else 'modelled'})"


def markdown(found: Sequence[Section], faults: Sequence[str]) -> str:
    """The whole of `results/README.md`."""
    parts = [
        "# Leaderboard",
        "",
        "Drawn from the records in `records/` by `wattbench board`; measured by `tox -e bench`.",
        "",
        HOW_TO_READ,
        "",
    ]
    if any(each.scenario == "offline" and each.floor is not None for each in found):
        parts += ["![Score against throughput](pareto.svg)", ""]
    seen: set[str] = set()
    described: set[str] = set()
    for section in found:
        head = f"## {section.task['name']} on {section.configuration['name']}, {section.machine}"
        if head not in seen:
            parts += [head, ""]
        if head not in seen or section.session not in described:
            served = any(
                each.scenario == "server" and each.session == section.session for each in found
            )
            parts += [about(section, served), ""]
        if section.scenario == "offline":
            parts += [overview(found, section, "github"), ""]
        seen.add(head)
        described.add(section.session)
        parts += [section_tables(section), ""]
    for head, sections_of in whole(found).items():
        parts += [f"## {head}", "", SUITE, "", suite_table(sections_of, "github"), ""]
    if rungs := ladders([row for section in found for row in section.rows], "github"):
        parts += ["## The ladder: what each optimization adds", "", LADDER, "", rungs, ""]
    if faults:
        parts += [
            "## Records that could not be read",
            "",
            *(f"- {cell(fault)}" for fault in faults),
            "",
        ]
    return "\n".join(parts).rstrip() + "\n"


HOW_TO_READ = (
    "Speed-ups are geometric means of ratios within blocks of one session, with their 95% interval "
    "(Student t), against the padded reference and against the "
    "unpadded one. *Harness* is the harness' own share of the time. A system is ranked within its "
    "division where it keeps at least 95% of the reference's gain "
    "over the majority class; `~` marks a score whose paired interval crosses that floor. A dash: "
    "not enough queries for the percentile, or not ranked. "
    "Energy is modelled where the column says so: it is then proportional to CPU time, and no "
    "claim of an energy saving. *Difference* is the score less the reference's on the same "
    "examples, with the p-value that there is none. In *server* the rate is the highest of random "
    "arrivals whose p99 is within the task's latency bound, found anew in each block to 5%. "
    "docs/measurement.md has every rule."
)


SUITE = (
    "The mean of the tasks' scores, where a task with two metrics counts with their mean, as in "
    "SuperGLUE (Wang et al. 2019); and the geometric mean of the tasks' speed-ups, block by block. "
    "Ranked are systems above the floor of every task that has one."
)


LADDER = (
    "Printed by `wattbench ladder`, as in Table 3 of Kim & Hassan (2020): the time for the whole "
    "set, `offline`, batch size 1; the speed-up over the first rung, and of each step over the one "
    "before. A rung whose score is below the floor says so."
)


def about(section: Section, served: bool) -> str:
    """One paragraph: session, machine, configuration, software. served: whether the session also
    played the `server` scenario.
    """
    it, fields = section.rows[0].record, section.fingerprint
    config = section.configuration
    quota = f", quota {fields['quota']:g} cores" if fields["quota"] else ""
    software = ", ".join(
        f"{name} {version}"
        for name, version in it.software.items()
        if name in ("python", "torch", "onnxruntime", "wattbench")
    )
    count = it.score["examples"] if it.score else 0
    return (
        f"Session `{section.session}`, {_blocks(section)} "
        f"blocks, {count} examples "
        f"({_metric(it)}). {fields['cpu']}, {fields['cores']} cores{quota}, "
        f"{fields['memory_gb']:g} GiB, {fields['system']} {fields['kernel']}, "
        f"isolation: {fields['isolation']}. Configuration `{config['name']}`: {config['title']}, "
        f"{config['usd_per_hour']:g} USD an hour "
        f"({config['price_source']}, {config['price_date']}). {software}. Measured again by "
        f"{_command(section, served)}."
    )


def _command(section: Section, served: bool) -> str:
    """What measures the section again; of a session with `--model` the model stands for itself."""
    it, known = section.rows[0].record, suites().get(section.rows[0].record.suite)
    systems = {row.name: str(row.record.system["folder"]) for row in section.systems}
    reference = it.roles["reference"]
    own = systems.get(reference, "").startswith("models/")
    parts = ["wattbench run", "--model MODEL" if own else f"--suite {it.suite}"]
    if own or (known and len(known.tasks) > 1):
        parts.append(f"--task {it.task['name']}")
    parts.append(f"--configuration {it.configuration['name']}")
    if not own and set(systems) - set(known.systems if known else ()):
        parts.append("--all")
    if served:
        parts.append("--scenario server")
    where = f", `MODEL` being where {reference} lies" if own else ""
    return f"`{' '.join(parts)}`{where}"


def _metric(it: Record) -> str:
    """`accuracy`, or `mean of accuracy and macro-F1`, as the parts stand in the score."""
    shown = list((it.score or {}).get("parts", {}))
    counted = len(METRICS[it.task["metric"]].parts)
    if not shown:
        return str(it.task["metric"])
    head = f"mean of {' and '.join(shown[:counted])}" if counted > 1 else shown[0]
    return head + "".join(f"; beside it {each}" for each in shown[counted:])


def _blocks(section: Section) -> int:
    return max((each.block for row in section.rows for each in row.record.rounds), default=0)


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
    if section.scenario == "offline":
        parts += ["**Building, carrying and loading**", "", burden_table(section), ""]
    failed = [row for row in section.rows if row.record.failure]
    parts += [
        f"- **{row.name} failed**: {cell((row.record.failure or {})['reason'])}" for row in failed
    ]
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
                "load s": number(columns.get("load_seconds")),
                "load Wh": number(columns.get("load_wh")),
                f"g CO2/1k ({section.configuration['country']}, {grams:.0f} g/kWh)": number(
                    columns.get("co2_g_per_1k")
                ),
            }
        )
    return tabulate(lines, headers="keys", tablefmt="github", disable_numparse=True)


def exits_table(section: Section) -> str:
    """Each system whose examples may leave early, and its other operating points: one curve from
    the slowest to the fastest, in GitHub's Markdown.
    """
    rows = [row for row in section.rows if row.left and row.measured]
    rows.sort(key=lambda row: (row.curve, row.throughput))
    lines = [
        {
            "system": cell(row.curve),
            "point": cell(row.point) or "-",
            "threshold": str(row.record.system["serve"].get("threshold", "chosen")),
            "left at": " / ".join(f"{share:.1%}" for share in row.left),
            "score": _score(row.record) + ("~" if row.near else ""),
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
        "score": _score(it) + ("~" if row.near else ""),
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


def _score(it: Record) -> str:
    """With its standard error, and the metrics that it is the mean of."""
    if not it.score:
        return "-"
    parts = " / ".join(f"{each:.4f}" for each in it.score.get("parts", {}).values())
    return f"{it.score['value']:.4f} ± {it.score['se']:.4f}" + (f" ({parts})" if parts else "")
