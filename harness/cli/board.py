"""`wattbench board`."""

from pathlib import Path

from harness.cli.console import Console
from harness.cli.options import Results, results_folder
from harness.cli.records import report_faults
from harness.submissions.project import find_project


def board(console: Console, results: Results = "") -> None:
    """Draw tables and plots from the records in RESULTS/records.

    Writes README.md, leaderboard.csv, leaderboard.json, index.html (the same as a page to sort and
    filter), energy-report.md, energy-report.csv, pareto.svg and ladder.svg. A record that cannot be
    read is named and left out. Of several sessions of one machine and configuration the latest that
    holds the reference is shown.
    """
    draw_board(results_folder(find_project(), results), console)


def draw_board(results: Path, console: Console) -> None:
    """Draw the leaderboard into a folder from its records, and print its summary."""
    from harness.leaderboard.tables import format_summary
    from harness.reports.results_folder import write_board

    drawn = write_board(results)
    report_faults(drawn.faults)
    console.print_markdown(format_summary(drawn.sections))
    console(f"drawn in {results}: {', '.join(drawn.files)}")
