"""The GPU that a configuration uses, read through the driver's library (NVML), without CUDA."""

import os
import time
from dataclasses import dataclass
from typing import Any

from harness.errors import HarnessError

TICK_SECONDS = 1.0
"""The energy counter changes at least this often, even when the GPU is idle."""

POLL_SECONDS = 0.0005


@dataclass(frozen=True)
class Reading:
    """A value of the energy counter at the moment when it changed.

    Attributes:
        time: of `time.perf_counter`, in seconds.
        joules: since the driver was loaded.
    """

    time: float
    joules: float


class Gpu:
    """The first GPU of `CUDA_VISIBLE_DEVICES`, or the first one in PCI order.

    Workers and builds get `CUDA_DEVICE_ORDER=PCI_BUS_ID`, so that CUDA and NVML number alike.

    Args:
        nvml: the module `pynvml`, initialized.
        handle: of the GPU.
    """

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml, self._handle = nvml, handle

    @property
    def name(self) -> str:
        """The name of the product."""
        return str(self._nvml.nvmlDeviceGetName(self._handle))

    @property
    def driver(self) -> str:
        """The version of the driver."""
        return str(self._nvml.nvmlSystemGetDriverVersion())

    @property
    def memory_gb(self) -> float:
        """Memory of the GPU in GiB."""
        return float(self._nvml.nvmlDeviceGetMemoryInfo(self._handle).total / 2**30)

    @property
    def free_memory_gb(self) -> float:
        """Memory of the GPU that no process uses now, in GiB."""
        return float(self._nvml.nvmlDeviceGetMemoryInfo(self._handle).free / 2**30)

    @property
    def has_energy_counter(self) -> bool:
        """Whether it counts its energy (Volta and later)."""
        try:
            self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)
        except self._nvml.NVMLError:
            return False
        return True

    def used_memory_mb(self) -> float:
        """Return the memory that all processes use now, in 10^6 bytes."""
        return float(self._nvml.nvmlDeviceGetMemoryInfo(self._handle).used / 1e6)

    def find_processes(self) -> list[int]:
        """Return the processes that compute on it, as far as NVML may tell.

        In a container NVML lists none, or numbers of the host's processes.
        """
        try:
            processes = self._nvml.nvmlDeviceGetComputeRunningProcesses(self._handle)
        except self._nvml.NVMLError:
            return []
        return sorted(int(process.pid) for process in processes)

    def utilization(self) -> float:
        """Return the share of the last sampling period in which a kernel ran, 0..1."""
        return float(self._nvml.nvmlDeviceGetUtilizationRates(self._handle).gpu / 100)

    def read_energy(self) -> Reading:
        """Wait until the energy counter changes, and return the new value.

        An H100 updates it every tenth of a second, so a value that is read at any other moment is
        up to that much older than the reading.

        Raises:
            HarnessError: it does not change within TICK_SECONDS.
        """
        before = self._read_joules()
        deadline = time.perf_counter() + TICK_SECONDS
        while time.perf_counter() < deadline:
            joules = self._read_joules()
            if joules != before:
                return Reading(time.perf_counter(), joules)
            time.sleep(POLL_SECONDS)
        raise HarnessError(
            f"the energy counter of {self.name} (NVML) did not change within {TICK_SECONDS:g} s. "
            "Check the driver: nvidia-smi -q -d POWER."
        )

    def _read_joules(self) -> float:
        return float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle) / 1000)


class EnergyWindow:
    """The energy of one GPU between two moments, which need not be moments of a change.

    It starts at a change of the counter. After the end it waits for two further changes: the first
    one ends the count, and the power between the two is taken for the time between the end of the
    window and the first.
    """

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu
        self._start = gpu.read_energy()

    def stop(self) -> float:
        """End the window now, and return its energy in watt-hours."""
        end = time.perf_counter()
        first = self._gpu.read_energy()
        second = self._gpu.read_energy()
        watts_after = (second.joules - first.joules) / (second.time - first.time)
        joules = first.joules - self._start.joules - watts_after * (first.time - end)
        return max(0.0, joules) / 3600


def find_gpu() -> Gpu | None:
    """Return the GPU that CUDA would use first; None if there is none.

    Raises:
        HarnessError: `CUDA_VISIBLE_DEVICES` names a GPU that does not exist.
    """
    nvml = _load_nvml()
    if nvml is None or not nvml.nvmlDeviceGetCount():
        return None
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    first = (visible or "0").split(",")[0].strip()
    try:
        if first.isdigit():
            return Gpu(nvml, nvml.nvmlDeviceGetHandleByIndex(int(first)))
        return Gpu(nvml, nvml.nvmlDeviceGetHandleByUUID(first))
    except nvml.NVMLError as error:
        raise HarnessError(
            f"CUDA_VISIBLE_DEVICES = {visible!r} names no GPU of this machine ({error}). Unset it, "
            "or give a number or a UUID that nvidia-smi -L lists."
        ) from None


def explain_missing_gpu() -> str:
    """Return why `find_gpu` finds none, and what to do, without a full stop."""
    if _load_nvml() is None:
        return (
            "NVIDIA's driver is not installed or not loaded. Install it (then `nvidia-smi` lists "
            "the GPU; a container also needs NVIDIA's container toolkit)"
        )
    return "NVIDIA's driver is loaded, but NVML finds no GPU. See: nvidia-smi -L"


def _load_nvml() -> Any:
    """Return `pynvml`, initialized; None if there is no driver."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    return pynvml
