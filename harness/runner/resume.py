"""Sessions whose run was killed: found again by a digest of their settings.

While a session runs, its folder holds a marker file with a digest of all that makes it this session
and not another. The marker is removed when the run ends, well or not; only a run that was killed
leaves it.
"""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from harness.store.cache import write_atomically

MARKER = ".running"


def find_killed_session(records: Path, settings_digest: str, paths: Sequence[str]) -> str:
    """Return the latest session of these settings that has whole blocks and is not running; or ''.

    Sessions that were killed in their first block have no complete set of records, and are removed.

    Args:
        records: the folder of the sessions.
        settings_digest: of what would be measured.
        paths: the records that a session must have, relative to its folder.
    """
    latest = ""
    for path in sorted(records.glob(f"*/{MARKER}")):
        try:
            marker = json.loads(path.read_bytes())
        except (OSError, ValueError):
            continue
        if marker["asked"] != settings_digest or _is_running(marker):
            continue
        if all((path.parent / name).is_file() for name in paths):
            latest = path.parent.name
        else:
            shutil.rmtree(path.parent, ignore_errors=True)
    return latest


def _is_running(marker: dict[str, Any]) -> bool:
    try:
        started = psutil.Process(marker["pid"]).create_time()
    except psutil.Error:
        return False
    return bool(abs(started - marker["started"]) < 2)  # the system clock may have been set since


@contextmanager
def running(folder: Path, settings_digest: str) -> Iterator[None]:
    """Keep the marker in a session's folder while its run lasts."""
    marker, pid = folder / MARKER, os.getpid()
    fields = {"pid": pid, "started": psutil.Process(pid).create_time(), "asked": settings_digest}
    write_atomically(marker, json.dumps(fields).encode())
    try:
        yield
    finally:
        marker.unlink(missing_ok=True)
        if not any(folder.iterdir()):
            folder.rmdir()
