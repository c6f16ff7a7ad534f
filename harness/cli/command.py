"""What all commands share: options declared as dataclasses, and how a failure ends."""

import errno
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

REMEDIES = {
    errno.EMFILE: "This process may not open more files: raise the limit (ulimit -n).",
    errno.ENFILE: "The machine has no more open files: end programs, or raise fs.file-max.",
    errno.EAGAIN: "No more processes or threads may be started: raise the limit (ulimit -u, or the "
    "pids limit of the container).",
    errno.ENOMEM: "Free some memory, or raise the limit (ulimit -v, or that of the container).",
    errno.ENOSPC: "Free some space, also where temporary files are (TMPDIR).",
}

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
    except PermissionError as error:
        console.close()
        print(
            f"wattbench: {error.filename}: permission denied. Change its permissions, or choose "
            "another path.",
            file=sys.stderr,
        )
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
    except (OSError, RuntimeError, MemoryError) as error:
        if not (remedy := _find_remedy(error)):
            raise
        console.close()
        file = f"{error.filename}: " if isinstance(error, OSError) and error.filename else ""
        reason = getattr(error, "strerror", None) or str(error) or "out of memory"
        print(f"wattbench: {file}{reason}. {remedy}", file=sys.stderr)
        return 2
    finally:
        console.close()


def _find_remedy(error: Exception) -> str:
    """Return what to do about a limit of the machine, which any line may reach; '' for others."""
    if isinstance(error, OSError) and error.errno in REMEDIES:
        return REMEDIES[error.errno]
    if isinstance(error, MemoryError):
        return REMEDIES[errno.ENOMEM]
    return REMEDIES[errno.EAGAIN] if str(error) == "can't start new thread" else ""


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
