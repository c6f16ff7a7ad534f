"""What the kernel reports: CPU time, and the limits of control groups (cgroups, version 1 and 2).

A limit of a control group holds for all groups below it. So what counts is the lowest limit of this
process's group and its ancestors, as far up as they are mounted.
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path

NO_LIMIT = 1 << 62
"""Version 1 states the largest multiple of a page where the memory is not limited."""


BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""What Linux calls the instructions of x86 and Arm processors that multiply bf16 numbers."""


def read_processor_flags() -> frozenset[str]:
    """Return what the processor can do, in Linux's words; nothing on other systems."""
    for line in read_kernel_file("/proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


@cache
def has_bf16_products() -> bool:
    """Return whether the processor has instructions that multiply bf16 numbers."""
    return not BF16_FLAGS.isdisjoint(read_processor_flags())


def read_kernel_file(path: str | Path) -> str:
    """Return the content of a file below /proc or /sys; '' if it cannot be read."""
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def read_cpu_seconds() -> tuple[float, float]:
    """Return the CPU-seconds since the machine started.

    Returns:
        Those that all processes were busy, and those that the hypervisor took.
    """
    first = read_kernel_file("/proc/stat").partition("\n")[0].split()[1:]
    user, nice, system, _, _, irq, softirq, steal = map(int, first[:8])
    hertz = os.sysconf("SC_CLK_TCK")
    return (user + nice + system + irq + softirq) / hertz, steal / hertz


def read_cpu_quota() -> float | None:
    """Return how many cores the control groups allow; None without a limit."""
    quotas = (_read_quota(group) for group in find_groups("cpu"))
    return min((quota for quota in quotas if quota is not None), default=None)


def _read_quota(group: Path) -> float | None:
    quota, _, period = read_kernel_file(group / "cpu.max").strip().partition(" ")
    if not quota:
        quota = read_kernel_file(group / "cpu.cfs_quota_us").strip()
        period = read_kernel_file(group / "cpu.cfs_period_us").strip()
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else None


def read_throttling() -> dict[Path, tuple[int, int]]:
    """Return of each control group with a CPU limit in how many periods it ran, and in how many of
    them it used up its limit and was paused.
    """
    groups = [group for group in find_groups("cpu") if _read_quota(group) is not None]
    stats = {group: _read_stat(group / "cpu.stat") for group in groups}
    return {
        group: (stat.get("nr_periods", 0), stat.get("nr_throttled", 0))
        for group, stat in stats.items()
    }


def compute_throttled_share(
    before: Mapping[Path, tuple[int, int]], after: Mapping[Path, tuple[int, int]]
) -> float | None:
    """Return the share of periods in which a control group was paused; None without a CPU limit.

    Args:
        before: of `read_throttling`, when a window began.
        after: the same when it ended.
    """
    changes = [
        (after[group][0] - before[group][0], after[group][1] - before[group][1])
        for group in before.keys() & after.keys()
    ]
    return max((paused / periods for periods, paused in changes if periods), default=None)


def read_memory_limit() -> int | None:
    """Return how many bytes the control groups allow; None without a limit."""
    limits = (_read_memory_limit(group) for group in find_groups("memory"))
    return min((limit for limit in limits if limit is not None), default=None)


def read_free_memory() -> int | None:
    """Return how many bytes are left of what the control groups allow; None without a limit.

    Files in the page cache that are not in use count as free: the kernel drops them first.
    """
    free = []
    for group in find_groups("memory"):
        limit = _read_memory_limit(group)
        used = read_kernel_file(group / "memory.current") or read_kernel_file(
            group / "memory.usage_in_bytes"
        )
        if limit is not None and used.strip().isdigit():
            stat = _read_stat(group / "memory.stat")
            cached = stat.get("total_inactive_file", stat.get("inactive_file", 0))
            free.append(max(0, limit - max(0, int(used) - cached)))
    return min(free, default=None)


def _read_memory_limit(group: Path) -> int | None:
    limit = read_kernel_file(group / "memory.max") or read_kernel_file(
        group / "memory.limit_in_bytes"
    )
    return int(limit) if limit.strip().isdigit() and int(limit) < NO_LIMIT else None


def _read_stat(path: Path) -> dict[str, int]:
    pairs = (line.split() for line in read_kernel_file(path).splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def find_groups(controller: str) -> list[Path]:
    """Return the folders of this process's control group and of its ancestors.

    Args:
        controller: `cpu` or `memory`. Both versions may be mounted, each with some controllers, so
            a folder need not have its files.
    """
    paths: dict[str, str] = {}
    for line in read_kernel_file("/proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        paths |= dict.fromkeys(controllers.split(","), path)
    groups: list[Path] = []
    for kind, options, root, mount in _read_mounts():
        name = "" if kind == "cgroup2" else controller
        if name in paths and (kind == "cgroup2" or controller in options.split(",")):
            group = _find_group(mount, root, paths[name])
            groups += [path for path in (group, *group.parents) if path.is_relative_to(mount)]
    return list(dict.fromkeys(groups))


def _read_mounts() -> Iterator[tuple[str, str, str, Path]]:
    """Yield type, options, root and mount point of each mounted hierarchy (see `man proc`)."""
    for line in read_kernel_file("/proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.partition(" ")
        if kind in ("cgroup", "cgroup2"):
            root, mount = (
                re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), field)
                for field in before.split(" ")[3:5]
            )
            yield kind, options.rpartition(" ")[2], root, Path(mount)


def _find_group(mount: Path, root: str, path: str) -> Path:
    """Return the folder of the group of this process.

    Args:
        mount: where the hierarchy is mounted.
        root: the group that is mounted there.
        path: the group of this process.
    """
    if ".." not in Path(f"{root}/{path}").parts:
        with suppress(ValueError):  # it is not below the root of the mount
            folder = mount / Path(path).relative_to(root)
            if folder.is_dir():
                return folder
    # A namespace hides the names of the groups between its own root and the mount's.
    pid = str(os.getpid())
    lists = mount.rglob("cgroup.procs")
    return next((file.parent for file in lists if pid in read_kernel_file(file).split()), mount)
