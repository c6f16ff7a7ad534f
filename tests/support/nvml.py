"""A stand-in for the driver's library of an NVIDIA GPU."""

import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.runner import prerequisites
from harness.runner.prerequisites import LibraryFacts
from harness.telemetry import configuration, gpu

CUDA = ["CUDAExecutionProvider", "CPUExecutionProvider"]


class FakeNvml:
    """A GPU whose energy counter changes ten times a second, as that of an H100.

    It draws `idle_watts`, and `busy_watts` in a span of seconds after it was created.

    Attributes:
        used_gib: memory in use, of 16 GiB.
        load: percentage of the time in which a kernel runs.
        processes: numbers of the processes that compute.
        counts_energy: whether it has an energy counter.
    """

    NVMLError = RuntimeError

    def __init__(
        self,
        idle_watts: float = 70.0,
        busy_watts: float = 70.0,
        busy: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        self.idle, self.extra, self.busy = idle_watts, busy_watts - idle_watts, busy
        self.started = time.perf_counter()
        self.used_gib, self.load = 0.5, 0
        self.processes: list[int] = []
        self.counts_energy = True

    def now(self) -> float:
        return time.perf_counter() - self.started

    def nvmlDeviceGetCount(self) -> int:
        return 1

    def nvmlDeviceGetHandleByIndex(self, number: int) -> int:
        return number

    def nvmlSystemGetDriverVersion(self) -> str:
        return "580.0"

    def nvmlDeviceGetName(self, handle: object) -> str:
        return "V100"

    def nvmlDeviceGetMemoryInfo(self, handle: object) -> SimpleNamespace:
        used = round(self.used_gib * 2**30)
        return SimpleNamespace(total=16 << 30, used=used, free=(16 << 30) - used)

    def nvmlDeviceGetUtilizationRates(self, handle: object) -> SimpleNamespace:
        return SimpleNamespace(gpu=self.load)

    def nvmlDeviceGetComputeRunningProcesses(self, handle: object) -> list[SimpleNamespace]:
        return [SimpleNamespace(pid=pid) for pid in self.processes]

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: object) -> int:
        if not self.counts_energy:
            raise self.NVMLError("Not Supported")
        tick = self.now() // 0.1 * 0.1
        start, end = self.busy
        busy = max(0.0, min(tick, end) - start)
        return round(1000 * (self.idle * tick + self.extra * busy))


def wait_until(nvml: FakeNvml, moment: float) -> None:
    while nvml.now() < moment:
        time.sleep(0.0005)


def install_fake_gpu(folder: Path, monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    """Give this process a GPU, which PyTorch and onnxruntime can use, and let `gpu-1` be small.

    Args:
        folder: for the configurations.
        monkeypatch: of the test.
    """
    nvml = FakeNvml()
    monkeypatch.setattr(gpu, "_load_nvml", lambda: nvml)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    set_libraries(monkeypatch, "13.0", available=True, providers=CUDA)
    folder.mkdir()
    for path in configuration.FOLDER.glob("*.toml"):
        text = path.read_text()
        if path.stem == "gpu-1":
            text = text.replace("cores = 6", "cores = 1").replace("_gb = 112", "_gb = 4")
        (folder / path.name).write_text(text)
    monkeypatch.setattr(configuration, "FOLDER", folder)
    return nvml


def set_libraries(
    monkeypatch: pytest.MonkeyPatch, built: str | None, available: bool, providers: list[str]
) -> None:
    """Let PyTorch and onnxruntime say this of themselves."""
    facts = LibraryFacts(built=built, available=available, providers=providers)
    monkeypatch.setattr(prerequisites, "probe_libraries", lambda: facts)
