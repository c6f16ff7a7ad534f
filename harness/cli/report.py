"""`wattbench report`."""

import sys
from typing import Annotated, Literal

import typer

from harness.cli.console import Console
from harness.cli.options import TASK_HELP, Results, results_folder
from harness.cli.records import read_board, read_sections
from harness.errors import HarnessError
from harness.submissions.project import find_project


def report(
    console: Console,
    kind: Annotated[
        Literal["energy"], typer.Argument(metavar="REPORT", help="which report: energy")
    ],
    style: Annotated[
        Literal["md", "csv", "latex"], typer.Option("--format", help="of the report")
    ] = "md",
    task: Annotated[str, typer.Option(metavar="NAME", help=f"only this task, {TASK_HELP}")] = "",
    suite: Annotated[
        str,
        typer.Option(metavar="NAME", help="the sums over the tasks of this suite, and each task"),
    ] = "",
    session: Annotated[
        str, typer.Option(metavar="SESSION", help="only this session (default: what is shown)")
    ] = "",
    results: Results = "",
) -> None:
    """Print the energy report, for an organiser or a paper.

    For each system and task: watt-hours of the whole evaluation set, loading and answering apart,
    mean watts, duration, CO2 and where the figures come from; and how much less than the reference
    that is. `wattbench board` writes the same to RESULTS/energy-report.md and energy-report.csv.

    --suite superglue prints the report of a shared task: for each system the energy of all tasks
    together, the reduction, and the scores. `wattbench board` writes it to energy-report.md,
    energy-suites.csv and energy-suite.svg.
    """
    from harness.cli.resolve import name_task
    from harness.leaderboard.warnings import SMOKE_RUN
    from harness.reports.energy import render_energy_report, render_suite_report
    from harness.tasks.registry import get_suite

    if task and suite:
        raise HarnessError("give --task NAME for one task, or --suite NAME for a suite.")
    records = results_folder(find_project(), results) / "records"
    if session and not (records / session).is_dir():
        raise HarnessError(f"{records / session}: there is no such session.")
    task = name_task(task)
    shown = read_sections(records, session) if session else read_board(records)
    sections = [section for section in shown if task in ("", section.task["name"])]
    if suite:
        text = render_suite_report(sections, style, get_suite(suite)).rstrip()
    else:
        text = render_energy_report(sections, style, task).rstrip()
    if style == "md":
        console.print_markdown(text)
    else:
        console(text)
        if any(section.is_smoke for section in sections):  # in Markdown the report says so
            print(f"wattbench: {SMOKE_RUN}", file=sys.stderr)
