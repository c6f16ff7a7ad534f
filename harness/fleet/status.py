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


def get_status_file() -> Path:
    """Return the file, of the latest fleet that was started with this cache."""
    return cache_dir() / "fleet" / "status.json"


def write_status(progress: Progress, started: float, sessions: Mapping[str, str]) -> None:
    """Write where the jobs stand.

    Args:
        progress: the jobs.
        started: when the fleet began, in seconds since the epoch.
        sessions: the names of the sessions that are complete, by the digest of their request.
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
    }
    write_atomically(get_status_file(), json.dumps(content).encode())


def read_complete_sessions() -> dict[str, str]:
    """Return the complete sessions of the latest fleet if it has more to do, else nothing.

    Returns:
        Their names, by the digest of their request.
    """
    path = get_status_file()
    status: dict[str, Any] = json.loads(path.read_bytes()) if path.is_file() else {}
    is_unfinished = any(status.get(kind) for kind in ("waiting", "running", "failed"))
    return status["sessions"] if is_unfinished else {}


def describe_status() -> str:
    """Return where the jobs of the latest fleet stand, as lines.

    Raises:
        HarnessError: none was started with this cache.
    """
    path = get_status_file()
    if not path.is_file():
        raise HarnessError(
            "no fleet was started with this cache. Ask on the machine where `wattbench fleet` runs."
        )
    status: dict[str, Any] = json.loads(path.read_bytes())
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
