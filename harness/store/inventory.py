"""What lies in the cache, and its removal."""

import json
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from harness.store.cache import cache_dir

KINDS = {
    "artifacts": "what steps have built",
    "checkpoints": "of interrupted trainings",
    "datasets": "examples of tasks",
    "downloads": "of packages that are not unpacked yet",
    "fleet": "where the jobs of fleets stand",
    "models": "declarations of the models of --model",
    "outputs": "logits of teachers",
    "projects": "systems and data that a fleet measured",
    "searches": "manifests and trials of `wattbench search`",
    "sources": "downloaded data and encoders",
    "speeds": "of untrained students",
    "tmp": "of processes that were killed",
    "tokens": "training text as tokens",
    "variants": "manifests of ablations",
    "weights": "of submissions, unpacked",
}
"""The folders of the cache; all that is removed from them is made or downloaded again if needed."""

REMOVED_PREFIX = ".removed-"


@dataclass(frozen=True)
class CacheItem:
    """A file or folder of the cache.

    Attributes:
        kind: a key of `KINDS`.
        path: where it is.
        size: bytes; a file that several items share (by a hard link) counts once.
        last_used: when it was last written or read, in seconds since the epoch. File systems note
            reads once a day at most, or not at all.
        description: what it is, as far as it says so itself.
    """

    kind: str
    path: Path
    size: int
    last_used: float
    description: str

    @property
    def age_days(self) -> float:
        """Days since it was last used."""
        return (time.time() - self.last_used) / 86400


def list_items(kinds: Iterable[str] = KINDS) -> Iterator[CacheItem]:
    """Yield what lies in the cache, by kind and name."""
    counted: set[tuple[int, int]] = set()
    for kind in kinds:
        folder = cache_dir() / kind
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            size, last_used = 0, path.lstat().st_mtime
            for file in [path, *(path.rglob("*") if path.is_dir() else ())]:
                status = file.lstat()
                if file.is_dir() or (status.st_dev, status.st_ino) in counted:
                    continue
                counted.add((status.st_dev, status.st_ino))
                size += status.st_size
                last_used = max(last_used, status.st_mtime, status.st_atime)
            yield CacheItem(kind, path, size, last_used, _describe(kind, path))


def remove_item(item: CacheItem) -> bool:
    """Remove an item, completely or not at all as far as other processes see.

    Returns:
        Whether it was removed; False if a process is making or using it.
    """
    if item.kind == "tmp":
        pid = item.path.name.partition(".")[0]
        if pid.isdigit() and psutil.pid_exists(int(pid)):
            return False
    key = item.path.name.rpartition("-")[2]  # a source is called NAME-KEY
    with ExitStack() as stack:
        try:
            for path in (cache_dir() / "locks").glob(f"{key}*"):
                stack.enter_context(FileLock(path, timeout=0))
        except Timeout:
            return False
        removed = item.path
        if not removed.name.startswith(REMOVED_PREFIX):
            removed = item.path.with_name(f"{REMOVED_PREFIX}{item.path.name}")
            item.path.rename(removed)
        if removed.is_dir() and not removed.is_symlink():
            shutil.rmtree(removed)
        else:
            removed.unlink()
    return True


def _describe(kind: str, path: Path) -> str:
    if path.name.startswith(REMOVED_PREFIX):
        return "its removal was interrupted"
    if kind == "artifacts":
        try:
            metadata = json.loads((path / "artifact.json").read_bytes())
            steps = " > ".join(step["use"] for step in metadata["recipe"])
            return f"{metadata['task'][0]}: {steps}, seed {metadata['seed']}"
        except (OSError, ValueError, LookupError, TypeError):
            return "not an artifact"
    if kind == "datasets":
        origin = path / "origin"
        return origin.read_text(errors="replace") if origin.is_file() else "of an unknown task"
    if kind == "variants":
        systems = {variant.name.partition("-without-")[0] for variant in path.glob("*/*")}
        return f"of {', '.join(sorted(systems))}"
    if kind == "sources":
        return path.name.rpartition("-")[0]
    if kind == "models":
        return ", ".join(sorted(system.name for system in path.iterdir()))
    return ""
