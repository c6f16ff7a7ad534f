"""What the machines of a fleet need to know of a project: its systems and the data of its tasks.

It is a folder of the cache under the digest of its files, and comes from the shared store.
"""

import copy
import os
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import tomli_w

from harness.errors import HarnessError, SourceError
from harness.models import pretrained
from harness.schema import read_toml
from harness.store import bundled_weights, shared
from harness.store.cache import cache_dir, create_scratch_folder, folder_digest
from harness.submissions.checkpoint import get_model_digest
from harness.submissions.plan import PlannedEncoder
from harness.submissions.system import System
from harness.tasks.task import Task

FOLDERS = ("baselines", "submissions")
MANIFEST = "submission.toml"
ENCODER_KEYS = ("pretrained", "checkpoint", "student")
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


def publish_project(
    systems: Iterable[System], tasks: Sequence[Task], encoders: Iterable[PlannedEncoder] = ()
) -> PublishedProject:
    """Copy systems, encoders and data into a project, and the project into the shared store.

    Args:
        systems: the systems; their teachers and members are copied, too.
        tasks: the tasks, and those that systems are trained on first.
        encoders: what steps start from; folders outside of their system's folder are copied.

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
        for name in FOLDERS:
            (scratch / name).mkdir()
        renamed = _copy_encoders(encoders, scratch)
        for system in _list_systems(systems):
            _copy_system(system, addresses, renamed, scratch)
        digest = folder_digest(scratch)
        target = get_folder(digest)
        if not target.is_dir():
            target.parent.mkdir(parents=True, exist_ok=True)
            scratch.chmod(0o755)
            scratch.rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    store = shared.get_shared_store()
    if store and not store.has(target):
        store.publish(target)
    return PublishedProject(digest, addresses)


def _copy_encoders(encoders: Iterable[PlannedEncoder], project: Path) -> dict[PlannedEncoder, str]:
    """Copy folders of models that lie outside of their system; return the path of each."""
    renamed = {}
    for encoder in encoders:
        if pretrained.is_pinned(encoder.name) or encoder.name.startswith(bundled_weights.PREFIX):
            continue
        found = pretrained.fetch(encoder.name, encoder.base)
        folder = found.folder.resolve()
        if folder.is_relative_to(encoder.base.resolve()):
            continue
        name = f"encoders/{found.key[:16]}-{folder.name}"
        if not (project / name).exists():
            shutil.copytree(folder, project / name)
        renamed[encoder] = name
    return renamed


def _list_systems(systems: Iterable[System]) -> list[System]:
    """Return systems, and their teachers and members unless these lie in the system's folder.

    Raises:
        HarnessError: one comes from `--model`, or two have the same name.
    """
    listed: dict[str, System] = {}
    for system in [other for named in systems for other in _expand(named)]:
        if get_model_digest(system.folder):
            raise HarnessError(
                f"{system.name}: a fleet measures submissions. Measure a model with `wattbench run "
                "--model`, or write a submission with `[model] checkpoint`."
            )
        namesake = listed.setdefault(system.folder.name.casefold(), system)
        if namesake.folder.resolve() != system.folder.resolve():
            raise HarnessError(
                f"two systems are called {system.folder.name}: {namesake.folder} and "
                f"{system.folder}. Rename one."
            )
    return list(listed.values())


def _expand(system: System, owner: Path | None = None) -> Iterator[System]:
    """Yield a system, its teacher and members, and theirs, but for those in a folder of another."""
    if owner is None:
        yield system
        owner = system.folder
    for other in _find_others(system):
        yield from _expand(other, owner if _lies_in(other, owner) else None)


def _find_others(system: System) -> list[System]:
    """Return the teacher and the members."""
    return [*filter(None, (system.teacher, *system.members))]


def _find_inner(system: System, owner: Path) -> list[System]:
    """Return a system with those of its teacher and members, and theirs, that lie in a folder."""
    others = [other for other in _find_others(system) if _lies_in(other, owner)]
    return [system, *(inner for other in others for inner in _find_inner(other, owner))]


def _lies_in(system: System, folder: Path) -> bool:
    return system.folder.resolve().is_relative_to(folder.resolve())


def _copy_system(
    system: System,
    addresses: Mapping[str, str],
    renamed: Mapping[PlannedEncoder, str],
    project: Path,
) -> None:
    folder = system.folder.resolve()
    parent = FOLDERS[0] if folder.parent.name == FOLDERS[0] else FOLDERS[1]
    target = project / parent / folder.name
    shutil.copytree(folder, target, ignore=shutil.ignore_patterns("__pycache__"))
    for inner in _find_inner(system, folder):
        place = target / inner.folder.resolve().relative_to(folder)
        _rewrite_manifest(inner, folder, place, addresses, renamed, os.path.relpath(project, place))


def _rewrite_manifest(
    system: System,
    owner: Path,
    place: Path,
    addresses: Mapping[str, str],
    renamed: Mapping[PlannedEncoder, str],
    root: str,
) -> None:
    """Let a copied manifest name tasks, systems and models as they are called in the project.

    Args:
        system: whose manifest it is.
        owner: the folder that was copied.
        place: where the system's folder is now.
        addresses: the address of each task, by its name.
        renamed: where models are that lay elsewhere.
        root: the path of the project from there.
    """
    manifest = read_toml(place / MANIFEST)
    before = copy.deepcopy(manifest)
    if any(task.endswith(".toml") for task in manifest["tasks"]):
        known = [addresses[task.name] for task in system.tasks if task.name in addresses]
        manifest["tasks"] = [
            f"{root}/{DATA}/{address}" if address.endswith(".toml") else address
            for address in known
        ] or ["any"]
    model = manifest.get("model", {})
    others = {other.folder.name for other in _find_others(system) if not _lies_in(other, owner)}
    for key in ("teacher", "members"):  # paths of other systems become names
        if isinstance(model.get(key), str):
            model[key] = _shorten(model[key], others)
        elif key in model:
            model[key] = [_shorten(name, others) for name in model[key]]
    folder = system.folder.resolve()
    names = {
        encoder.name: f"{root}/{path}"
        for encoder, path in renamed.items()
        if encoder.base.resolve() == folder
    }
    for table in (model, *manifest.get("step", ())):
        table.update({key: names[table[key]] for key in ENCODER_KEYS if table.get(key) in names})
    if manifest != before:
        (place / MANIFEST).write_text(tomli_w.dumps(manifest), encoding="utf-8")


def _shorten(name: str, others: Collection[str]) -> str:
    last = Path(name).name
    return last if last in others else name


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
    for name in FOLDERS:  # a store has no empty folders, and without both it is no project
        (folder / name).mkdir(exist_ok=True)
    return folder
