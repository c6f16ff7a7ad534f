"""A worker's process tree, read from /proc: its processes, CPU time and memory.

Control groups are not used, so that no privileges are needed.
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import psutil

KERNEL_LISTS_CHILDREN = Path(f"/proc/self/task/{os.getpid()}/children").exists()
"""Whether /proc lists the children of a process, which depends on how the kernel was built."""

PAGE_BYTES, TICKS_PER_SECOND = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_CLK_TCK")


def find_tree(pid: int) -> list[int]:
    """Return a process and all its descendants; nothing once it is gone."""
    tree, waiting = [], [pid]
    while waiting:
        process = waiting.pop()
        if list_threads(process):
            tree.append(process)
            waiting += find_children(process)
    return tree


def find_children(pid: int) -> list[int]:
    """Return the children of a process."""
    if not KERNEL_LISTS_CHILDREN:
        try:
            return [child.pid for child in psutil.Process(pid).children()]
        except psutil.Error:
            return []
    files = (_read_text(f"/proc/{pid}/task/{thread}/children") for thread in list_threads(pid))
    return [int(child) for text in files for child in text.split()]


def find_marked_children(marker: str) -> set[int]:
    """Return the children of this process whose environment holds a marker."""
    marked = marker.encode()
    return {
        child
        for child in find_children(os.getpid())
        if marked in _read_bytes(f"/proc/{child}/environ")
    }


def find_worker_processes(pid: int, sandbox: int) -> list[int]:
    """Return the processes of a worker without those of its sandbox; nothing once it is gone.

    Args:
        pid: the process that the driver started.
        sandbox: how many processes of the sandbox come before the worker. The last of them also
            adopts orphans, which belong to the worker.
    """
    members = find_tree(pid)
    for _ in range(sandbox):
        members = [member for member in members if member != pid]
        pid = next(iter(find_children(pid)), pid)
    return members


def list_threads(pid: int) -> list[str]:
    """Return the ids of a process' threads; nothing once it is gone."""
    return [entry.name for entry in _list_folder(f"/proc/{pid}/task")]


def read_cpu_seconds(pid: int) -> float:
    """Return user and system time of a process tree so far, also of children that have ended."""
    ticks = 0
    for process in find_tree(pid):
        # the name, in brackets, may hold anything; utime, stime, cutime and cstime are 14 to 17
        fields = _read_text(f"/proc/{process}/stat").rpartition(")")[2].split()
        ticks += sum(map(int, fields[11:15]))
    return ticks / TICKS_PER_SECOND


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process tree; shared pages count for each process."""
    counts = (_read_text(f"/proc/{process}/statm").split() for process in find_tree(pid))
    return sum(int(fields[1]) for fields in counts if fields) * PAGE_BYTES


def proportional_bytes(pid: int) -> int:
    """Return the resident memory of a process tree with shared pages counted once (PSS).

    The kernel walks all pages for it, which takes milliseconds.
    """
    return sum(_read_kib(process, "smaps_rollup", "Pss") for process in find_tree(pid)) * 1024


def peak_memory_bytes(pid: int, sandbox: int) -> float:
    """Return the peak resident memory of a worker, over all its processes.

    Several processes share pages (libraries, weights): then the peak of each one counts with the
    share of its memory that is its own (PSS over RSS now). Not to be called in a timed window.

    Args:
        pid: the process that the driver started.
        sandbox: as for `find_worker_processes`.
    """
    members = find_worker_processes(pid, sandbox)
    peaks = {member: _read_kib(member, "status", "VmHWM") for member in members}
    total = float(sum(peaks.values()))
    if len(members) > 1:
        for member in members:
            resident = _read_kib(member, "smaps_rollup", "Rss") or 1
            total -= peaks[member] * (1 - _read_kib(member, "smaps_rollup", "Pss") / resident)
    return total * 1024


def memory_file_bytes(members: list[int], tmpfs: Mapping[str, int]) -> int:
    """Return the size of files that are kept in memory outside of any process.

    These are files of memfd_create, and the contents of the worker's own temporary file systems.

    Args:
        members: the processes of the worker.
        tmpfs: as `find_private_tmpfs` returns it.
    """
    counted, total = set(), 0
    for pid in members:
        for descriptor in _list_folder(f"/proc/{pid}/fd"):
            with suppress(OSError):
                if str(descriptor.readlink()).startswith("/memfd:"):
                    status = descriptor.stat()
                    if (status.st_dev, status.st_ino) not in counted:
                        counted.add((status.st_dev, status.st_ino))
                        total += status.st_blocks * 512
    return total + sum(_used_bytes(members, point, device) for point, device in tmpfs.items())


def _used_bytes(members: list[int], point: str, device: int) -> int:
    """Return the used bytes of a file system, through the first process that has it mounted."""
    for pid in members:
        folder = f"/proc/{pid}/root{point}"
        with suppress(OSError):
            if os.stat(folder).st_dev == device:  # noqa: PTH116 (a path of the kernel's)
                usage = os.statvfs(folder)
                return (usage.f_blocks - usage.f_bfree) * usage.f_frsize
    return 0


def find_private_tmpfs(pid: int) -> dict[str, int]:
    """Return the tmpfs file systems that a process has mounted and this process has not.

    They were created for the mount namespace of that process, so that their files are its memory. A
    tmpfs of the machine (its /tmp, /run or /dev/shm) is mounted here too, and never counts.

    Returns:
        The device number of each, by its mount point.
    """
    shared = {device for device, _, _ in _read_mounts(os.getpid())}
    return {
        point: device
        for device, point, kind in _read_mounts(pid)
        if kind == "tmpfs" and device not in shared
    }


def _read_mounts(pid: int) -> Iterator[tuple[int, str, str]]:
    """Yield device number, mount point and type of every file system that a process sees (proc(5),
    mountinfo).
    """
    for line in _read_text(f"/proc/{pid}/mountinfo").splitlines():
        mount, _, source = line.partition(" - ")
        fields = mount.split()
        major, minor = map(int, fields[2].split(":"))
        point = re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), fields[4])
        yield os.makedev(major, minor), point, source.split()[0]


def _list_folder(folder: str) -> list[Path]:
    try:
        return list(Path(folder).iterdir())
    except OSError:
        return []


def _read_kib(pid: int, file: str, name: str) -> int:
    """Return a field of a file in /proc/PID; 0 if it is missing, as of a process that is ending."""
    for line in _read_text(f"/proc/{pid}/{file}").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    return 0


def _read_text(path: str) -> str:
    return _read_bytes(path).decode(errors="replace")


def _read_bytes(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""
