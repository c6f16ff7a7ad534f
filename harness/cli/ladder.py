"""`wattbench ladder`."""

from typing import Annotated

import typer

from harness.cli.console import Console
from harness.cli.options import Results, results_folder
from harness.cli.records import read_sections
from harness.submissions.project import find_project


def ladder(
    console: Console,
    suite: Annotated[str, typer.Option(metavar="NAME", help="whose ladder")] = "quick",
    results: Results = "",
) -> None:
    """Print what each rung of the suite's ladder adds.

    The table of the FastFormers paper (Kim & Hassan 2020, Table 3): the time for the whole set, how
    much faster each rung is than the first and than the one before, its score and its price. All
    rungs come from the latest session that holds them all; `bench --ladder` measures one.
    """
    from harness.reports.ladder import render_ladder
    from harness.tasks.registry import get_suite

    chosen = get_suite(suite)
    records = results_folder(find_project(), results) / "records"
    console.print_markdown(render_ladder(read_sections(records, systems=chosen.ladder), chosen))
