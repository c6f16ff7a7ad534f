"""The leaderboard as Markdown, CSV and JSON."""

from collections.abc import Sequence

import pandas
from tabulate import tabulate

from harness.leaderboard.formatting import cell, interval, number
from harness.leaderboard.ranking import Section
from harness.leaderboard.row import CSV_COLUMNS, Row
from harness.leaderboard.section import energy_head, score_text, section_tables
from harness.leaderboard.suites import suite_table, whole
from harness.leaderboard.warnings import remarks
from harness.results.record import Record
from harness.tasks.metrics import METRICS
from harness.tasks.registry import all_suites


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


def summary(found: Sequence[Section]) -> str:
    """The overview of the latest session, for the terminal."""
    latest = max(each.started for each in found)
    found = [each for each in found if each.started == latest]
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
                "score": f"failed: {failure['reason']}"[:60] if failure else score_text(row.record),
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


def markdown(found: Sequence[Section], faults: Sequence[str], ladder_section: str = "") -> str:
    """The whole of `results/README.md`.

    Args:
        found: the sections of the board, in order.
        faults: why records were left out.
        ladder_section: the section of the ladder, '' for none.
    """
    parts = [
        "# Leaderboard",
        "",
        "Drawn from the records in `records/` by `wattbench board`; measured by `tox -e bench`. "
        "The same as [a page to sort and filter](index.html) (open it from disk), as "
        "[CSV](leaderboard.csv) and [JSON](leaderboard.json); the "
        "[energy report](energy-report.md).",
        "",
        HOW_TO_READ,
        "",
    ]
    if any(each.scenario == "offline" and each.floor is not None for each in found):
        parts += ["![Score against throughput](pareto.svg)", ""]
    for head, sections_of in whole(found).items():  # above its tasks, each of which is below
        parts += [f"## {head}", "", SUITE, "", suite_table(sections_of, "github"), ""]
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
            parts += [describe_session(section, served), ""]
        if section.scenario == "offline":
            parts += [overview(found, section, "github"), ""]
        seen.add(head)
        described.add(section.session)
        parts += [section_tables(section), ""]
    if ladder_section:
        parts += [ladder_section, ""]
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
    "over the majority class; `~` marks a score whose paired interval crosses that floor, `^` one "
    "above the reference's by more than chance and training seeds explain. A dash: "
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


def describe_session(section: Section, served: bool) -> str:
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
        f"{_command(section, served)}; a single row by the command in its line of leaderboard.csv."
    )


def _command(section: Section, served: bool) -> str:
    """What measures the section again; of a session with `--model` the model stands for itself."""
    it, known = section.rows[0].record, all_suites().get(section.rows[0].record.suite)
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
