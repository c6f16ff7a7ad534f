"""A worker's process tree: what it uses, whether it keeps to its limits, and its end.

Read from /proc: control groups are left alone, so this needs no rights.
"""

import ctypes
import os
import re
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO

import psutil

PERIOD_SECONDS = 0.25
STDERR_BYTES = 16 << 20
GONE_SECONDS = 5.0
PROCESSES = 256
PR_SET_CHILD_SUBREAPER = 36
KERNEL_TELLS = Path(f"/proc/self/task/{os.getpid()}/children").exists()
"""Whether a process' children stand in /proc; not all kernels are built so."""

PAGE, TICKS = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_CLK_TCK")


def tree(pid: int) -> list[int]:
    """The process and all its descendants; empty once it is gone."""
    found, waiting = [], [pid]
    while waiting:
        one = waiting.pop()
        if _threads(one):
            found.append(one)
            waiting += children(one)
    return found


def children(pid: int) -> list[int]:
    """The process' own."""
    if not KERNEL_TELLS:
        try:
            return [each.pid for each in psutil.Process(pid).children()]
        except psutil.Error:
            return []
    files = (_text(f"/proc/{pid}/task/{thread}/children") for thread in _threads(pid))
    return [int(child) for text in files for child in text.split()]


def cpu_seconds(pid: int) -> float:
    """User and system time of the whole tree so far, also of children that have left."""
    total = 0
    for one in tree(pid):
        # the name, in brackets, may hold anything; utime, stime, cutime and cstime are 14 to 17
        fields = _text(f"/proc/{one}/stat").rpartition(")")[2].split()
        total += sum(map(int, fields[11:15]))
    return total / TICKS


def resident(pid: int) -> int:
    """Bytes that the tree holds now; pages that its processes share count for each."""
    counts = (_text(f"/proc/{one}/statm").split() for one in tree(pid))
    return sum(int(each[1]) for each in counts if each) * PAGE


def resident_once(pid: int) -> int:
    """The same, with shared pages counted once (PSS): the kernel walks all pages for it."""
    return sum(_kilobytes(one, "smaps_rollup", "Pss") for one in tree(pid)) * 1024


def files_in_memory(members: list[int], tmpfs: Mapping[str, int]) -> int:
    """Bytes of files that lie in memory and not in a process: those of memfd_create, and what the
    worker's own temporary file systems hold.

    Args:
        members: the processes of the worker.
        tmpfs: as `own_tmpfs` returns it.
    """
    counted, total = set(), 0
    for pid in members:
        for file in _entries(f"/proc/{pid}/fd"):
            with suppress(OSError):
                if str(file.readlink()).startswith("/memfd:"):
                    status = file.stat()
                    if (status.st_dev, status.st_ino) not in counted:
                        counted.add((status.st_dev, status.st_ino))
                        total += status.st_blocks * 512
    return total + sum(_used(members, point, device) for point, device in tmpfs.items())


def _used(members: list[int], point: str, device: int) -> int:
    """Bytes that a file system holds, looked at through the first process that has it mounted."""
    for pid in members:
        folder = f"/proc/{pid}/root{point}"
        with suppress(OSError):
            if os.stat(folder).st_dev == device:  # noqa: PTH116 (a path of the kernel's)
                usage = os.statvfs(folder)
                return (usage.f_blocks - usage.f_bfree) * usage.f_frsize
    return 0


def own_tmpfs(pid: int) -> dict[str, int]:
    """The tmpfs file systems that a process has mounted and this process has not.

    They were made for the mount namespace of that process, so that their files are its memory. A
    tmpfs of the machine (its /tmp, /run or /dev/shm) is mounted here too, and never counts.

    Returns:
        The device number of each, by its mount point.
    """
    shared = {device for device, _, _ in _mounts(os.getpid())}
    return {
        point: device
        for device, point, kind in _mounts(pid)
        if kind == "tmpfs" and device not in shared
    }


def _mounts(pid: int) -> Iterator[tuple[int, str, str]]:
    """Device number, mount point and type of every file system that a process sees (proc(5),
    mountinfo).
    """
    for line in _lines(f"/proc/{pid}/mountinfo"):
        mount, _, source = line.partition(" - ")
        fields = mount.split()
        major, minor = map(int, fields[2].split(":"))
        point = re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), fields[4])
        yield os.makedev(major, minor), point, source.split()[0]


def worker_processes(pid: int, sandbox: int) -> list[int]:
    """The processes of a worker; empty once it is gone.

    Args:
        pid: the process that the driver started.
        sandbox: how many processes of the sandbox come before the worker. The last of them also
            adopts orphans, which are the worker's own.
    """
    members = tree(pid)
    for _ in range(sandbox):
        members = [member for member in members if member != pid]
        pid = next(iter(children(pid)), pid)
    return members


def peak_memory(pid: int, sandbox: int) -> float:
    """The worker's peak in bytes, over all its processes; not to be called in a timed window.

    Several processes share pages (libraries, weights): then each one's peak counts with the share
    of it that is its own (PSS over RSS now). Args: as in `worker_processes`.
    """
    members = worker_processes(pid, sandbox)
    peaks = {member: _kilobytes(member, "status", "VmHWM") for member in members}
    total = float(sum(peaks.values()))
    for member in members if len(members) > 1 else ():
        held = _kilobytes(member, "smaps_rollup", "Rss") or 1
        total -= peaks[member] * (1 - _kilobytes(member, "smaps_rollup", "Pss") / held)
    return total * 1024


@dataclass(frozen=True)
class Limits:
    """What a worker may take. memory, stderr: bytes. cores: the CPUs that it is pinned to."""

    memory: float
    cores: frozenset[int]
    stderr: int = STDERR_BYTES


class Watch(threading.Thread):
    """Looks at a worker four times a second; one that leaves its limits is killed.

    reason: what it did, or ''. tmpfs: the worker's own ones (see `own_tmpfs`), whose files count as
    its memory; known once the worker is ready, since a sandbox that is still being set up has the
    file systems of the machine.
    """

    def __init__(self, pid: int, stderr: IO[bytes], limits: Limits) -> None:
        super().__init__(daemon=True)
        self.pid, self.stderr, self.limits = pid, stderr, limits
        self.reason = ""
        self.tmpfs: Mapping[str, int] = {}
        self.over = threading.Event()

    def run(self) -> None:
        """Until it is over."""
        while not self.over.wait(PERIOD_SECONDS):
            if reason := self.look():
                self.reason = reason
                kill(tree(self.pid))
                return

    def look(self) -> str:
        """What limit it has left, or ''."""
        size = os.fstat(self.stderr.fileno()).st_size
        if size > self.limits.stderr:
            return f"it wrote {size >> 20} MiB to stderr; at most {self.limits.stderr >> 20} may be"
        members = tree(self.pid)
        if len(members) > PROCESSES:
            return f"it has {len(members)} processes; at most {PROCESSES} may be"
        files = files_in_memory(members, self.tmpfs)
        if resident(self.pid) + files > self.limits.memory:
            held = resident_once(self.pid) + files
            if held > self.limits.memory:
                allowed = self.limits.memory / 2**30
                return f"it used {held / 1e6:.0f} MB, but the configuration allows {allowed:g} GiB"
        for one in members:
            for thread in _threads(one):
                with suppress(OSError):
                    if not os.sched_getaffinity(int(thread)) <= self.limits.cores:
                        return (
                            "it left the cores that it was pinned to. Leave the affinity alone "
                            "(sched_setaffinity, taskset, OMP_PROC_BIND)"
                        )
        return ""

    def end(self) -> None:
        """Stop looking."""
        self.over.set()
        self.join()


@cache
def adopt_orphans() -> None:
    """From now on a descendant whose parent ends becomes this process' child, so that none is out
    of sight.
    """
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def orphans(mark: str) -> set[int]:
    """The children of the process that asks, in whose environment the mark stands."""
    marked = mark.encode()
    return {one for one in children(os.getpid()) if marked in _bytes(f"/proc/{one}/environ")}


def kill(pids: list[int]) -> None:
    """At once."""
    for pid in pids:
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def bury(pids: set[int]) -> None:
    """Kill these and all that comes of them, and wait until they are gone (at most 5 seconds)."""
    deadline = time.monotonic() + GONE_SECONDS
    while time.monotonic() < deadline:
        left = [each for pid in pids for each in tree(pid)]
        kill(left)
        for pid in pids:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        if not left:
            return
        time.sleep(0.005)


def _threads(pid: int) -> list[str]:
    return [each.name for each in _entries(f"/proc/{pid}/task")]


def _entries(folder: str) -> list[Path]:
    try:
        return list(Path(folder).iterdir())
    except OSError:
        return []


def _kilobytes(pid: int, file: str, name: str) -> int:
    """A field of a file in /proc/PID; 0 where it is missing (a process that is just leaving)."""
    for line in _lines(f"/proc/{pid}/{file}"):
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    return 0


def _lines(path: str) -> Iterator[str]:
    yield from _text(path).splitlines()


def _text(path: str) -> str:
    return _bytes(path).decode(errors="replace")


def _bytes(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""
