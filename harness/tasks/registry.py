"""The registry of tasks and suites."""

from pathlib import Path

from harness import extensions
from harness.errors import HarnessError, suggest_name
from harness.tasks import custom, superglue
from harness.tasks.privacyqa import PRIVACYQA
from harness.tasks.sentiment import SENTIMENT
from harness.tasks.suites import SUITES, Suite
from harness.tasks.task import Task


def get_task(name: str) -> Task:
    """Return a task of wattbench or of an extension, or the custom task that a file declares.

    Args:
        name: a task's name, or the path of a `task.toml`.

    Raises:
        HarnessError: there is no such task (the message names the nearest one), or the file has
            faults.
    """
    if name.endswith(".toml"):
        return custom.read_task(Path(name), reserved=all_tasks())
    known = all_tasks()
    if name not in known:
        raise HarnessError(
            f"task {name!r} does not exist. {suggest_name(name, known)} A custom task is named by "
            "the path of its task.toml."
        )
    return known[name]


def get_suite(name: str) -> Suite:
    """Return a suite.

    Raises:
        HarnessError: there is no such suite; the message names the nearest one.
    """
    known = all_suites()
    if name not in known:
        raise HarnessError(f"suite {name!r} does not exist. {suggest_name(name, known)}")
    return known[name]


def builtin_tasks() -> dict[str, Task]:
    """Return the tasks of wattbench itself by name."""
    return {task.name: task for task in (SENTIMENT, PRIVACYQA, *superglue.TASKS)}


def all_tasks() -> dict[str, Task]:
    """Return all tasks by name, those of extensions last.

    Raises:
        HarnessError: an extension cannot be loaded, or has the name of another task.
    """
    builtin = builtin_tasks()
    found = extensions.find_extensions(extensions.TASKS, builtin)
    return builtin | {name: extension.load(Task) for name, extension in found.items()}


def find_task_origin(task: Task) -> str:
    """Return the package and version of an extension's task; '' for any other."""
    if task.path or task.name in builtin_tasks():
        return ""
    extension = extensions.find_extensions(extensions.TASKS).get(task.name)
    return extension.origin if extension else ""


def all_suites() -> dict[str, Suite]:
    """Return all suites by name."""
    return {suite.name: suite for suite in SUITES}
