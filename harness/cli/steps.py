"""`wattbench steps`."""

from typing import Annotated

import typer

from harness.cli.console import Console


def steps(
    console: Console,
    step: Annotated[str, typer.Argument(metavar="[STEP]", help="only this one")] = "",
) -> None:
    """List the steps that a recipe may have, with their parameters."""
    from harness.optimize.base import STEP_MODULES, describe_step, get_step

    for name in [step] if step else STEP_MODULES:
        console(describe_step(get_step(name)))
