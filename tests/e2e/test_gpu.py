"""A GPU configuration from the session to the board, on a simulated NVML.

The workers are real processes. They are told to compute on the CPU, in fp16 as in fp32: what is
tested is everything around the computation.
"""

from pathlib import Path

import pytest

from harness.cli.main import main
from harness.results import record
from harness.tasks.task import Task
from harness.telemetry import energy
from harness.telemetry.configuration import Configuration
from tests.support.nvml import install_fake_gpu
from tests.support.systems import build_all

SYSTEMS = ("minilm-l6", "minilm-l6-unpadded", "minilm-l6-batched", "cuda-fp16", "cuda-bf16")


def test_session_under_a_gpu_configuration_has_measured_energy_and_a_section_of_its_own(
    built_project: Path,
    reviews: Task,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    build_all(built_project, SYSTEMS, reviews)
    nvml = install_fake_gpu(tmp_path / "configurations", monkeypatch)
    monkeypatch.setattr(Configuration, "torch_device", "cpu")
    monkeypatch.setattr(energy, "is_rapl_readable", lambda: False)
    monkeypatch.setattr(energy, "IDLE_SECONDS", 0.5)
    monkeypatch.chdir(built_project)
    command = ["bench", "--task", reviews.address, "--smoke", "--configuration"]
    assert main([*command, "cpu-1", "--system", "onnx-int8"]) == 0
    systems = [argument for name in SYSTEMS for argument in ("--system", name)]
    nvml.processes = [4711]
    assert main([*command, "gpu-1", *systems]) == 0
    assert "warning: the GPU is in use by other processes (4711)" in capsys.readouterr().out

    results = built_project / "results" / "smoke"
    paths = {path.stem: path for path in results.glob("records/*gpu-1*/reviews/offline/*.json")}
    assert set(paths) == {*SYSTEMS, "null"}
    source = "measured: GPU by NVML's energy counter; CPU modelled: 4.82 W per busy core x"
    for name in SYSTEMS:
        measured = record.read_record(paths[name])
        assert measured.failure is None
        assert measured.energy["source"].startswith(source)
        assert measured.energy["idle"] == {"gpu_w": pytest.approx(70, rel=0.1)}
        assert measured.machine.get("gpu") == {
            "name": "V100",
            "memory_gb": 16.0,
            "driver": "580.0",
        }
        (window,) = measured.rounds
        assert window.gpu_memory_mb == 0.0, "the simulated memory does not change"
        joules = window.energy["gpu_wh"] * 3600
        assert 0.9 * window.seconds < joules / 70 < window.seconds + 1, "of the window alone"
        assert window.load_wh > 0
    assert (record.read_record(paths["cuda-bf16"]).artifact or {})["dtype"] == "bf16"

    board = (results / "README.md").read_text()
    section = board.partition("<summary>reviews on gpu-1, V100; ")[2].partition("</details>")[0]
    assert "Machine: V100, 16 GiB, driver 580.0; " in section
    assert "| Wh/1k (measured)" in section
    for name in SYSTEMS:
        assert f"\n| {name} " in section
    assert "<summary>reviews on cpu-1, " in board
    report = (results / "energy-report.md").read_text()
    headings = [line for line in report.splitlines() if line.startswith("## ")]
    places = [heading.partition(",")[0] for heading in headings]
    assert places == ["## reviews on gpu-1", "## reviews on cpu-1"], "measured energy first"
