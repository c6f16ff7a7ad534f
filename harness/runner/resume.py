"""Sessions whose run was killed: found again by what they were asked, and taken up.

While a session runs, `.running` lies in its folder with a digest of all that makes it this session
and not another. It goes when the run ends, well or not; only a run that was killed leaves it.
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

MARK = ".running"


def find(records: Path, asked: str, paths: Sequence[str]) -> str:
    """The latest session that was asked the same, has whole blocks and is not running; or ''.

    paths: the records that it must have, below its folder. Those that were killed in their first
    block lack some, and are removed.
    """
    found = ""
    for mark in sorted(records.glob(f"*/{MARK}")):
        try:
            stated = json.loads(mark.read_text())
        except (OSError, ValueError):
            continue
        if stated["asked"] != asked or _runs(stated):
            continue
        if all((mark.parent / each).is_file() for each in paths):
            found = mark.parent.name
        else:
            shutil.rmtree(mark.parent, ignore_errors=True)
    return found


def _runs(stated: dict[str, Any]) -> bool:
    try:
        # the clock that this is told by may have been set meanwhile
        return bool(abs(psutil.Process(stated["pid"]).create_time() - stated["started"]) < 2)
    except psutil.Error:
        return False


@contextmanager
def running(folder: Path, asked: str) -> Iterator[None]:
    """Inside the block the session's folder says that it runs."""
    mark, pid = folder / MARK, os.getpid()
    stated = {"pid": pid, "started": psutil.Process(pid).create_time(), "asked": asked}
    write_atomically(mark, json.dumps(stated).encode())
    try:
        yield
    finally:
        mark.unlink(missing_ok=True)
        if not any(folder.iterdir()):
            folder.rmdir()
