"""The leaderboard as Markdown and as a data frame, and its overview in the terminal."""

from collections.abc import Sequence

import pandas

from harness.leaderboard.columns import CSV_COLUMNS, find_columns, get_figures
from harness.leaderboard.formatting import (
    escape_cell,
    format_fingerprint,
    format_score,
    format_table,
    round_figure,
)
from harness.leaderboard.ranking import Section
from harness.leaderboard.row import Row
from harness.leaderboard.section import render_section
from harness.leaderboard.suites import find_complete_suites, format_suite_table
from harness.leaderboard.warnings import find_warnings
from harness.results.record import Record
from harness.tasks.metrics import METRICS
from harness.tasks.registry import all_suites


def build_frame(sections: Sequence[Section]) -> pandas.DataFrame:
    """Return plain numbers: a line for each machine, configuration, task, scenario and system."""
    lines = []
    for section in sections:
        for row in section.rows:
            lines.append(get_figures(row))
    frame = pandas.DataFrame(lines, columns=list(CSV_COLUMNS))
    for name in ("rank", "rounds", "parameters"):
        frame[name] = frame[name].astype("Int64")
    round_columns(frame)
    return frame


def round_columns(frame: pandas.DataFrame) -> None:
    """Round the columns of floating-point numbers to the digits of the CSV files, in place."""
    for name in frame.select_dtypes("float"):
        frame[name] = [round_figure(value) for value in frame[name]]


def format_summary(sections: Sequence[Section]) -> str:
    """Return the overview of the latest session for the terminal, with its warnings."""
    latest = max(section.started for section in sections)
    sections = [section for section in sections if section.started == latest]
    parts = [
        f"{section.task['name']}, {section.configuration['name']}\n"
        f"{format_overview(sections, section, 'simple')}"
        for section in sections
        if section.scenario == "offline"
    ]
    parts += [
        f"{heading}\n{format_suite_table(tasks, 'simple')}"
        for heading, tasks in find_complete_suites(sections).items()
    ]
    warnings = [
        f"\nwarning: {section.scenario}: {text}"
        for section in sections
        for text in find_warnings(section)
    ]
    return "\n\n".join(parts) + "".join(warnings)


def format_overview(sections: Sequence[Section], offline: Section, style: str) -> str:
    """Return all divisions of one offline section in one table.

    Args:
        sections: the sections of the board; `single_stream` of the same session and task adds the
            latency.
        offline: the section that is shown.
        style: one of tabulate's formats.
    """
    single_stream = {
        row.name: row
        for section in sections
        if section.scenario == "single_stream" and section.session == offline.session
        for row in section.rows
        if section.task == offline.task
    }
    rows = sorted(offline.system_rows, key=_fastest_qualified_first)
    scenarios = ("offline", "single_stream")
    columns = offline.get_headings(find_columns("overview", rows, scenarios))
    lines = []
    for row in rows:
        failure = row.record.failure
        score = f"failed: {failure['reason']}"[:60] if failure else format_score(row.record)
        line = {
            "system": row.name,
            "division": row.record.system["division"],
            "score": score,
        }
        for heading, column in columns.items():
            shown = row if "offline" in column.scenarios else single_stream.get(row.name)
            line[heading] = column.text(shown) if shown else "-"
        if style == "github":
            line = {heading: escape_cell(text) for heading, text in line.items()}
        lines.append(line)
    return format_table(lines, style)


def _fastest_qualified_first(row: Row) -> tuple[bool, float]:
    return not row.qualified, -(row.speedup.value if row.speedup else 0.0)


def render_leaderboard(
    sections: Sequence[Section], faults: Sequence[str], ladder_section: str = ""
) -> str:
    """Return `results/README.md`.

    Args:
        sections: the sections of the board, in order.
        faults: the messages about records that were left out.
        ladder_section: the Markdown of the ladder, '' for none.
    """
    parts = [
        "# Leaderboard",
        "",
        "Rendered from the records in `records/` by `wattbench board`, which were measured by "
        "`tox -e bench`. The same figures are in [a page that can be sorted and filtered]"
        "(index.html) (works offline), [CSV](leaderboard.csv) and [JSON](leaderboard.json); see "
        "also the [energy report](energy-report.md).",
        "",
        HOW_TO_READ,
        "",
    ]
    if any(section.scenario == "offline" and section.floor is not None for section in sections):
        parts += ["![Score against throughput](pareto.svg)", ""]
    for heading, tasks in find_complete_suites(sections).items():  # above the single tasks
        parts += [f"## {heading}", "", SUITE, "", format_suite_table(tasks, "github"), ""]
    headings: set[str] = set()
    sessions: set[str] = set()
    for section in sections:
        configuration, machine = section.configuration["name"], section.machine
        heading = f"## {section.task['name']} on {configuration}, {machine}"
        if heading not in headings:
            parts += [heading, ""]
        if heading not in headings or section.session not in sessions:
            parts += [_describe_session(section, _has_server(sections, section.session)), ""]
        if section.scenario == "offline":
            parts += [format_overview(sections, section, "github"), ""]
        headings.add(heading)
        sessions.add(section.session)
        parts += [render_section(section), ""]
    if ladder_section:
        parts += [ladder_section, ""]
    if faults:
        parts += ["## Records that could not be read", ""]
        parts += [*(f"- {escape_cell(fault)}" for fault in faults), ""]
    return "\n".join(parts).rstrip() + "\n"


HOW_TO_READ = """How to read the tables (docs/methodology/measurement.md has all rules):

- **score**: with its standard error. `~`: the paired confidence interval includes the quality
  floor. `^`: above the reference by more than chance and training seeds explain.
- **rank**: within the division, of the systems that keep at least 95% of the reference's gain over
  the majority class (the quality floor).
- **difference**: the score less the reference's on the same examples, with the p-value that there
  is no difference.
- **speed-up**, **unpadded**: the geometric mean of the ratios within the blocks of one session,
  with its 95% confidence interval (Student t), over the padded and over the unpadded reference.
- **queries/s** in *server*: the highest rate of random arrivals whose p99 is within the task's
  latency bound, searched in each block to 5%.
- **Wh/1k**: where it is modelled it is proportional to CPU time, and no energy saving is claimed.
- **harness share**: the share of the time that the harness itself takes.
- A dash: too few queries for the percentile, not ranked, or not known."""


SUITE = (
    "The mean of the tasks' scores, where a task with two metrics counts with their mean, as in "
    "SuperGLUE (Wang et al. 2019), and the geometric mean of the tasks' speed-ups, block by block. "
    "Systems above the quality floor of every task that has one are ranked."
)


def _has_server(sections: Sequence[Section], session: str) -> bool:
    return any(section.scenario == "server" and section.session == session for section in sections)


def _describe_session(section: Section, has_server: bool) -> str:
    """One paragraph: session, machine, configuration, software, and how to reproduce it."""
    record, config = section.rows[0].record, section.configuration
    software = ", ".join(
        f"{name} {version}"
        for name, version in record.software.items()
        if name in ("python", "torch", "onnxruntime", "wattbench")
    )
    blocks = max((window.block for row in section.rows for window in row.record.rounds), default=0)
    examples = record.score["examples"] if record.score else 0
    return (
        f"Session `{section.session}`: {_count(blocks, 'block')}, {_count(examples, 'example')} "
        f"({_describe_metric(record)}). Machine: {format_fingerprint(section.fingerprint)}. "
        f"Configuration `{config['name']}`: {config['title']}, {config['usd_per_hour']:g} USD per "
        f"hour ({config['price_source']}, {config['price_date']}). Software: {software}. "
        f"To reproduce: {_session_command(section, has_server)}; `leaderboard.csv` has the command "
        "of each row."
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _session_command(section: Section, has_server: bool) -> str:
    """The command that measures the section again; a model given with --model is `MODEL`."""
    record = section.rows[0].record
    suite = all_suites().get(record.suite)
    folders = {row.name: str(row.record.system["folder"]) for row in section.system_rows}
    reference = section.roles["reference"]
    custom_model = folders.get(reference, "").startswith("models/")
    parts = ["wattbench run", "--model MODEL" if custom_model else f"--suite {record.suite}"]
    if custom_model or (suite and len(suite.tasks) > 1):
        parts.append(f"--task {record.task['name']}")
    parts.append(f"--configuration {record.configuration['name']}")
    if not custom_model and set(folders) - set(suite.systems if suite else ()):
        parts.append("--all")
    if has_server:
        parts.append("--scenario server")
    command = f"`{' '.join(parts)}`"
    return f"{command}, where `MODEL` is the path of {reference}" if custom_model else command


def _describe_metric(record: Record) -> str:
    """`accuracy`, or `mean of accuracy and macro-F1`, in the order of the score's parts."""
    parts = list((record.score or {}).get("parts", {}))
    averaged = len(METRICS[record.task["metric"]].parts)
    if not parts:
        return str(record.task["metric"])
    text = f"mean of {' and '.join(parts[:averaged])}" if averaged > 1 else parts[0]
    return text + "".join(f"; also {name}" for name in parts[averaged:])
