"""The machine and the software that a measurement was made with."""

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

PACKAGES = (
    "wattbench",
    "torch",
    "transformers",
    "tokenizers",
    "onnx",
    "onnxruntime",
    "scikit-learn",
    "numpy",
)

FLAGS = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx_vnni",
    "amx_int8",
    "amx_bf16",
    "asimddp",
    "bf16",
)


def fingerprint(isolation: str) -> dict[str, Any]:
    """What tells one machine from another, and what disturbs timings on it.

    isolation: of its workers, one of `sandbox.KINDS`.
    """
    info = read("/proc/cpuinfo")
    fields = dict(line.split(":", 1) for line in info.splitlines() if ":" in line)
    stripped = {key.strip(): value.strip() for key, value in fields.items()}
    flags = (stripped.get("flags") or stripped.get("Features") or "").split()
    memory = (
        os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    )
    return {
        "cpu": stripped.get("model name") or platform.processor() or platform.machine(),
        "flags": [flag for flag in FLAGS if flag in flags],
        "cores": os.cpu_count(),
        "memory_gb": round(memory / 2**30, 1),
        "quota": quota(),
        "governor": read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").strip()
        or "unknown",
        "smt": {"1": True, "0": False}.get(read("/sys/devices/system/cpu/smt/active").strip()),
        "hypervisor": "hypervisor" in flags,
        "system": platform.system(),
        "kernel": platform.release(),
        "isolation": isolation,
    }


def ticks() -> tuple[float, float]:
    """CPU-seconds since the start of the machine: busy (of all processes), and stolen by the
    hypervisor.
    """
    first = read("/proc/stat").partition("\n")[0].split()[1:]
    user, nice, system, _, _, irq, softirq, steal = map(int, first[:8])
    hertz = os.sysconf("SC_CLK_TCK")
    return (user + nice + system + irq + softirq) / hertz, steal / hertz


def software() -> dict[str, str]:
    """Package versions, and the revision of this project where it is a git checkout."""
    found = versions()
    command = [
        "git",
        "-C",
        str(Path(__file__).parent),
        "describe",
        "--always",
        "--dirty",
        "--abbrev=12",
    ]
    try:
        found["revision"] = subprocess.run(
            command, capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        found["revision"] = "unknown"
    return found


def quota() -> float | None:
    """The cgroup's limit in cores; None where there is none."""
    limit, _, period = read("/sys/fs/cgroup/cpu.max").strip().partition(" ")
    return int(limit) / int(period) if limit.isdigit() and period else None


def read(path: str) -> str:
    """A file of the kernel's; '' where it is missing."""
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that shape an artifact or a measurement."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
