"""Which configurations a kit's machine builds under."""

from pathlib import Path

import pytest

from harness.errors import BuildError
from harness.kit import node
from harness.kit.kit import Kit, KitSession
from harness.progress import ProgressLine
from harness.submissions.plan import plan_system
from harness.tasks.task import Task
from harness.telemetry.configuration import Configuration, configurations
from tests.support.nvml import install_fake_gpu, set_libraries
from tests.support.systems import load_systems


@pytest.fixture
def kit() -> Kit:
    sessions = [
        KitSession(configuration=name, task="reviews", systems=()) for name in ("cpu-1", "gpu-1")
    ]
    return Kit(
        wattbench="1",
        python="3.12",
        machine="x86_64",
        requirements=(),
        suite="quick",
        sessions=tuple(sessions),
        minutes=1,
        rounds=1,
        seed=0,
        smoke=True,
    )


def test_systems_are_built_on_the_gpu_and_if_that_fails_on_the_cpu(
    kit: Kit, project: Path, reviews: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_fake_gpu(tmp_path / "configurations", monkeypatch)
    built: list[str] = []

    def build_missing(plan: object, configuration: Configuration, log: object) -> None:
        built.append(configuration.device)
        if configuration.device == "gpu":
            raise BuildError("CUDA error")

    monkeypatch.setattr(node, "build_missing", build_missing)
    (system,) = load_systems(project, ["distilled"])
    lines: list[str] = []
    planned = plan_system(system, reviews, 0)
    assert node._build(planned, kit, configurations()["cpu-1"], lines.append) == ""
    assert built == ["gpu", "cpu"]
    assert lines == ["not built under gpu-1: CUDA error"]
    set_libraries(monkeypatch, None, available=False, providers=[])
    assert node._build(planned, kit, configurations()["cpu-1"], lines.append) == ""
    assert built == ["gpu", "cpu", "cpu"]


def test_system_that_cannot_be_served_is_left_off_with_the_reason(
    kit: Kit, project: Path, reviews: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_fake_gpu(tmp_path / "configurations", monkeypatch)
    set_libraries(monkeypatch, "13.0", available=True, providers=["CPUExecutionProvider"])
    (system,) = load_systems(project, ["cuda-onnx-fp16"])
    planned = plan_system(system, reviews, 0)
    reason = node._build(planned, kit, configurations()["gpu-1"], print)
    assert "has no CUDAExecutionProvider" in reason


def test_progress_is_printed_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    log = node.PlainLog()
    for share in (0.0, 0.1, 0.2):
        log(ProgressLine("training", share))
        log("a line")
    assert capsys.readouterr().out == "training (0%)\na line\na line\na line\n"
