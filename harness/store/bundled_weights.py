"""Trained weights that a submission brings along: `[model] weights`.

`{file = "weights.tar.gz", sha256 = "..."}`, a file of the submission's folder, or
`{hub = "organisation/name", revision = "<40 hex digits>"}`. A text stands for them elsewhere
(`spec`), as a name does for a pinned encoder.
"""

import re
from pathlib import Path
from typing import Any

from harness.errors import SourceError
from harness.store import untrusted
from harness.store.cache import cache_dir, digest, file_sha256, locked, new_folder
from harness.store.downloads import hub_snapshot

BY_FILE, BY_HUB = {"file", "sha256"}, {"hub", "revision"}
MARK = "weights:"


def faults_of(declared: Any, base: Path) -> list[str]:
    """What is wrong with the declaration and, where it is here, with the file; as sentences."""
    if not isinstance(declared, dict) or set(declared) not in (BY_FILE, BY_HUB):
        return ["write {file = ..., sha256 = ...} or {hub = ..., revision = ...}."]
    if not all(isinstance(each, str) for each in declared.values()):
        return ["its values must be texts."]
    if "hub" in declared:
        found = []
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", declared["hub"]):
            found.append(f"hub = {declared['hub']!r}: give organisation/name.")
        if not re.fullmatch(r"[0-9a-f]{40}", declared["revision"]):
            found.append(
                f"revision = {declared['revision']!r}: give the commit, 40 hex digits; a branch "
                "or a tag can change."
            )
        return found
    path = (base / declared["file"]).resolve()
    if not path.is_file() or not path.is_relative_to(base.resolve()):
        return [f"file = {declared['file']!r}: there is no such file in {base}."]
    if (real := file_sha256(path)) != declared["sha256"]:
        return [f"sha256 of {declared['file']} is {real}, not {declared['sha256']!r}."]
    try:
        fetch(spec(declared), base)
    except SourceError as error:
        return [str(error)]
    return []


def spec(declared: Any) -> str:
    """The declaration as one text; '' for what is none."""
    if not isinstance(declared, dict):
        return ""
    if "hub" in declared:
        return f"{MARK}hub:{declared['hub']}@{declared.get('revision')}"
    return f"{MARK}{declared.get('sha256')}:{declared.get('file')}"


def key(text: str) -> str:
    """A digest of the content: of the sha256 and, but for an archive, the name; or of repository
    and commit.
    """
    place, _, rest = text.removeprefix(MARK).partition(":")
    if place == "hub":
        return digest({"hub": rest})
    name = "" if rest.endswith(untrusted.ARCHIVES) else Path(rest).name
    return digest({"sha256": place, "name": name})


def available_locally(text: str, base: Path) -> Path | None:
    """The unpacked folder, where nothing must be downloaded for it."""
    folder = _folder(text)
    if folder.is_dir():
        return folder
    return None if text.startswith(f"{MARK}hub:") else fetch(text, base)


def fetch(text: str, base: Path) -> Path:
    """The unpacked folder, in the cache.

    Raises: SourceError if it cannot be had, or holds what is not allowed.
    """
    folder = _folder(text)
    place, _, rest = text.removeprefix(MARK).partition(":")
    with locked(key(text)):
        if folder.is_dir():
            return folder
        with new_folder(folder) as out:
            if place == "hub":
                _copy_snapshot(rest, out)
            else:
                untrusted.place(base / rest, out)
    return folder


def _folder(text: str) -> Path:
    return cache_dir() / "weights" / key(text)


def _copy_snapshot(rest: str, out: Path) -> None:
    """The allowed files of a commit; the hub's cache holds them as links, so they are copied."""
    repository, _, revision = rest.partition("@")
    snapshot = hub_snapshot(repository, revision, [f"*{each}" for each in untrusted.FORMATS])
    if snapshot is None:
        raise SourceError(
            f"weights {rest}: the hub does not give them. Connect to the network, check name and "
            "commit, or bring the weights as a file."
        )
    for path in sorted(snapshot.rglob("*")):
        if path.is_file() and path.name.endswith(untrusted.FORMATS):
            target = out / path.relative_to(snapshot)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.resolve().read_bytes())
    untrusted.check(out)
