"""What makes this machine noisy, and how to fix it: `wattbench doctor`."""

import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from harness.errors import HarnessError
from harness.telemetry import energy, machine
from harness.telemetry.configuration import choose_configuration, nvml_devices
from harness.worker import sandbox

WATCHED_SECONDS = 3.0
BUSY_CORES = 0.1
STEAL_CORES = 0.01
JITTER = 0.1
CPU = "/sys/devices/system/cpu"


def examine() -> Iterator[str]:
    """One line a finding, `ok` or `fix`, with a remedy; takes about six seconds."""
    yield from (_line(*check()) for check in CHECKS)


def warnings() -> list[str]:
    """Only what should be mended, without the checks that take time."""
    quick = [check for check in CHECKS if check not in (_quiet, _steady)]
    return [_line(*found) for found in (check() for check in quick) if found[1]]


Finding = tuple[str, str]
"""What was found, and the remedy; '' where all is well."""


def _line(found: str, remedy: str) -> str:
    return f"fix   {found}. {remedy}" if remedy else f"ok    {found}"


def _fits() -> Finding:
    try:
        chosen = choose_configuration()
    except HarnessError as error:
        return "no configuration fits", str(error)
    cores = len(os.sched_getaffinity(0))
    found = f"{cores} cores at hand, the largest configuration that fits is {chosen.name}"
    if cores == chosen.cores:
        return (
            f"{found}: none is left for the harness",
            "On a larger machine the driver has a core of its own; here its share is in the "
            "numbers (column harness). A smaller configuration leaves one free",
        )
    return found, ""


def _quota() -> Finding:
    quota, cores = machine.quota(), len(os.sched_getaffinity(0))
    if quota is not None and quota < cores:
        return (
            f"the control group allows {quota:g} of {cores} cores",
            "The kernel stops the worker in the middle of a window: raise the container's CPU "
            "limit, or pin whole cores (--cpuset-cpus)",
        )
    return "no CPU quota cuts windows", ""


def _governor() -> Finding:
    governor = machine.read(f"{CPU}/cpu0/cpufreq/scaling_governor").strip()
    if not governor:
        return "the clock frequency is not ours to set (no governor; usual in virtual machines)", ""
    if governor != "performance":
        return (
            f"the governor is {governor!r}, so the clock follows the load",
            "Run: sudo cpupower frequency-set -g performance",
        )
    return "the governor is 'performance'", ""


def _turbo() -> Finding:
    intel = machine.read(f"{CPU}/intel_pstate/no_turbo").strip()
    boost = machine.read(f"{CPU}/cpufreq/boost").strip()
    if intel == "0" or boost == "1":
        file = f"{CPU}/intel_pstate/no_turbo" if intel else f"{CPU}/cpufreq/boost"
        return (
            "turbo is on: the clock depends on heat and on the other cores",
            f"Run: echo {1 if intel else 0} | sudo tee {file}",
        )
    return "turbo is off, or not ours to set", ""


def _siblings() -> Finding:
    allowed = sorted(os.sched_getaffinity(0))
    lists = [machine.read(f"{CPU}/cpu{core}/topology/thread_siblings_list") for core in allowed]
    shared = len([each for each in lists if each]) - len({each for each in lists if each})
    if shared:
        return (
            f"{shared} of the {len(allowed)} logical CPUs share a core with another (SMT)",
            "Two threads of one core are slower than two cores: echo off | sudo tee "
            f"{CPU}/smt/control, or start wattbench under taskset with one CPU of each core",
        )
    return "no two CPUs share a core, as far as the kernel tells", ""


def _memory() -> Finding:
    swap = psutil.swap_memory().used / 1e6
    free = psutil.virtual_memory().available / 1e9
    if swap > 100 or free < 2:
        return (
            f"{swap:,.0f} MB are swapped out and {free:.1f} GB of memory are free",
            "Close what holds the memory, then: sudo swapoff -a && sudo swapon -a",
        )
    return f"{free:.1f} GB of memory are free, nothing to speak of is swapped out", ""


def _battery() -> Finding:
    for path in Path("/sys/class/power_supply").glob("*/online"):
        if path.read_text().strip() == "0" and "AC" in path.parent.name.upper():
            return "the machine runs on battery", "Plug it in: on battery the clock is lowered"
    return "not on battery", ""


def _counters() -> Finding:
    gpus = nvml_devices()
    also = f"; GPU: {', '.join(gpus)} (NVML)" if gpus else ""
    if energy.rapl_readable():
        return f"energy is measured: the RAPL counters can be read{also}", ""
    if Path("/sys/class/powercap/intel-rapl").exists():
        return (
            f"the RAPL counters are there but cannot be read, so energy is modelled{also}",
            "Run: sudo chmod -R a+r /sys/class/powercap/intel-rapl (until the next start)",
        )
    return f"there are no RAPL counters (usual in virtual machines): energy is modelled{also}", ""


def _quiet() -> Finding:
    own = time.process_time()
    before, started = machine.ticks(), time.perf_counter()
    time.sleep(WATCHED_SECONDS)
    seconds = time.perf_counter() - started
    busy, stolen = (
        (after - first) / seconds for after, first in zip(machine.ticks(), before, strict=True)
    )
    busy -= (time.process_time() - own) / seconds
    found = (
        f"other processes keep {max(0.0, busy):.2f} cores busy, the hypervisor takes {stolen:.2f}"
    )
    if busy > BUSY_CORES:
        names = sorted(psutil.process_iter(["name", "cpu_times"]), key=_used, reverse=True)
        most = ", ".join(dict.fromkeys(str(each.info["name"]) for each in names[:8]))
        return found, f"Stop what is not needed (most CPU time so far: {most})"
    if stolen > STEAL_CORES:
        return found, "Neighbours share this host: measure at another hour, or on a dedicated one"
    return found, ""


def _sandbox() -> Finding:
    if fault := sandbox.missing():
        consequence = "a worker can reach the network and the labels"
        return f"isolation: process, so {consequence}: {fault.reason}", fault.remedy
    return "isolation: bubblewrap, so a worker reaches neither the network nor the labels", ""


def _used(process: psutil.Process) -> float:
    times = process.info["cpu_times"]
    return float(times.user + times.system) if times else 0.0


def _steady() -> Finding:
    """Times the same few milliseconds of arithmetic over and over."""
    times = []
    until = time.perf_counter() + WATCHED_SECONDS
    while time.perf_counter() < until:
        started = time.perf_counter()
        sum(range(200_000))
        times.append(time.perf_counter() - started)
    times.sort()
    middle, slow = statistics.median(times), times[int(0.95 * len(times))]
    found = (
        f"the same work takes {middle * 1e3:.2f} ms, and one time in twenty "
        f"{slow / middle - 1:.0%} more"
    )
    if slow > (1 + JITTER) * middle:
        return found, "Expect wide intervals: more blocks (--rounds 10), or --until 5%"
    return found, ""


CHECKS: tuple[Callable[[], Finding], ...] = (
    _fits,
    _quota,
    _governor,
    _turbo,
    _siblings,
    _memory,
    _battery,
    _counters,
    _sandbox,
    _quiet,
    _steady,
)
