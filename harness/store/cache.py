"""The local cache, and content addressing: names that are digests of the content.

The cache holds `sources` (downloaded files, checked by sha256), `weights` (bundled with
submissions, unpacked), `datasets` (examples as Arrow files), `artifacts` (what steps write, one
folder per key), `outputs` (the logits of teachers), `checkpoints` (of interrupted steps) and `tmp`
(what is being written, on the same disk, so that a rename is atomic).
"""

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import platformdirs
import psutil
from filelock import FileLock

from harness.errors import FULL, HarnessError, WriteError


def cache_dir() -> Path:
    """Return `WATTBENCH_CACHE`, else `wattbench` in `XDG_CACHE_HOME`, else in `~/.cache`.

    Raises:
        HarnessError: none of them is set, and the user has no home directory.
    """
    try:
        if folder := os.environ.get("WATTBENCH_CACHE"):
            return Path(folder).expanduser().absolute()
        return platformdirs.user_cache_path("wattbench")
    except RuntimeError as error:
        raise HarnessError(
            f"there is no home directory for the cache: {error}. Set WATTBENCH_CACHE to a folder "
            "that can be written."
        ) from error


def expand_home(path: str | Path) -> Path:
    """Return a path with a leading `~` or `~user` replaced; unchanged if there is no such user."""
    return Path(os.path.expanduser(path))  # noqa: PTH111  (pathlib's raises)


def resolve_path(path: str | Path) -> Path:
    """Return the absolute path of a file or folder that manifests and records will name.

    Raises:
        HarnessError: the path is not UTF-8, so that no text can have it.
    """
    resolved = expand_home(path).resolve()
    try:
        str(resolved).encode()
    except UnicodeEncodeError:
        shown = str(resolved).encode(errors="backslashreplace").decode()
        raise HarnessError(f"{shown}: this path is not UTF-8. Rename the folder.") from None
    return resolved


def digest(value: Any) -> str:
    """Return the sha256 of a JSON value in canonical form (sorted keys, no spaces)."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file; it is read once per process, unless it changes."""
    status = path.stat()
    return _file_sha256(path, status.st_mtime_ns, status.st_size)


@cache
def _file_sha256(path: Path, mtime_ns: int, size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_size(folder: Path) -> int:
    """Return the size of all files below a folder, in bytes."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def folder_digest(folder: Path) -> str:
    """Return a digest of the names and bytes of all files below a folder, except bytecode."""
    files = sorted(
        path for path in folder.rglob("*") if path.is_file() and path.parent.name != "__pycache__"
    )
    return digest({str(path.relative_to(folder)): file_sha256(path) for path in files})


@contextmanager
def create_folder_atomically(target: Path) -> Iterator[Path]:
    """Give a temporary folder that becomes `target` when the block ends without an exception.

    Otherwise the temporary folder is removed.

    Raises:
        HarnessError: the disk is full, or the cache cannot be written.
    """
    temporary = create_scratch_folder()
    try:
        with name_unwritable(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            if not target.exists():
                temporary.chmod(0o755)
                temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def create_output_folder(folder: Path) -> Iterator[Path]:
    """Give a temporary folder that becomes `folder` when the block ends without an exception.

    Unlike `create_folder_atomically`, it is on the disk of the folder, which a user has named.

    Raises:
        HarnessError: the folder cannot be written.
    """
    with name_unwritable(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".", dir=folder.parent) as temporary:
            out = Path(temporary) / folder.name
            out.mkdir()
            yield out
            out.rename(folder)


def create_scratch_folder() -> Path:
    """Return an empty temporary folder, for the caller to remove.

    Folders that killed processes left behind are removed.

    Raises:
        HarnessError: the disk is full, or the cache cannot be written.
    """
    scratch = cache_dir() / "tmp"
    with name_unwritable(scratch):
        scratch.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(scratch)
        return Path(tempfile.mkdtemp(prefix=f"{os.getpid()}.", dir=scratch))


@contextmanager
def hold_lock(name: str) -> Iterator[None]:
    """Hold a lock by name while the block runs; other processes that want it wait.

    Raises:
        HarnessError: the disk is full, or the cache cannot be written.
    """
    folder = cache_dir() / "locks"
    lock = FileLock(folder / name)
    with name_unwritable(folder / name):
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def artifact_dir(key: str) -> Path:
    """Return the folder of the artifact with this key, whether it exists or not."""
    return cache_dir() / "artifacts" / key


def checkpoint_dir(key: str) -> Path:
    """Return where the step with this key keeps what it needs to resume after an interruption."""
    return cache_dir() / "checkpoints" / key


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees the old content or the new one, never a part of it.

    Raises:
        HarnessError: the disk is full, or the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with name_unwritable(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(data)
            temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def name_unwritable(target: Path) -> Iterator[None]:
    """Turn a failure to write a file or folder while the block runs into an error that names it.

    Raises:
        WriteError: the disk is full, or the file cannot be written.
    """
    try:
        yield
    except WriteError:
        raise
    except Exception as error:
        number = _get_error_number(error)
        if number not in FULL and not isinstance(error, OSError):
            raise
        raise _make_write_error(error, number, target) from error


def _get_error_number(error: BaseException) -> int | None:
    """Return the number of the kernel's error, also where another exception replaced it.

    Libraries in other languages (safetensors, tokenizers) have exceptions of their own, which quote
    its text; NumPy only counts.
    """
    if isinstance(error, OSError) and error.errno:
        return error.errno
    if re.search(r"\d requested and \d+ written", str(error)):
        return errno.ENOSPC
    for number in FULL:
        if os.strerror(number) in str(error):
            return number
    reason = error.__cause__ or error.__context__
    return _get_error_number(reason) if reason else None


def _make_write_error(error: Exception, number: int | None, target: Path) -> WriteError:
    path = Path(getattr(error, "filename", None) or target)
    try:
        cache: Path | None = cache_dir()
    except HarnessError:  # there is none, so the file is elsewhere
        cache = None
    inside = path.is_relative_to(target.parent) or (cache and path.is_relative_to(cache / "tmp"))
    if inside or number in FULL:  # it would have been renamed to the target, or was copied there
        path = target
    in_cache = cache is not None and path.is_relative_to(cache)
    if number in FULL:
        remedy = "set WATTBENCH_CACHE to a folder" if in_cache else "choose a path"
        if in_cache and number == errno.ENOSPC and _has_less_space(tempfile.gettempdir(), path):
            path, remedy = Path(tempfile.gettempdir()), "set TMPDIR to a folder"
        return WriteError(
            f"{path}: {FULL[number]}. Free some space, or {remedy} on another disk; what is "
            "finished is kept."
        )
    reason = getattr(error, "strerror", None) or error
    if isinstance(error, shutil.Error):  # one reason for each file of a folder
        reason = error.args[0][0][-1]
    if in_cache:
        return WriteError(f"{path}: {reason}. Set WATTBENCH_CACHE to a folder that can be written.")
    if path == target:
        return WriteError(
            f"{path} cannot be written: {reason}. Choose another path, or make this one writable."
        )
    return WriteError(f"{path}: {reason}. Choose another path, or make this one accessible.")


def _has_less_space(folder: str, path: Path) -> bool:
    """Return whether the disk of a folder has less space than that of a file, if it existed."""
    existing = next(parent for parent in (path, *path.parents) if parent.exists())
    return shutil.disk_usage(folder).free < shutil.disk_usage(existing).free


def _remove_abandoned(scratch: Path) -> None:
    """Remove the folders of processes that no longer run."""
    for folder in scratch.iterdir():
        pid = folder.name.partition(".")[0]
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)
