"""The fingerprint of a machine, and the versions of the software."""

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from harness import extensions
from harness.telemetry.gpu import Gpu
from harness.telemetry.kernel import read_cpu_quota, read_kernel_file, read_processor_flags

PACKAGES = (
    "wattbench",
    "torch",
    "transformers",
    "tokenizers",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
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


def build_fingerprint(isolation: str, gpu: Gpu | None = None) -> dict[str, Any]:
    """Return what tells this machine from another one, and what disturbs timings on it.

    Args:
        isolation: how workers are isolated, one of `sandbox.KINDS`.
        gpu: the GPU that is measured; its name, memory and driver are under `gpu`.
    """
    lines = read_kernel_file("/proc/cpuinfo").splitlines()
    pairs = (line.split(":", 1) for line in lines if ":" in line)
    info = {key.strip(): value.strip() for key, value in pairs}
    flags = read_processor_flags()
    memory = (
        os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    )
    governor = read_kernel_file("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").strip()
    smt = read_kernel_file("/sys/devices/system/cpu/smt/active").strip()
    fingerprint: dict[str, Any] = {
        "cpu": info.get("model name") or platform.processor() or platform.machine(),
        "flags": [flag for flag in FLAGS if flag in flags],
        "cores": os.cpu_count(),
        "memory_gb": round(memory / 2**30, 1),
        "quota": read_cpu_quota(),
        "governor": governor or "unknown",
        "smt": {"1": True, "0": False}.get(smt),
        "hypervisor": "hypervisor" in flags,
        "system": platform.system(),
        "kernel": platform.release(),
        "isolation": isolation,
    }
    if gpu:
        fingerprint["gpu"] = {
            "name": gpu.name,
            "memory_gb": round(gpu.memory_gb, 1),
            "driver": gpu.driver,
        }
    return fingerprint


def get_software() -> dict[str, str]:
    """Return package versions, and the revision of this code."""
    return get_versions() | {"revision": get_revision(Path(__file__))}


def get_revision(file: Path) -> str:
    """Return the commit of the git checkout that tracks a file.

    It ends in `-dirty` where tracked files differ from the commit. Those of `results/` do not
    count: a session writes them. Of a file that git does not track it is that of `revision.txt` in
    its package, which a kit has; that of an installed wheel is `unknown`.
    """

    def run_git(*arguments: str) -> str:
        command = ["git", "-C", str(file.parent), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
        return done.stdout.strip()

    try:
        run_git("ls-files", "--error-unmatch", "--", file.name)
        commit = run_git("describe", "--always", "--abbrev=12")
        changed = run_git("diff", "--name-only", "HEAD", "--", ":(top)", ":(top,exclude)results")
    except (OSError, subprocess.SubprocessError):
        noted = file.parents[1] / "revision.txt"
        return noted.read_text().strip() if noted.is_file() else "unknown"
    return f"{commit}-dirty" if changed else commit


def get_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that affect artifacts and measurements,
    those that extend wattbench among them.
    """
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions | extensions.list_packages()
