"""Where a fleet's jobs stand, in a file of the cache: `wattbench fleet status`."""

import json
import os
import time
from pathlib import Path
from typing import Any

import psutil

from harness.errors import HarnessError
from harness.fleet.jobs import Progress
from harness.store.cache import cache_dir, write_atomically


def get_status_file() -> Path:
    """Return the file, of the latest fleet that was started with this cache."""
    return cache_dir() / "fleet" / "status.json"


def write_status(progress: Progress, started: float) -> None:
    """Write where the jobs stand.

    Args:
        progress: the jobs.
        started: when the fleet began, in seconds since the epoch.
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
    }
    write_atomically(get_status_file(), json.dumps(content).encode())


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
