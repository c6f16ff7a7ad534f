"""Where things live, and how they are named by what they are made of.

The cache holds `sources` (downloaded files, checked by sha256), `weights` (that submissions bring
along, unpacked), `artifacts` (what recipes leave behind, one folder a key), `outputs` (what
teachers answered), `checkpoints` (of steps that were interrupted) and `tmp` (what is being written;
on the same disk, so that a rename is atomic).
"""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from harness.errors import HarnessError


def cache_dir() -> Path:
    """`WATTBENCH_CACHE`, else `wattbench` in `XDG_CACHE_HOME`, else in `~/.cache`."""
    if given := os.environ.get("WATTBENCH_CACHE"):
        return Path(given).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "wattbench"


def digest(value: Any) -> str:
    """sha256 of a JSON value in canonical form (sorted keys, no spaces)."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes; read once a process, unless the file changes."""
    found = path.stat()
    return _file_sha256(path, found.st_mtime_ns, found.st_size)


@cache
def _file_sha256(path: Path, changed: int, size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_size(folder: Path) -> int:
    """Bytes of all files below `folder`."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def folder_digest(folder: Path) -> str:
    """A digest of the names and bytes of all files below `folder`, but for Python's bytecode."""
    files = sorted(
        path for path in folder.rglob("*") if path.is_file() and path.parent.name != "__pycache__"
    )
    return digest({str(path.relative_to(folder)): file_sha256(path) for path in files})


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A temporary folder that becomes `target` when the block ends well, and vanishes when it does
    not.

    Raises: HarnessError if the disk is full or the cache cannot be written.
    """
    temporary = scratch_folder()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if not target.exists():
            temporary.chmod(0o755)
            temporary.rename(target)
    except OSError as error:
        raise _disk_error(error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def scratch_folder() -> Path:
    """An empty temporary folder, for its caller to remove; what killed processes left is swept."""
    scratch = cache_dir() / "tmp"
    try:
        scratch.mkdir(parents=True, exist_ok=True)
        _sweep(scratch)
        return Path(tempfile.mkdtemp(prefix=f"{os.getpid()}.", dir=scratch))
    except OSError as error:
        raise _disk_error(error) from error


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Only one process at a time is inside the block for this name; the others wait."""
    folder = cache_dir() / "locks"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / name).open("w")
    except OSError as error:
        raise _disk_error(error) from error
    with handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def artifact_dir(key: str) -> Path:
    """The folder of the artifact with this key, whether it exists or not."""
    return cache_dir() / "artifacts" / key


def checkpoint_dir(key: str) -> Path:
    """Where the step with this key keeps what it needs to go on after an interruption."""
    return cache_dir() / "checkpoints" / key


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees the old bytes or the new ones, never half."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        if error.errno == errno.ENOSPC or path.is_relative_to(cache_dir()):
            raise _disk_error(error) from error
        raise HarnessError(
            f"{path} cannot be written: {error.strerror or error}. Name another place, or make "
            "room for it."
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _sweep(scratch: Path) -> None:
    """Remove what processes that were killed left behind."""
    for left in scratch.iterdir():
        owner = left.name.partition(".")[0]
        if owner.isdigit() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(left, ignore_errors=True)


def _disk_error(error: OSError) -> HarnessError:
    place = f"{error.filename or cache_dir()}"
    if error.errno == errno.ENOSPC:
        return HarnessError(
            f"{place}: the disk is full. Free some space, or set WATTBENCH_CACHE to a folder on "
            "another disk; "
            "what is finished is kept."
        )
    return HarnessError(
        f"{place}: {error.strerror or error}. Set WATTBENCH_CACHE to a folder that can be written."
    )
