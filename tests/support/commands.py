"""Command lines, read without running the command."""

from collections.abc import Sequence
from typing import Any

import typer

from harness.cli.main import app


def parse_command(arguments: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """Return the name of the command and the values of its parameters.

    Raises an error if that is no command line of `wattbench`.
    """
    name, *rest = arguments
    group: Any = typer.main.get_command(app)
    return name, group.commands[name].make_context(name, rest).params
