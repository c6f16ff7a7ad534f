"""What a machine lacks for measuring on its GPU, found before anything is built or measured."""

import importlib.metadata
import json
import subprocess
import sys
from functools import cache
from typing import TypedDict

from harness.errors import HarnessError
from harness.progress import Log
from harness.submissions.plan import Plan, PlannedSystem
from harness.telemetry.configuration import Configuration
from harness.telemetry.gpu import Gpu, find_gpu

FREE_MEMORY_GB = 2.0
"""What a batch of 128 texts of 512 tokens takes in fp32, with the libraries' own memory."""

BUSY_GPU = 0.05

PROBE = """
import json, sys
facts = {"built": None, "available": False, "providers": []}
try:
    import torch
    facts.update(built=torch.version.cuda, available=torch.cuda.is_available())
except ImportError:
    pass
try:
    import onnxruntime
    facts["providers"] = onnxruntime.get_available_providers()
except ImportError:
    pass
json.dump(facts, sys.stdout)
"""


class LibraryFacts(TypedDict):
    """What PyTorch and onnxruntime say of themselves.

    Attributes:
        built: the version of CUDA that PyTorch was built for; None for a CPU build.
        available: whether PyTorch can use a CUDA device.
        providers: the execution providers of onnxruntime.
    """

    built: str | None
    available: bool
    providers: list[str]


def check_gpu(plan: Plan, configuration: Configuration, log: Log) -> None:
    """Check that the machine has what the systems need under a GPU configuration.

    A GPU that other processes use is logged as a warning.

    Raises:
        HarnessError: something is missing; the message says what, and how to get it.
    """
    gpu = find_gpu() if configuration.device == "gpu" else None
    if gpu is None:
        return
    if obstacle := find_obstacle(gpu):
        raise HarnessError(f"{configuration.name}: {obstacle}.")
    for planned in plan.systems:
        if obstacle := find_system_obstacle(planned, gpu):
            raise HarnessError(f"{configuration.name}, {planned.system.name}: {obstacle}.")
    if use := describe_use(gpu):
        log(f"warning: the GPU is {use}. Stop them: nvidia-smi lists them.")


def find_system_obstacle(planned: PlannedSystem, gpu: Gpu) -> str:
    """Return what keeps a system from being built or served on the GPU; '' if nothing does."""
    engines = {planned.system.engine}
    engines |= {member.engine for step in planned.steps for member in step.members}
    if not planned.is_built and planned.is_trained:
        engines.add("pytorch")
    obstacles = (find_obstacle(gpu, engine) for engine in sorted(engines))
    return next(filter(None, obstacles), "")


def find_obstacle(gpu: Gpu, engine: str = "") -> str:
    """Return what keeps an engine from using the GPU, and the remedy; '' if nothing does.

    Args:
        gpu: the GPU.
        engine: the name of an engine; '' for what holds for all of them.
    """
    if engine == "pytorch":
        return _find_pytorch_obstacle(gpu)
    if engine == "onnxruntime":
        return _find_onnxruntime_obstacle()
    if engine:
        return ""
    if not gpu.has_energy_counter:
        return (
            f"{gpu.name} has no energy counter, so that a record would state the energy of the CPU "
            "alone. Use a GPU of the generation Volta or later that is not a virtual one (vGPU), "
            "or a cpu configuration"
        )
    if gpu.free_memory_gb < FREE_MEMORY_GB:
        return (
            f"{gpu.free_memory_gb:.1f} of {gpu.memory_gb:.0f} GiB of GPU memory are free, and "
            f"{FREE_MEMORY_GB:g} are needed. Stop the processes that nvidia-smi lists, or choose "
            "another GPU with CUDA_VISIBLE_DEVICES"
        )
    return ""


def describe_use(gpu: Gpu) -> str:
    """Return how other processes use the GPU; '' if none does."""
    if gpu.utilization() > BUSY_GPU:
        return f"{gpu.utilization():.0%} busy with other processes"
    if processes := gpu.find_processes():
        return f"in use by other processes ({', '.join(map(str, processes))})"
    return ""


def _find_pytorch_obstacle(gpu: Gpu) -> str:
    facts = probe_libraries()
    if facts["available"]:
        return ""
    if facts["built"] is None:
        return (
            "the installed PyTorch is built without CUDA. Install one with CUDA: on Linux, the "
            "default `torch` of PyPI"
        )
    return (
        f"the installed PyTorch, built for CUDA {facts['built']}, cannot use the GPU (driver "
        f"{gpu.driver}). Install a newer driver, or a PyTorch for an older CUDA"
    )


def _find_onnxruntime_obstacle() -> str:
    if "CUDAExecutionProvider" in probe_libraries()["providers"]:
        return ""
    if _is_installed("onnxruntime-gpu") and _is_installed("onnxruntime"):
        return (
            "the package onnxruntime has overwritten onnxruntime-gpu. Run: pip uninstall -y "
            "onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu"
        )
    return (
        "the installed onnxruntime has no CUDAExecutionProvider. In an environment of its own "
        "(tox -e gpu makes one), run: pip uninstall -y onnxruntime && pip install onnxruntime-gpu"
    )


def _is_installed(distribution: str) -> bool:
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


@cache
def probe_libraries() -> LibraryFacts:
    """Import PyTorch and onnxruntime in a process that ends at once, so that the process that
    measures stays small.

    Raises:
        HarnessError: one of them cannot be imported.
    """
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise HarnessError(
            f"PyTorch or onnxruntime cannot be imported ({reason}). Install them again."
        )
    facts: LibraryFacts = json.loads(done.stdout.splitlines()[-1])
    return facts
