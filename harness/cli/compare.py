"""`wattbench compare`."""

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.console import Console
from harness.cli.options import TASK_HELP, Results, parse_percentage, results_folder
from harness.cli.records import find_session, read_sections
from harness.errors import HarnessError
from harness.submissions.project import find_project


def compare(
    console: Console,
    first: Annotated[str, typer.Argument(metavar="A", help="a system, or the session before")],
    second: Annotated[
        str, typer.Argument(metavar="B", help="another system, or the session after")
    ],
    task: Annotated[str, typer.Option(metavar="NAME", help=f"only on this task, {TASK_HELP}")] = "",
    tolerance: Annotated[
        float,
        typer.Option(
            parser=parse_percentage,
            metavar="PERCENT",
            help="changes of time and memory that do not count, however certain",
        ),
    ] = "10%",  # type: ignore[assignment]
    results: Results = "",
) -> int:
    """Compare two systems, or two sessions before and after a change.

    Two systems are compared within the latest session that holds both, on the same examples and
    block by block. Two sessions (names, or folders RECORDS/SESSION of another results folder) are
    compared system by system: speed-ups over the reference, scores on the same examples, memory.
    The exit status is 1 when one became worse beyond noise: Holm's correction over all of them, 5%
    in all, and more than --tolerance.
    """
    from harness.cli.resolve import name_task
    from harness.reports.comparison import compare_systems
    from harness.reports.sessions import compare_sessions

    task = name_task(task)
    records = results_folder(find_project(), results) / "records"
    before, after = find_session(records, first), find_session(records, second)
    if before and after:
        text, is_worse = compare_sessions(
            read_sections(before.parent, before.name),
            read_sections(after.parent, after.name),
            tolerance,
            task,
        )
        console.print_markdown(text)
        return int(is_worse)
    if before or after or "/" in f"{first}{second}":
        raise _unknown_session(second if before else first, records)
    sections = read_sections(records, systems=(first, second))
    console.print_markdown(compare_systems(sections, first, second, task))
    return 0


def _unknown_session(name: str, records: Path) -> HarnessError:
    return HarnessError(
        f"{name!r} is no session: neither a folder of records nor the name of one in {records}. "
        "Name two sessions, or two systems."
    )
