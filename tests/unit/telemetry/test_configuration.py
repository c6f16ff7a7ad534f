"""Configurations: which one fits, prices, hashes, GPUs."""

import os
from types import SimpleNamespace

import pytest

from harness.cli.main import main
from harness.errors import HarnessError
from harness.telemetry import configuration, gpu
from harness.telemetry.configuration import choose_configuration, configurations
from harness.telemetry.gpu import find_gpu


def test_largest_cpu_configuration_that_fits_is_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(7)))
    monkeypatch.setattr(configuration, "find_gpu", lambda: object())
    assert choose_configuration().name == "cpu-4"
    with pytest.raises(
        HarnessError, match=r"'cpu-8' does not fit: it needs 8 cores.*Use --conf.*cpu-4"
    ):
        choose_configuration("cpu-8")


def test_prices_are_those_of_azures_list() -> None:
    prices = {name: known.usd_per_hour for name, known in configurations().items()}
    listed = {"cpu-2": 0.0846, "cpu-4": 0.169, "cpu-8": 0.338, "cpu-16": 0.677, "gpu-1": 3.06}
    assert prices == {"cpu-1": 0.0423, **listed}
    assert all(known.price_date and known.price_source for known in configurations().values())


def test_hash_of_a_configuration_changes_with_its_fields() -> None:
    known = configurations()["cpu-1"]
    assert known.hash != known.model_copy(update={"watts_per_core": 5.0}).hash


def test_gpu_configuration_is_refused_in_one_line_without_a_gpu(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(configuration, "find_gpu", lambda: None)
    monkeypatch.setattr(gpu, "_load_nvml", lambda: None)
    monkeypatch.chdir(configuration.FOLDER.parent.parent)
    assert main(["run", "--configuration", "gpu-1"]) == 2
    message = capsys.readouterr().err
    assert (
        "'gpu-1' does not fit: it needs an NVIDIA GPU, and NVIDIA's driver is not installed"
        in message
    )
    assert message.count("\n") == 1


def test_gpu_configuration_fits_if_nvml_finds_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    library = SimpleNamespace(
        NVMLError=RuntimeError,
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: 4,
        nvmlDeviceGetHandleByIndex=lambda number: number,
        nvmlDeviceGetHandleByUUID=lambda uuid: {"GPU-3e": 3}[uuid],
        nvmlDeviceGetName=lambda handle: f"V100 number {handle}",
    )
    monkeypatch.setitem(__import__("sys").modules, "pynvml", library)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for visible, expected in (("", 0), ("2,1", 2), ("GPU-3e", 3)):
        if visible:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        gpu = find_gpu()
        assert gpu is not None
        assert gpu.name == f"V100 number {expected}"
    small = configurations()["gpu-1"].model_copy(update={"cores": 1, "memory_gb": 0.1})
    assert small.find_misfit() == ""
