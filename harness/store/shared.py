"""A store that several machines share: `WATTBENCH_STORE`, an address that fsspec knows.

It holds folders of the cache under their paths there: artifacts, logits of teachers, and sources.
What the cache lacks is read from it, and what a machine makes is written to it. A folder is visible
at once and whole: its files are uploaded into a folder of their own, then a small marker that names
them with their sha256. If two machines make the same folder, the marker that is written last
counts.
"""

import hashlib
import json
import os
import sys
import uuid
from collections.abc import Callable
from functools import cache
from pathlib import Path, PurePosixPath
from typing import TypeVar

from harness.errors import HarnessError
from harness.store.cache import cache_dir, create_folder_atomically, file_sha256

VARIABLE = "WATTBENCH_STORE"

MARKER = ".json"
"""Ending of a marker, which otherwise has the path of its folder."""

CHUNK = 1 << 20

Result = TypeVar("Result")


class _DamagedError(Exception):
    """The store holds something else than a marker says."""


class SharedStore:
    """Folders of the cache in a file system of fsspec's.

    A store that does not answer costs a warning; from then on this process goes on without it.

    Args:
        address: such as `file:///mnt/share`, `s3://bucket/folder` or `gs://bucket/folder`.

    Raises:
        HarnessError: the address is wrong, or the package for it is not installed.
    """

    def __init__(self, address: str) -> None:
        import fsspec

        self.address = address
        self._is_down = False
        try:
            self._files, self._root = fsspec.core.url_to_fs(address)
        except ImportError as error:
            raise HarnessError(f"{VARIABLE}={address}: {error}.") from None
        except ValueError as error:
            raise HarnessError(
                f"{VARIABLE}={address}: {error}. Give an address such as file:///mnt/share or "
                "s3://bucket/folder."
            ) from None

    def fetch(self, folder: Path) -> bool:
        """Copy a folder from the store into the cache.

        Args:
            folder: where it belongs in the cache.

        Returns:
            Whether the store has it, whole; a damaged one is reported and left alone.

        Raises:
            HarnessError: the cache cannot be written.
        """
        name = _get_name(folder)
        return bool(self._attempt(f"read {name} from", lambda: self._fetch(folder, name)))

    def has(self, folder: Path) -> bool:
        """Return whether the store has a folder of the cache."""
        name = _get_name(folder)
        path = f"{self._root}/{name}{MARKER}"
        return bool(self._attempt(f"read {name} from", lambda: bool(self._files.exists(path))))

    def _fetch(self, folder: Path, name: str) -> bool:
        try:
            marker = json.loads(self._files.cat_file(f"{self._root}/{name}{MARKER}"))
        except FileNotFoundError:
            return False
        except ValueError:
            _warn(f"{self.address}/{name}{MARKER} is damaged; it is made again")
            return False
        try:
            source = f"{self._root}/{name}/{marker['upload']}"
            with create_folder_atomically(folder) as out:
                for path, sha256 in marker["files"].items():
                    if ".." in PurePosixPath(path).parts or PurePosixPath(path).is_absolute():
                        raise _DamagedError(path)
                    self._download(f"{source}/{path}", out / path, sha256)
                for path in marker.get("executable", ()):
                    if path in marker["files"]:
                        (out / path).chmod(0o755)
        except (_DamagedError, KeyError, TypeError, AttributeError) as error:
            _warn(f"{self.address}/{name} is damaged ({error}); it is made again")
            return False
        return True

    def _download(self, source: str, target: Path, sha256: str) -> None:
        hasher = hashlib.sha256()
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self._files.open(source, "rb") as reader, target.open("wb") as writer:
                while chunk := reader.read(CHUNK):
                    hasher.update(chunk)
                    writer.write(chunk)
        except FileNotFoundError:
            raise _DamagedError(f"{target.name} is missing") from None
        if hasher.hexdigest() != sha256:
            raise _DamagedError(f"{target.name} has another sha256")

    def publish(self, folder: Path) -> None:
        """Copy a folder of the cache to the store."""
        name = _get_name(folder)
        self._attempt(f"write {name} to", lambda: self._publish(folder, name))

    def _publish(self, folder: Path, name: str) -> None:
        upload = uuid.uuid4().hex
        files, executable = {}, []
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            relative = path.relative_to(folder).as_posix()
            target = f"{self._root}/{name}/{upload}/{relative}"
            self._files.makedirs(target.rpartition("/")[0], exist_ok=True)
            self._files.put_file(str(path), target)
            files[relative] = file_sha256(path)
            if os.access(path, os.X_OK):
                executable.append(relative)
        content = {"upload": upload, "files": files, "executable": executable}
        marker = json.dumps(content).encode()
        self._files.pipe_file(f"{self._root}/{name}{MARKER}", marker)

    def list_folders(self, parent: Path) -> list[Path]:
        """Return those folders below a folder of the cache that the store holds."""
        name = _get_name(parent)
        return self._attempt(f"list {name} in", lambda: self._list_folders(parent, name)) or []

    def _list_folders(self, parent: Path, name: str) -> list[Path]:
        self._files.invalidate_cache()  # of listings
        try:
            entries = self._files.ls(f"{self._root}/{name}", detail=False)
        except FileNotFoundError:
            return []
        names = sorted(str(entry).rstrip("/").rpartition("/")[2] for entry in entries)
        return [parent / name.removesuffix(MARKER) for name in names if name.endswith(MARKER)]

    def _attempt(self, action: str, function: Callable[[], Result]) -> Result | None:
        """Call a function; None, with a warning the first time, if the store does not answer."""
        if self._is_down:
            return None
        try:
            return function()
        except HarnessError:  # of the cache
            raise
        except Exception as error:  # each file system has exceptions of its own
            self._is_down = True
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            _warn(f"cannot {action} {self.address} ({reason}); going on without it")
            return None


def get_shared_store() -> SharedStore | None:
    """Return the store that `WATTBENCH_STORE` names; None if it names none.

    Raises:
        HarnessError: its address is wrong, or the package for it is not installed.
    """
    address = os.environ.get(VARIABLE, "")
    return _connect(address) if address else None


@cache
def _connect(address: str) -> SharedStore:
    return SharedStore(address)


def fetch_folder(folder: Path) -> bool:
    """Copy a folder of the cache from the shared store, and return whether it is there and whole.

    Raises:
        HarnessError: the address of the store is wrong, or the cache cannot be written.
    """
    store = get_shared_store()
    return store is not None and store.fetch(folder)


def publish_folder(folder: Path) -> None:
    """Copy a folder of the cache to the shared store, if there is one.

    Raises:
        HarnessError: the address of the store is wrong.
    """
    if store := get_shared_store():
        store.publish(folder)


def _get_name(folder: Path) -> str:
    return folder.relative_to(cache_dir()).as_posix()


def _warn(message: str) -> None:
    print(f"wattbench: warning: {message}", file=sys.stderr, flush=True)
