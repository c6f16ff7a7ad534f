"""What the machines of a fleet need to know of a project: its systems and the data of its tasks.

It is a folder of the cache under the digest of its files, and comes from the shared store.
"""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import tomli_w

from harness.errors import HarnessError, SourceError
from harness.schema import read_toml
from harness.store import shared
from harness.store.cache import cache_dir, create_scratch_folder, folder_digest
from harness.submissions.checkpoint import get_model_digest
from harness.submissions.system import System
from harness.tasks.task import Task

DATA = "data"
"""The folder of the tasks' data, which `WATTBENCH_DATA` names on the machines."""


@dataclass(frozen=True)
class PublishedProject:
    """A project in the shared store.

    Attributes:
        digest: of its files.
        tasks: the address of each task on the machines, by its name; a path is below `DATA`.
    """

    digest: str
    tasks: dict[str, str]


def get_folder(digest: str) -> Path:
    """Return where a project lies in the cache."""
    return cache_dir() / "projects" / digest


def publish_project(systems: Iterable[System], tasks: Sequence[Task]) -> PublishedProject:
    """Copy systems and data into a project, and the project into the shared store.

    Args:
        systems: the systems; their teachers and members are copied, too.
        tasks: the tasks, and those that systems are trained on first.

    Raises:
        HarnessError: something cannot be copied: a system of `--model`, two systems of one name, or
            a task that does not say how its data is packed.
    """
    scratch = create_scratch_folder()
    try:
        addresses = {}
        for task in tasks:
            if task.pack is None:
                raise SourceError(
                    f"task {task.name!r} comes from a package that does not say how its data is "
                    "packed (`Task.pack`). Declare it by a task.toml instead."
                )
            addresses[task.name] = task.pack(scratch / DATA, 0)
        for folder in ("baselines", "submissions"):
            (scratch / folder).mkdir()
        _copy_systems(systems, addresses, scratch)
        digest = folder_digest(scratch)
        target = get_folder(digest)
        if not target.is_dir():
            target.parent.mkdir(parents=True, exist_ok=True)
            scratch.chmod(0o755)
            scratch.rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    shared.publish_folder(target)
    return PublishedProject(digest, addresses)


def _copy_systems(systems: Iterable[System], addresses: dict[str, str], project: Path) -> None:
    copied: dict[str, Path] = {}
    for system in [other for named in systems for other in _expand(named)]:
        folder = system.folder.resolve()
        if get_model_digest(system.folder):
            raise HarnessError(
                f"{system.name}: a fleet measures submissions. Measure a model with `wattbench run "
                "--model`, or write a submission with `[model] checkpoint`."
            )
        name = folder.name
        if copied.setdefault(name.casefold(), folder) != folder:
            raise HarnessError(
                f"two systems are called {name}: {copied[name.casefold()]} and {folder}. Rename "
                "one."
            )
        parent = "baselines" if folder.parent.name == "baselines" else "submissions"
        target = project / parent / name
        if target.exists():
            continue
        shutil.copytree(folder, target, ignore=shutil.ignore_patterns("__pycache__"))
        manifest = read_toml(target / "submission.toml")
        if any(task.endswith(".toml") for task in manifest["tasks"]):
            manifest["tasks"] = [
                f"../../{DATA}/{addresses[declared.name]}"
                for declared in system.tasks
                if declared.name in addresses
            ]
            (target / "submission.toml").write_text(tomli_w.dumps(manifest), encoding="utf-8")


def _expand(system: System) -> Iterator[System]:
    """Yield a system, and its teacher and members with theirs, unless they lie in its folder."""
    yield system
    for other in filter(None, (system.teacher, *system.members)):
        if not other.folder.resolve().is_relative_to(system.folder.resolve()):
            yield from _expand(other)


def open_project(digest: str) -> Path:
    """Return the folder of a project, on any machine of the fleet.

    Raises:
        HarnessError: the shared store does not have it, or it is damaged.
    """
    folder = get_folder(digest)
    if not folder.is_dir() and not shared.fetch_folder(folder):
        raise SourceError(
            f"the project {digest[:16]} is not in the shared store. Give all machines the same "
            f"{shared.VARIABLE}, and their credentials."
        )
    if folder_digest(folder) != digest:
        raise SourceError(f"{folder} is damaged. Remove it and run the same command again.")
    return folder
