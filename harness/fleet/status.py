"""Where a fleet's jobs stand, in a file of the cache: `wattbench fleet status`."""

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from harness.errors import HarnessError
from harness.fleet.jobs import Progress
from harness.store.cache import cache_dir, write_atomically


def get_status_file(fleet: str) -> Path:
    """Return the file of a fleet.

    Args:
        fleet: a digest of what it does, the same when the command is given again.
    """
    return _get_folder() / f"{fleet[:16]}.json"


def _get_folder() -> Path:
    return cache_dir() / "fleet"


def write_status(
    path: Path, progress: Progress, started: float, sessions: Mapping[str, str], left_off: bool
) -> None:
    """Write where the jobs stand.

    Args:
        path: the fleet's file.
        progress: the jobs.
        started: when the fleet began, in seconds since the epoch.
        sessions: the names of the sessions that are complete, by the digest of their request.
        left_off: whether a session left a system off.
    """
    content = {
        "pid": os.getpid(),
        "started": started,
        "changed": time.time(),
        "waiting": sorted(progress.waiting),
        "running": sorted(progress.running),
        "done": sorted(progress.done),
        "failed": progress.failed,
        "again": {name: tries for name, tries in progress.tries.items() if tries > 1},
        "sessions": dict(sessions),
        "left_off": left_off,
    }
    write_atomically(path, json.dumps(content).encode())


def read_complete_sessions(path: Path) -> dict[str, str]:
    """Return the complete sessions of a fleet that has more to do, else nothing.

    Args:
        path: the fleet's file.

    Returns:
        Their names, by the digest of their request.
    """
    status: dict[str, Any] = json.loads(path.read_bytes()) if path.is_file() else {}
    is_unfinished = any(status.get(kind) for kind in ("waiting", "running", "failed", "left_off"))
    return status["sessions"] if is_unfinished else {}


def describe_status() -> str:
    """Return where the jobs of the latest fleet stand, as lines.

    Raises:
        HarnessError: none was started with this cache.
    """
    paths = sorted(_get_folder().glob("*.json"), key=lambda path: path.stat().st_mtime)
    if not paths:
        raise HarnessError(
            "no fleet was started with this cache. Ask on the machine where `wattbench fleet` runs."
        )
    status: dict[str, Any] = json.loads(paths[-1].read_bytes())
    is_over = not status["waiting"] and not status["running"]
    state = "ended" if is_over else "running" if psutil.pid_exists(status["pid"]) else "stopped"
    minutes = (status["changed"] - status["started"]) / 60
    counts = ", ".join(
        f"{len(status[kind])} {kind}" for kind in ("done", "failed", "running", "waiting")
    )
    lines = [f"{state} after {minutes:.0f} min: {counts}"]
    lines += [f"running: {name}" for name in status["running"]]
    lines += [f"begun {tries} times: {name}" for name, tries in status["again"].items()]
    lines += [f"failed: {name}: {reason}" for name, reason in status["failed"].items()]
    return "\n".join(lines)
