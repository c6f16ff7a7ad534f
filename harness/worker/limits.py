"""What a worker may use, the thread that monitors it, and the end of its processes."""

import ctypes
import os
import signal
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import IO

from harness.worker import process_tree

PERIOD_SECONDS = 0.25
MAX_STDERR_BYTES = 16 << 20
MAX_PROCESSES = 256
REAP_SECONDS = 5.0
PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Limits:
    """What a worker may use.

    Attributes:
        memory: bytes, over all its processes and its files in memory.
        cores: the logical CPUs that it is pinned to.
        stderr: bytes that it may write to stderr.
    """

    memory: float
    cores: frozenset[int]
    stderr: int = MAX_STDERR_BYTES


class LimitsMonitor(threading.Thread):
    """Checks a worker's limits four times a second, and kills a worker that exceeds one.

    Attributes:
        violation: which limit it exceeded, or ''.
        tmpfs: the worker's own temporary file systems (see `find_private_tmpfs`), whose files count
            as its memory. Known once the worker is ready: a sandbox that is still being set up has
            the file systems of the machine.
    """

    def __init__(self, pid: int, stderr: IO[bytes], limits: Limits) -> None:
        super().__init__(daemon=True)
        self._pid, self._stderr, self._limits = pid, stderr, limits
        self._stopped = threading.Event()
        self.violation = ""
        self.tmpfs: Mapping[str, int] = {}

    def run(self) -> None:
        """Check until the monitor is stopped."""
        while not self._stopped.wait(PERIOD_SECONDS):
            if violation := self.find_violation():
                self.violation = violation
                kill(process_tree.find_tree(self._pid))
                return

    def find_violation(self) -> str:
        """Return which limit the worker exceeds now, or ''."""
        limits = self._limits
        stderr_bytes = os.fstat(self._stderr.fileno()).st_size
        if stderr_bytes > limits.stderr:
            return (
                f"it wrote {stderr_bytes >> 20} MiB to stderr; the limit is "
                f"{limits.stderr >> 20} MiB"
            )
        members = process_tree.find_tree(self._pid)
        if len(members) > MAX_PROCESSES:
            return f"it has {len(members)} processes; the limit is {MAX_PROCESSES}"
        file_bytes = process_tree.memory_file_bytes(members, self.tmpfs)
        if process_tree.resident_bytes(self._pid) + file_bytes > limits.memory:
            used = process_tree.proportional_bytes(self._pid) + file_bytes
            if used > limits.memory:
                allowed = limits.memory / 2**30
                return f"it used {used / 1e6:.0f} MB, but the configuration allows {allowed:g} GiB"
        for process in members:
            for thread in process_tree.list_threads(process):
                with suppress(OSError):
                    if not os.sched_getaffinity(int(thread)) <= limits.cores:
                        return (
                            "it left the cores that it was pinned to. Do not change the affinity "
                            "(sched_setaffinity, taskset, OMP_PROC_BIND)"
                        )
        return ""

    def stop(self) -> None:
        """Stop checking."""
        self._stopped.set()
        self.join()


@cache
def adopt_orphans() -> None:
    """Make a descendant whose parent ends a child of this process, so that it can be found."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def kill(pids: Iterable[int]) -> None:
    """Kill processes; those that are gone are ignored."""
    for pid in pids:
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def kill_and_reap(pids: set[int]) -> None:
    """Kill processes and their descendants, and wait until they are gone (at most 5 seconds)."""
    deadline = time.monotonic() + REAP_SECONDS
    while time.monotonic() < deadline:
        left = [member for pid in pids for member in process_tree.find_tree(pid)]
        kill(left)
        for pid in pids:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        if not left:
            return
        time.sleep(0.005)
