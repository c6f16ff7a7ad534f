"""Trained weights that a submission brings along: `[model] weights`.

They are declared as `{file = "weights.tar.gz", sha256 = "..."}`, a file of the submission's folder,
or as `{hub = "organisation/name", revision = "<40 hex digits>"}`. Elsewhere a specification in one
string stands for them (`to_spec`), as a name does for a pinned encoder.
"""

import re
from pathlib import Path
from typing import Any

from harness.errors import SourceError
from harness.store import untrusted
from harness.store.cache import (
    cache_dir,
    create_folder_atomically,
    digest,
    file_sha256,
    hold_lock,
)
from harness.store.downloads import fetch_hub_snapshot

FILE_KEYS, HUB_KEYS = {"file", "sha256"}, {"hub", "revision"}
PREFIX = "weights:"


def find_faults(declared: Any, base: Path) -> list[str]:
    """Return what is wrong with a declaration and, if it is local, with its file.

    Args:
        declared: the value of `weights` in the manifest.
        base: the submission's folder.

    Returns:
        One sentence per fault.
    """
    if not isinstance(declared, dict) or set(declared) not in (FILE_KEYS, HUB_KEYS):
        return ["write {file = ..., sha256 = ...} or {hub = ..., revision = ...}."]
    if not all(isinstance(value, str) for value in declared.values()):
        return ["its values must be strings."]
    if "hub" in declared:
        return _find_hub_faults(declared["hub"], declared["revision"])
    path = (base / declared["file"]).resolve()
    if not path.is_file() or not path.is_relative_to(base.resolve()):
        return [f"file = {declared['file']!r}: there is no such file in {base}."]
    if (actual := file_sha256(path)) != declared["sha256"]:
        return [f"sha256 of {declared['file']} is {actual}, not {declared['sha256']!r}."]
    try:
        fetch(to_spec(declared), base)
    except SourceError as error:
        return [str(error)]
    return []


def _find_hub_faults(repository: str, revision: str) -> list[str]:
    faults = []
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        faults.append(f"hub = {repository!r}: give organisation/name.")
    if not re.fullmatch(r"[0-9a-f]{40}", revision):
        faults.append(
            f"revision = {revision!r}: give the commit, 40 hex digits; a branch or a tag can "
            "change."
        )
    return faults


def to_spec(declared: Any) -> str:
    """Return the specification of a declaration; '' if it is not a table."""
    if not isinstance(declared, dict):
        return ""
    if "hub" in declared:
        return f"{PREFIX}hub:{declared['hub']}@{declared.get('revision')}"
    return f"{PREFIX}{declared.get('sha256')}:{declared.get('file')}"


def compute_key(spec: str) -> str:
    """Return a digest of the content that a specification stands for.

    It covers the sha256 and, except for an archive, the file name; or the repository and commit.
    """
    origin, name = _parse(spec)
    if origin == "hub":
        return digest({"hub": name})
    file_name = "" if name.endswith(untrusted.ARCHIVES) else Path(name).name
    return digest({"sha256": origin, "name": file_name})


def find_local(spec: str, base: Path) -> Path | None:
    """Return the unpacked folder; None if it must be downloaded first.

    Args:
        spec: the specification.
        base: the submission's folder.
    """
    folder = _cache_folder(spec)
    if folder.is_dir():
        return folder
    return None if spec.startswith(f"{PREFIX}hub:") else fetch(spec, base)


def fetch(spec: str, base: Path) -> Path:
    """Return the unpacked folder in the cache; the first time, fetch and unpack it.

    Args:
        spec: the specification.
        base: the submission's folder.

    Raises:
        SourceError: the weights are not available, or hold files that are not allowed.
    """
    folder = _cache_folder(spec)
    origin, name = _parse(spec)
    with hold_lock(compute_key(spec)):
        if folder.is_dir():
            return folder
        with create_folder_atomically(folder) as out:
            if origin == "hub":
                _copy_snapshot(name, out)
            else:
                untrusted.unpack(base / name, out)
    return folder


def _parse(spec: str) -> tuple[str, str]:
    """Return 'hub' and repository@commit, or the sha256 and the file's name."""
    origin, _, name = spec.removeprefix(PREFIX).partition(":")
    return origin, name


def _cache_folder(spec: str) -> Path:
    return cache_dir() / "weights" / compute_key(spec)


def _copy_snapshot(name: str, out: Path) -> None:
    """Copy the allowed files of a commit; in the hub's cache they are links."""
    repository, _, revision = name.partition("@")
    patterns = [f"*{suffix}" for suffix in untrusted.FORMATS]
    snapshot = fetch_hub_snapshot(repository, revision, patterns)
    if snapshot is None:
        raise SourceError(
            f"weights {name}: they could not be downloaded from the hub. Connect to the network, "
            "check name and commit, or bring the weights as a file."
        )
    for path in sorted(snapshot.rglob("*")):
        if path.is_file() and path.name.endswith(untrusted.FORMATS):
            target = out / path.relative_to(snapshot)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.resolve().read_bytes())
    untrusted.check_folder(out)
