"""`wattbench board`."""

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.console import Console
from harness.cli.options import Results, results_folder
from harness.cli.records import find_session, read_sections, report_faults
from harness.errors import HarnessError
from harness.submissions.project import find_project


def board(
    console: Console,
    session: Annotated[
        str,
        typer.Option(metavar="SESSION", help="print one session alone, and write nothing"),
    ] = "",
    history: Annotated[
        str,
        typer.Option(
            metavar="SYSTEM",
            help="print a system's score and speed-ups over sessions, and write nothing",
        ),
    ] = "",
    results: Results = "",
) -> None:
    """Draw tables and plots from the records in RESULTS/records.

    Writes README.md, leaderboard.csv, leaderboard.json, index.html (the same as a page to sort and
    filter), energy-report.md, energy-report.csv, pareto.svg and ladder.svg. A record that cannot be
    read is named and left out.

    For each machine, configuration, task, scenario and reference every system is shown with its
    latest comparable row, whatever session it is from. A newer row takes the place of an older one
    if it has at least five blocks or as many, its custom code was isolated no worse, and its
    session has the reference; otherwise it is listed as newer, but not comparable.
    """
    root = find_project()
    folder = results_folder(root, results)
    if session and history:
        raise HarnessError("--session and --history exclude each other. Give one of them.")
    if session:
        _print_session(folder / "records", session, console)
    elif history:
        _print_history(folder / "records", history, console)
    else:
        draw_board(folder, console)


def draw_board(results: Path, console: Console) -> None:
    """Draw the leaderboard into a folder from its records, and print its summary."""
    from harness.leaderboard.tables import format_summary
    from harness.reports.results_folder import write_board
    from harness.submissions.staleness import StalenessCheck

    drawn = write_board(results, StalenessCheck(find_project()).find_state)
    report_faults(drawn.faults)
    console.print_markdown(format_summary(drawn.sections))
    console(f"drawn in {results}: {', '.join(drawn.files)}")


def _print_session(records: Path, name: str, console: Console) -> None:
    """Print the summary of one session."""
    from harness.leaderboard.tables import format_summary

    folder = find_session(records, name)
    if folder is None:
        raise HarnessError(
            f"{name!r} is no session: neither a folder of records nor the name of one in "
            f"{records}. The tables of the board have the names in their column `session`."
        )
    console.print_markdown(format_summary(read_sections(folder.parent, folder.name)))


def _print_history(records: Path, system: str, console: Console) -> None:
    """Print all measurements of a system."""
    from harness.leaderboard.board import load_histories
    from harness.leaderboard.history_table import render_histories

    histories, known, faults = load_histories(records, system)
    report_faults(faults)
    console.print_markdown(render_histories(histories, system, known))
