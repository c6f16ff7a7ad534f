"""Systems by name or folder, and the reference systems that every session has."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from harness.errors import HarnessError, suggest_name
from harness.store.cache import expand_home
from harness.submissions.checkpoint import find_model_folder
from harness.submissions.manifest import find_systems, read_system
from harness.submissions.project import describe_places
from harness.submissions.system import System
from harness.tasks.suites import Suite
from harness.tasks.task import Task

NULL_SYSTEM = "null"
"""The system without a model: its time is the overhead of the harness."""


def get_system(name: str, root: Path) -> System:
    """Read one system.

    Args:
        name: its name, or the path of its folder.
        root: the project.

    Raises:
        HarnessError: there is no such system; the message names the nearest one.
    """
    return read_system(find_folder(name, find_systems(root), root), root)


def find_folder(name: str, folders: Mapping[str, Path], root: Path) -> Path:
    """Return the folder of a system.

    Args:
        name: its name, or the path of its folder; also the name of a system that was measured with
            --model.
        folders: folders of the known systems, by name.
        root: the folder that they were found in, for the message.

    Raises:
        HarnessError: there is no such system; the message names the nearest one.
    """
    if "/" in name and (expand_home(name) / "submission.toml").is_file():
        return expand_home(name).resolve()  # records have the names of it and its parent
    if "/" in name and (expand_home(name) / "config.json").is_file():
        raise HarnessError(
            f"{name} is a model, not a system. Measure it first (wattbench run --model), then name "
            "one of its systems as the table does."
        )
    if name not in folders and (folder := find_model_folder(name)):
        return folder
    if name not in folders:
        raise HarnessError(
            f"system {name!r} does not exist in {describe_places(root)}. "
            f"{suggest_name(name, folders)}"
        )
    return folders[name]


def check_device(systems: Iterable[System], device: str) -> None:
    """Check that systems can be measured under a configuration with this device.

    Raises:
        HarnessError: one of them needs a GPU.
    """
    for system in systems:
        if not system.fits_device(device):
            raise HarnessError(
                f"system {system.name!r} needs a GPU configuration. Use --configuration gpu-1."
            )


def check_tasks(systems: Iterable[System], tasks: Sequence[Task]) -> None:
    """Check that each system declares one of the tasks.

    Raises:
        HarnessError: one of them declares none, so that it would be left out.
    """
    for system in systems:
        if not any(system.declares_task(task) for task in tasks):
            names = ", ".join(task.name for task in tasks)
            raise HarnessError(
                f"{system.name} does not declare {names}. Choose one of its tasks: "
                f"{' '.join(f'--task {address}' for address in system.get_task_addresses())}"
            )


def add_references(
    systems: Sequence[System],
    suite: Suite,
    root: Path,
    folders: Mapping[str, Path] | None = None,
) -> list[System]:
    """Return the systems of a session: those named, then the references that are not among them.

    The references are the suite's reference, its unpadded reference, and the null system. Every
    session measures them, because every ratio is taken within one session.

    Args:
        systems: the systems to measure; one that is named twice is measured once.
        suite: names the references.
        root: the project.
        folders: folders of the known systems, by name (default: those below `root`).

    Raises:
        HarnessError: a reference does not exist, or two folders are called the same.
    """
    known = find_systems(root) if folders is None else folders
    by_folder = {system.folder.resolve(): system for system in systems}
    for name in (suite.reference, suite.unpadded_reference, NULL_SYSTEM):
        folder = find_folder(name, known, root)
        if folder.resolve() not in by_folder:
            by_folder[folder.resolve()] = read_system(folder, root)
    named: dict[str, System] = {}
    for system in by_folder.values():  # file names of records may ignore case
        namesake = named.setdefault(system.name.casefold(), system)
        if namesake is not system:
            raise HarnessError(
                f"two systems are called {system.name}: {namesake.folder} and {system.folder}. "
                "Rename one of these folders."
            )
    return list(by_folder.values())
