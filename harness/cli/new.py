"""`wattbench new`."""

import os
from typing import Annotated

import typer

from harness.cli.console import Console
from harness.submissions.project import find_project


def new(
    console: Console,
    name: Annotated[str, typer.Argument(metavar="NAME", help="of the submission and its folder")],
    origin: Annotated[str, typer.Option("--from", metavar="SYSTEM", help="copy this system")] = "",
    python: Annotated[bool, typer.Option("--python", help="a custom Python class")] = False,
    program: Annotated[bool, typer.Option("--command", help="a custom program")] = False,
) -> None:
    """Write the folder of a new submission, to be filled in.

    Writes submissions/NAME with a commented manifest and a README to fill in: a recipe over the
    reference, a copy of another system (--from), or custom code, a Python class (--python) or any
    program (--command), that answers at once, if badly.
    The guide "Add a submission" of the documentation continues from there.
    """
    from harness.submissions.scaffold import create_submission

    if sum((bool(origin), python, program)) > 1:
        raise typer.BadParameter("only one of --from, --python and --command can be used")
    custom = "module" if python else "command" if program else ""
    folder = os.path.relpath(create_submission(name, find_project(), origin, custom))
    console(f"written: {folder}. Fill in its README.md, then: wattbench check {folder}")
