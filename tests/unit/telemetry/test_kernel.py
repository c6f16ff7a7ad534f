"""Limits of control groups, from folders as the kernel lays them out."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.telemetry import configuration, kernel
from harness.telemetry.configuration import configurations
from harness.telemetry.machine import build_fingerprint

Mount = Callable[..., None]
GIB = 1 << 30


@pytest.fixture
def mount(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Mount:
    """Make this process a member of control groups in a folder.

    The function that is returned takes the line of /proc/self/cgroup, type, options and root of the
    mount, and the content of files; it can be called for several mounts.
    """
    proc = {
        "/proc/self/cgroup": "",
        "/proc/self/mountinfo": "22 1 0:20 / / rw - ext4 /dev/vda rw\n",
    }
    read = kernel.read_kernel_file
    monkeypatch.setattr(
        kernel,
        "read_kernel_file",
        lambda path: proc[str(path)] if str(path) in proc else read(path),
    )

    def add(group: str, kind: str, options: str, files: dict[str, str], root: str = "/") -> None:
        folder = tmp_path / "with space" / str(len(proc["/proc/self/mountinfo"].splitlines()))
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        proc["/proc/self/cgroup"] += f"{group}\n"
        point = str(folder).replace(" ", "\\040")
        proc["/proc/self/mountinfo"] += (
            f"31 30 0:28 {root} {point} rw,relatime shared:9 - {kind} cgroup rw,{options}\n"
        )

    return add


def test_lowest_quota_of_the_group_and_its_ancestors_counts(mount: Mount) -> None:
    files = {
        "cpu.stat": "usage_usec 1\n",
        "a/cpu.max": "50000 100000\n",
        "a/b/cpu.max": "max 100000\n",
        "a/c/cpu.max": "1000 100000\n",
    }
    mount("0::/a/b", "cgroup2", "nsdelegate", files)
    assert kernel.read_cpu_quota() == 0.5
    assert build_fingerprint("process")["quota"] == 0.5


@pytest.mark.parametrize("controllers", ["cpu", "cpu,cpuacct", "cpuacct,cpu"])
def test_quota_of_version_1_is_read(mount: Mount, controllers: str) -> None:
    files = {
        "cpu.cfs_quota_us": "-1\n",
        "cpu.cfs_period_us": "100000\n",
        "docker/cpu.cfs_quota_us": "60000\n",
        "docker/cpu.cfs_period_us": "100000\n",
    }
    mount(f"4:{controllers}:/docker", "cgroup", controllers, files)
    mount("0::/", "cgroup2", "", {})
    assert kernel.read_cpu_quota() == 0.6


def test_no_limit_is_none(mount: Mount) -> None:
    assert kernel.read_cpu_quota() is None
    assert kernel.read_memory_limit() is None
    files = {"cpu.cfs_quota_us": "-1\n", "cpu.cfs_period_us": "100000\n"}
    mount("4:cpu:/", "cgroup", "cpu", files)
    mount("5:memory:/", "cgroup", "memory", {"memory.limit_in_bytes": "9223372036854771712\n"})
    mount("0::/", "cgroup2", "", {"cpu.max": "max 100000\n", "memory.max": "max\n"})
    assert kernel.read_cpu_quota() is None
    assert kernel.read_memory_limit() is None
    assert kernel.read_free_memory() is None
    assert kernel.compute_throttled_share({}, kernel.read_throttling()) is None


def test_mount_of_a_containers_own_group_is_its_group(mount: Mount) -> None:
    mount("0::/pods/x", "cgroup2", "", {"cpu.max": "150000 100000\n"}, root="/pods/x")
    assert kernel.read_cpu_quota() == 1.5


@pytest.mark.parametrize(("group", "root"), [("/", "/../.."), ("/../x", "/"), ("/gone", "/")])
def test_group_whose_path_a_namespace_hides_is_found_by_its_processes(
    mount: Mount, group: str, root: str
) -> None:
    files = {
        "pods/x/cgroup.procs": f"1\n{os.getpid()}\n",
        "pods/x/cpu.max": "max 100000\n",
        "pods/cpu.max": "70000 100000\n",
        "pods/y/cgroup.procs": "1\n",
        "pods/y/cpu.max": "1000 100000\n",
    }
    mount(f"0::{group}", "cgroup2", "", files, root)
    assert kernel.read_cpu_quota() == 0.7


def test_share_of_paused_periods_is_that_of_the_window(mount: Mount, tmp_path: Path) -> None:
    files = {"cpu.max": "60000 100000\n", "cpu.stat": "nr_periods 100\nnr_throttled 90\n"}
    mount("0::/", "cgroup2", "", files)
    before = kernel.read_throttling()
    assert kernel.compute_throttled_share(before, before) is None
    (path,) = tmp_path.rglob("cpu.stat")
    path.write_text("nr_periods 120\nnr_throttled 95\nthrottled_usec 5\n")
    assert kernel.compute_throttled_share(before, kernel.read_throttling()) == 0.25


@pytest.mark.parametrize("version", [1, 2])
def test_memory_limit_of_a_container_is_that_of_a_configuration(
    mount: Mount, version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = (3 * GIB, 2 * GIB)
    if version == 1:
        names, cached = ("memory.limit_in_bytes", "memory.usage_in_bytes"), "total_inactive_file"
        line, kind, options = "7:memory:/c", "cgroup", "memory"
    else:
        names, cached = ("memory.max", "memory.current"), "inactive_file"
        line, kind, options = "0::/c", "cgroup2", ""
    files = {f"c/{name}": f"{size}\n" for name, size in zip(names, sizes, strict=True)}
    files["c/memory.stat"] = f"anon 3\n{cached} {GIB}\n"
    mount(line, kind, options, files)
    assert kernel.read_memory_limit() == 3 * GIB
    assert kernel.read_free_memory() == 2 * GIB
    monkeypatch.setattr(configuration.os, "sched_getaffinity", lambda pid: {0, 1})
    known = configurations()
    assert known["cpu-1"].find_misfit() == ""
    large = known["cpu-1"].model_copy(update={"memory_gb": 3.5})
    assert large.find_misfit() == (
        "it needs 3.5 GiB of memory, and the control group (container) allows 3.0"
    )


@pytest.mark.parametrize(
    ("content", "flags"),
    [
        ("processor\t: 0\nflags\t\t: fpu avx512_bf16\n\nflags\t\t: fpu\n", {"fpu", "avx512_bf16"}),
        ("BogoMIPS\t: 2100.00\nFeatures\t: fp asimd bf16\n", {"fp", "asimd", "bf16"}),
        ("flags\t\t: fpu avx512f\n", {"fpu", "avx512f"}),
        ("", set()),
    ],
    ids=["x86", "Arm", "without bf16", "not Linux"],
)
def test_flags_are_those_of_the_first_processor(
    monkeypatch: pytest.MonkeyPatch, content: str, flags: set[str]
) -> None:
    monkeypatch.setattr(kernel, "read_kernel_file", {"/proc/cpuinfo": content}.get)
    assert kernel.read_processor_flags() == flags
    assert kernel.has_bf16_products.__wrapped__() == bool(flags & {"avx512_bf16", "bf16"})
