"""`wattbench steps`."""

from typing import Annotated

import typer

from harness.cli.console import Console


def steps(
    console: Console,
    step: Annotated[str, typer.Argument(metavar="[STEP]", help="only this one")] = "",
) -> None:
    """List the steps that a recipe may have, with their parameters and the package of each.

    The guide "Add a step, engine or task" of the documentation says how a package adds some.
    """
    from harness.optimize.base import describe_step, get_step, get_step_names

    for name in [step] if step else get_step_names():
        console(describe_step(get_step(name)))
