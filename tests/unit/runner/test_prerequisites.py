"""What a machine lacks for its GPU is one line with the remedy, before anything is built."""

import importlib.metadata
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.cli.main import main
from harness.runner import doctor, prerequisites
from harness.tasks.task import Task
from harness.telemetry import gpu
from tests.support.nvml import CUDA, FakeNvml, install_fake_gpu, set_libraries


@pytest.fixture
def nvml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    return install_fake_gpu(tmp_path / "configurations", monkeypatch)


def run_refused(
    project: Path,
    task: Task,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    system: str = "cuda-fp16",
) -> str:
    """Return the one line with which `bench` and `run` refuse, before they build or measure."""
    monkeypatch.chdir(project)
    options = ["--configuration", "gpu-1", "--task", task.address, "--system", system, "--smoke"]
    messages = set()
    for command in ("bench", "run"):
        assert main([command, *options]) == 2
        output = capsys.readouterr()
        assert "build" not in output.out
        assert output.err.count("\n") == 1
        messages.add(output.err.strip())
    (message,) = messages
    assert not (project / "results").exists()
    return message


def test_missing_driver(
    project: Path,
    reviews: Task,
    nvml: FakeNvml,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(gpu, "_load_nvml", lambda: None)
    message = run_refused(project, reviews, monkeypatch, capsys)
    assert "NVIDIA's driver is not installed or not loaded. Install it" in message
    assert "Use --configuration cpu-" in message


def test_driver_without_a_gpu(
    project: Path,
    reviews: Task,
    nvml: FakeNvml,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(nvml, "nvmlDeviceGetCount", lambda: 0)
    message = run_refused(project, reviews, monkeypatch, capsys)
    assert "NVML finds no GPU. See: nvidia-smi -L" in message


@pytest.mark.parametrize(
    ("built", "expected"),
    [
        (None, "the installed PyTorch is built without CUDA. Install one with CUDA"),
        ("13.0", "built for CUDA 13.0, cannot use the GPU (driver 580.0). Install a newer driver"),
    ],
)
def test_pytorch_that_cannot_use_the_gpu(
    project: Path,
    reviews: Task,
    nvml: FakeNvml,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    built: str | None,
    expected: str,
) -> None:
    set_libraries(monkeypatch, built, available=False, providers=CUDA)
    message = run_refused(project, reviews, monkeypatch, capsys)
    assert expected in message
    state, remedy = doctor._check_gpu()
    assert expected.rpartition(". ")[2] in remedy
    assert state.startswith("V100, 16 GiB, driver 580.0, but the installed PyTorch")


@pytest.mark.parametrize(
    ("installed", "expected"),
    [
        (("onnxruntime",), "the installed onnxruntime has no CUDAExecutionProvider. In an env"),
        (("onnxruntime", "onnxruntime-gpu"), "onnxruntime has overwritten onnxruntime-gpu. Run: "),
    ],
)
def test_onnxruntime_without_cuda(
    project: Path,
    reviews: Task,
    nvml: FakeNvml,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    installed: tuple[str, ...],
    expected: str,
) -> None:
    set_libraries(monkeypatch, "13.0", available=True, providers=["CPUExecutionProvider"])
    version = importlib.metadata.version

    def find_version(name: str) -> str:
        if name.startswith("onnxruntime"):
            if name not in installed:
                raise importlib.metadata.PackageNotFoundError(name)
            return "1.0"
        return version(name)

    monkeypatch.setattr(importlib.metadata, "version", find_version)
    message = run_refused(project, reviews, monkeypatch, capsys, system="cuda-onnx-fp16")
    assert "cuda-onnx-fp16" in message
    assert expected in message
    assert "pip uninstall -y onnxruntime" in message


def test_gpu_without_an_energy_counter(
    project: Path,
    reviews: Task,
    nvml: FakeNvml,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    nvml.counts_energy = False
    message = run_refused(project, reviews, monkeypatch, capsys)
    assert "V100 has no energy counter" in message
    assert "a cpu configuration" in message
    assert doctor._check_gpu()[1].startswith("Use a GPU of the generation Volta or later")


def test_gpu_that_is_full(
    project: Path,
    reviews: Task,
    nvml: FakeNvml,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    nvml.used_gib = 14.5
    message = run_refused(project, reviews, monkeypatch, capsys)
    assert "1.5 of 16 GiB of GPU memory are free, and 2 are needed. Stop the processes" in message


def test_gpu_in_use_by_others_is_a_warning(nvml: FakeNvml) -> None:
    busy = gpu.find_gpu()
    assert busy is not None
    assert prerequisites.describe_use(busy) == ""
    assert doctor._check_gpu() == (
        "V100, 16 GiB, driver 580.0; its energy is measured (NVML's counter)",
        "",
    )
    nvml.processes = [4711]
    assert prerequisites.describe_use(busy) == "in use by other processes (4711)"
    nvml.load = 80
    assert prerequisites.describe_use(busy) == "80% busy with other processes"
    assert "Stop them" in doctor._check_gpu()[1]
    assert prerequisites.find_obstacle(busy) == ""


def test_libraries_are_asked_in_a_process_of_their_own() -> None:
    facts = prerequisites.probe_libraries()
    assert "CPUExecutionProvider" in facts["providers"]
    assert facts["available"] in (True, False)
    assert json.loads(json.dumps(facts)) == facts


def test_libraries_that_cannot_be_imported_are_one_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prerequisites.probe_libraries.cache_clear()
    failed = SimpleNamespace(
        returncode=1, stderr="Traceback\nOSError: libcudart.so.13\n", stdout=""
    )
    monkeypatch.setattr(prerequisites.subprocess, "run", lambda *args, **kwargs: failed)
    with pytest.raises(prerequisites.HarnessError, match=r"imported \(OSError: libcudart.so.13\)"):
        prerequisites.probe_libraries()
