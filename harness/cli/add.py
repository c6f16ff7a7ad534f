"""`wattbench add`."""

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.board import draw_board
from harness.cli.console import Console
from harness.cli.options import Results, results_folder
from harness.submissions.project import find_project


def add(
    console: Console,
    archive: Annotated[
        Path, typer.Argument(metavar="ARCHIVE", help="records.zip of a kit, or a tar file")
    ],
    results: Results = "",
) -> None:
    """Add the records of a kit to RESULTS/records, and draw the leaderboard.

    Nothing is added if the archive holds anything but records. Sessions that are there already are
    left as they are. Smoke runs go to results/smoke.
    """
    from harness.kit.records import add_records, is_smoke_run

    root = find_project()
    folder = results_folder(root, results, smoke=is_smoke_run(archive))
    sessions = add_records(archive, folder / "records")
    for session in sessions:
        console(f"added: session {session}")
    if not sessions:
        console(f"added: nothing, since {folder / 'records'} has all of its sessions")
    draw_board(folder, console)
