"""What all commands share: options declared as dataclasses, and how a failure ends."""

import functools
import inspect
import sys
from collections.abc import Callable
from dataclasses import MISSING, Field, fields, is_dataclass
from inspect import Parameter
from pathlib import Path
from typing import Any, get_type_hints

import typer

from harness.cli.console import Console
from harness.cli.streams import OutputError, report_write_error
from harness.errors import HarnessError

Action = Callable[..., int | None] | Callable[..., None]


def command(action: Action) -> Callable[..., None]:
    """Turn an action into a function that typer takes, and that ends with its exit status.

    A parameter of `action` whose type is a dataclass becomes one option for each of its fields, so
    that commands share options; a parameter of type `Console` becomes none and is filled in.
    Everything else, the docstring (the help text) among it, typer reads as usual.

    The exit status is what `action` returns (None: 0), 2 where the user can fix what went wrong,
    and 130 after Ctrl-C.
    """
    hints = get_type_hints(action, include_extras=True)
    hints.pop("return", None)

    @functools.wraps(action)
    def run(**values: Any) -> None:
        console = Console()
        arguments: dict[str, Any] = {}
        for name, hint in hints.items():
            if hint is Console:
                arguments[name] = console
            elif isinstance(hint, type) and is_dataclass(hint):
                arguments[name] = hint(**{key.name: values[key.name] for key in fields(hint)})
            elif isinstance(values[name], Path):
                from harness.store.cache import expand_home

                arguments[name] = expand_home(values[name])
            else:
                arguments[name] = values[name]
        if status := _run(action, arguments, console):
            raise typer.Exit(status)

    run.__signature__ = inspect.Signature(_parameters(action, hints))  # type: ignore[attr-defined]
    return run


def _run(action: Action, arguments: dict[str, Any], console: Console) -> int:
    try:
        return action(**arguments) or 0
    except HarnessError as error:
        console.close()
        print(f"wattbench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        console.close()
        print(
            "wattbench: interrupted. What is built is kept; the same command goes on from there.",
            file=sys.stderr,
        )
        return 130
    except OutputError as error:
        return report_write_error(error)
    finally:
        console.close()


def _parameters(action: Action, hints: dict[str, Any]) -> list[Parameter]:
    parameters = []
    for name, parameter in inspect.signature(action).parameters.items():
        hint = hints[name]
        if hint is Console:
            continue
        if not is_dataclass(hint):
            parameters.append(
                parameter.replace(kind=Parameter.KEYWORD_ONLY, annotation=hint),
            )
            continue
        types = get_type_hints(hint, include_extras=True)
        parameters += [
            Parameter(
                field.name,
                Parameter.KEYWORD_ONLY,
                default=_default(field),
                annotation=types[field.name],
            )
            for field in fields(hint)
        ]
    return parameters


def _default(field: "Field[Any]") -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()
