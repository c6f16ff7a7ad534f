"""The registry of tasks and suites."""

from pathlib import Path
from typing import TypeVar

from harness.errors import HarnessError
from harness.schema import nearest
from harness.tasks import custom, superglue
from harness.tasks.privacyqa import PRIVACYQA
from harness.tasks.sentiment import SENTIMENT
from harness.tasks.suites import SUITES, Suite
from harness.tasks.task import Task

T = TypeVar("T")


def get_task(name: str) -> Task:
    """Look up a built-in task, or read the declaration of a custom one.

    Args:
        name: a task's name, or the path of a `task.toml`.

    Raises:
        HarnessError: there is no such task (the message names the nearest one), or the file has
            faults.
    """
    if name.endswith(".toml"):
        return custom.read(Path(name), reserved=builtin_tasks())
    return _get("task", name, builtin_tasks())


def get_suite(name: str) -> Suite:
    """Look up a suite.

    Raises:
        HarnessError: there is no such suite; the message names the nearest one.
    """
    return _get("suite", name, all_suites())


def builtin_tasks() -> dict[str, Task]:
    """All built-in tasks by name."""
    return {get_task.name: get_task for get_task in (SENTIMENT, PRIVACYQA, *superglue.TASKS)}


def all_suites() -> dict[str, Suite]:
    """All suites by name."""
    return {get_suite.name: get_suite for get_suite in SUITES}


def _get(kind: str, name: str, known: dict[str, T]) -> T:
    if name not in known:
        raise HarnessError(f"{kind} {name!r} does not exist. {nearest(name, known)}")
    return known[name]
