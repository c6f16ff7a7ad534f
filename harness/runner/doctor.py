"""What makes this machine noisy, and how to fix it: `wattbench doctor`."""

import os
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from harness.errors import HarnessError
from harness.runner.prerequisites import describe_use, find_obstacle
from harness.telemetry import energy, kernel
from harness.telemetry.configuration import choose_configuration
from harness.telemetry.gpu import find_gpu
from harness.worker import sandbox

WATCHED_SECONDS = 3.0
BUSY_CORES = 0.1
STEAL_CORES = 0.01
JITTER = 0.1
CPU = "/sys/devices/system/cpu"


Diagnosis = tuple[str, str]
"""The state of the machine in one respect, and the remedy; the remedy is '' where all is well."""


def examine() -> Iterator[str]:
    """Yield one line per check, `ok` or `fix` with a remedy; takes about six seconds."""
    yield from (_format_line(*check()) for check in CHECKS)


def find_quick_warnings() -> list[str]:
    """Return only what should be fixed, without the checks that take time."""
    diagnoses = [check() for check in CHECKS if check not in SLOW_CHECKS]
    return [_format_line(state, remedy) for state, remedy in diagnoses if remedy]


def _format_line(state: str, remedy: str) -> str:
    return f"fix   {state}. {remedy}" if remedy else f"ok    {state}"


def _check_cores() -> Diagnosis:
    try:
        configuration = choose_configuration()
    except HarnessError as error:
        return "no configuration fits", str(error)
    cores = len(os.sched_getaffinity(0))
    state = f"{cores} cores available, the largest configuration that fits is {configuration.name}"
    if cores == configuration.cores:
        return (
            f"{state}: none is left for the harness",
            "On a larger machine the driver has a core of its own; here its share is part of the "
            "figures (column harness). A smaller configuration leaves one free",
        )
    return state, ""


def _check_quota() -> Diagnosis:
    quota, cores = kernel.read_cpu_quota(), len(os.sched_getaffinity(0))
    if quota is not None and quota < cores:
        return (
            f"the control group allows {quota:g} of {cores} cores{_describe_throttling()}",
            "The kernel pauses the worker in the middle of a window: raise the container's CPU "
            "limit, or pin whole cores (--cpuset-cpus)",
        )
    return "no CPU quota pauses workers", ""


def _describe_throttling() -> str:
    groups = kernel.read_throttling().values()
    periods, paused = max(groups, key=lambda pair: pair[1], default=(0, 0))
    return f", and has paused in {paused} of {periods} periods so far" if paused else ""


def _check_governor() -> Diagnosis:
    governor = kernel.read_kernel_file(f"{CPU}/cpu0/cpufreq/scaling_governor").strip()
    if not governor:
        return "the clock frequency cannot be set (no governor; usual in virtual machines)", ""
    if governor != "performance":
        return (
            f"the governor is {governor!r}, so the clock follows the load",
            "Run: sudo cpupower frequency-set -g performance",
        )
    return "the governor is 'performance'", ""


def _check_turbo() -> Diagnosis:
    intel = kernel.read_kernel_file(f"{CPU}/intel_pstate/no_turbo").strip()
    boost = kernel.read_kernel_file(f"{CPU}/cpufreq/boost").strip()
    if intel == "0" or boost == "1":
        file = f"{CPU}/intel_pstate/no_turbo" if intel else f"{CPU}/cpufreq/boost"
        return (
            "turbo is on: the clock depends on heat and on the other cores",
            f"Run: echo {1 if intel else 0} | sudo tee {file}",
        )
    return "turbo is off, or cannot be set", ""


def _check_siblings() -> Diagnosis:
    allowed = sorted(os.sched_getaffinity(0))
    lists = [
        kernel.read_kernel_file(f"{CPU}/cpu{core}/topology/thread_siblings_list")
        for core in allowed
    ]
    known = [siblings for siblings in lists if siblings]
    shared = len(known) - len(set(known))
    if shared:
        return (
            f"{shared} of the {len(allowed)} logical CPUs share a core with another (SMT)",
            "Two threads of one core are slower than two cores: echo off | sudo tee "
            f"{CPU}/smt/control, or start wattbench under taskset with one CPU of each core",
        )
    return "no two CPUs share a core, as far as the kernel reports", ""


def _check_memory() -> Diagnosis:
    swap = psutil.swap_memory().used / 1e6
    free, group = psutil.virtual_memory().available / 1e9, ""
    allowed = kernel.read_free_memory()
    if allowed is not None and allowed / 1e9 < free:
        free, group = allowed / 1e9, " in the control group"
    if swap > 100 or free < 2:
        return (
            f"{swap:,.0f} MB are swapped out and {free:.1f} GB of memory are free{group}",
            "Close what uses the memory, then: sudo swapoff -a && sudo swapon -a",
        )
    return f"{free:.1f} GB of memory are free{group}, almost nothing is swapped out", ""


def _check_battery() -> Diagnosis:
    for path in Path("/sys/class/power_supply").glob("*/online"):
        if path.read_text().strip() == "0" and "AC" in path.parent.name.upper():
            return "the machine runs on battery", "Plug it in: on battery the clock is lowered"
    return "not on battery", ""


def _check_energy_counters() -> Diagnosis:
    if energy.is_rapl_readable():
        return "energy is measured: the RAPL counters can be read", ""
    if Path("/sys/class/powercap/intel-rapl").exists():
        return (
            "the RAPL counters exist but cannot be read, so energy is modelled",
            "Run: sudo chmod -R a+r /sys/class/powercap/intel-rapl (until the next boot)",
        )
    return "there are no RAPL counters (usual in virtual machines): energy is modelled", ""


def _check_gpu() -> Diagnosis:
    gpu = find_gpu()
    if gpu is None:
        return "there is no NVIDIA GPU (NVML): only cpu configurations can be measured", ""
    state = f"{gpu.name}, {gpu.memory_gb:.0f} GiB, driver {gpu.driver}"
    for engine in ("", "pytorch"):
        if obstacle := find_obstacle(gpu, engine):
            reason, _, remedy = obstacle.partition(". ")
            return f"{state}, but {reason}", remedy
    if use := describe_use(gpu):
        return f"{state}, {use}", "Stop them: nvidia-smi lists them"
    return f"{state}; its energy is measured (NVML's counter)", ""


def _check_load() -> Diagnosis:
    own_seconds, seconds_by_process = time.process_time(), _read_process_seconds()
    before, started = kernel.read_cpu_seconds(), time.perf_counter()
    time.sleep(WATCHED_SECONDS)
    seconds = time.perf_counter() - started
    busy, stolen = (
        (after - first) / seconds
        for after, first in zip(kernel.read_cpu_seconds(), before, strict=True)
    )
    busy -= (time.process_time() - own_seconds) / seconds
    state = (
        f"other processes keep {max(0.0, busy):.2f} cores busy, the hypervisor takes {stolen:.2f}"
    )
    if busy > BUSY_CORES:
        return state, f"Stop what is not needed ({_name_busiest(seconds_by_process, seconds)})"
    if stolen > STEAL_CORES:
        return state, "Neighbours share this host: measure at another time, or on a dedicated host"
    return state, ""


def _read_process_seconds() -> dict[psutil.Process, float]:
    """Return the CPU-seconds of every other process since it started."""
    return {
        process: times.user + times.system
        for process in psutil.process_iter(["cpu_times"])
        if process.pid != os.getpid() and (times := process.info["cpu_times"])
    }


def _name_busiest(before: dict[psutil.Process, float], seconds: float) -> str:
    """Return the programs that used CPU time since `before`, and how many cores each."""
    cores: defaultdict[str, float] = defaultdict(float)
    for process, used in _read_process_seconds().items():
        with suppress(psutil.Error):  # it has ended
            cores[process.name()] += (used - before.get(process, 0.0)) / seconds
    names = [name for name in sorted(cores, key=cores.__getitem__)[::-1] if cores[name] >= 0.01]
    return (
        ", ".join(f"{name}: {cores[name]:.2f} cores" for name in names[:5])
        or "processes that end at once, as a compiler's"
    )


def _check_sandbox() -> Diagnosis:
    if fault := sandbox.check_sandbox():
        consequence = "a worker can reach the network and the labels"
        return f"isolation: process, so {consequence}: {fault.reason}", fault.remedy
    return "isolation: bubblewrap, so a worker reaches neither the network nor the labels", ""


def _check_jitter() -> Diagnosis:
    """Time the same few milliseconds of arithmetic over and over."""
    times = []
    until = time.perf_counter() + WATCHED_SECONDS
    while time.perf_counter() < until:
        started = time.perf_counter()
        sum(range(200_000))
        times.append(time.perf_counter() - started)
    times.sort()
    median, slow = statistics.median(times), times[int(0.95 * len(times))]
    state = (
        f"the same work takes {median * 1e3:.2f} ms, and one time in twenty "
        f"{slow / median - 1:.0%} more"
    )
    if slow > (1 + JITTER) * median:
        return state, "Expect wide intervals: more blocks (--rounds 10), or --until 5%"
    return state, ""


CHECKS: tuple[Callable[[], Diagnosis], ...] = (
    _check_cores,
    _check_quota,
    _check_governor,
    _check_turbo,
    _check_siblings,
    _check_memory,
    _check_battery,
    _check_energy_counters,
    _check_gpu,
    _check_sandbox,
    _check_load,
    _check_jitter,
)

SLOW_CHECKS = (_check_gpu, _check_load, _check_jitter)
