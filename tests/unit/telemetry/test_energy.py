"""Energy: measured, on fake RAPL counters, and modelled."""

import time
from types import SimpleNamespace

import pytest

from harness.errors import HarnessError
from harness.telemetry import energy
from harness.telemetry.configuration import configurations
from harness.telemetry.energy import EnergyMeter
from harness.telemetry.gpu import Gpu
from tests.support.nvml import FakeNvml, wait_until
from tests.support.rapl import Counter, constant_power


def test_measured_energy_is_exact_to_one_percent_and_of_the_window_alone(counter: Counter) -> None:
    meter = EnergyMeter(configurations()["cpu-1"])
    assert meter.source.startswith("measured: CPU by RAPL")
    try:
        for joules in (5.0, 0.4, 80.0):
            counter.advance(33.0)  # between windows
            with meter.measure_window() as energy_used:
                counter.advance(joules / 2)
                time.sleep(0.05)
                counter.advance(joules / 2)
                ended = time.perf_counter()
            assert time.perf_counter() - ended < 0.5, "read at once, not with the next sample"
            counter.advance(11.0)
            energy_used = meter.complete(energy_used, cpu_seconds=1000.0)
            assert energy_used.cpu_wh * 3600 == pytest.approx(joules, rel=0.01)
            assert energy_used.ram_wh is not None
            assert energy_used.gpu_wh is None
    finally:
        meter.close()


def test_counter_overflow_is_handled(counter: Counter) -> None:
    counter.joules = 262143.0
    counter.advance(0)
    meter = EnergyMeter(configurations()["cpu-1"])
    try:
        with meter.measure_window() as energy_used:
            counter.joules = 0.0
            counter.advance(4.67115)
        assert energy_used.cpu_wh * 3600 == pytest.approx(5.0, rel=0.01)
    finally:
        meter.close()


def test_idle_watts_are_those_of_the_counter(
    counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(energy, "IDLE_SECONDS", 1.0)
    meter = EnergyMeter(configurations()["cpu-1"])
    with constant_power(counter, 25.0):
        watts = meter.measure_idle_watts()
    meter.close()
    assert watts is not None
    assert watts["cpu_w"] == pytest.approx(25.0, rel=0.02)


def test_counter_that_does_not_change_is_an_error_not_a_zero(counter: Counter) -> None:
    meter = EnergyMeter(configurations()["cpu-1"])
    try:
        with pytest.raises(HarnessError, match=r"returned no energy.*RAPL"), meter.measure_window():
            time.sleep(1.5 * energy.COUNTER_SECONDS)
        with meter.measure_window() as energy_used:
            pass
        assert energy_used.cpu_wh is None, "too short for a counter to move"
    finally:
        meter.close()


def test_tracker_that_returns_nothing_is_an_error_not_a_zero(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    silent = SimpleNamespace(start_task=lambda name: None, stop_task=lambda: None)
    monkeypatch.setattr(energy, "is_rapl_readable", lambda: True)
    monkeypatch.setattr(energy, "_build_tracker", lambda country: silent)
    meter = EnergyMeter(configurations()["cpu-1"])
    with pytest.raises(HarnessError, match="returned no energy"), meter.measure_window():
        pass


def test_gpu_is_measured_by_nvml_while_the_cpu_is_modelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gpu = Gpu(FakeNvml(idle_watts=70, busy_watts=370, busy=(0.6, 1.2)), 0)
    monkeypatch.setattr(energy, "is_rapl_readable", lambda: False)
    monkeypatch.setattr(energy, "find_gpu", lambda: gpu)
    meter = EnergyMeter(configurations()["gpu-1"])
    nvml = gpu._nvml
    wait_until(nvml, 0.45)  # the window then starts at the tick of 0.5
    with meter.measure_window() as energy_used:
        started = nvml.now()
        wait_until(nvml, 1.25)  # in the middle of two ticks
        seconds = nvml.now() - started
    energy_used = meter.complete(energy_used, 3600.0)
    assert energy_used.gpu_wh == pytest.approx((70 * seconds + 300 * 0.6) / 3600, rel=0.02)
    assert (energy_used.cpu_wh, energy_used.ram_wh) == (pytest.approx(4.82), None)
    assert meter.source == (
        "measured: GPU by NVML's energy counter; CPU modelled: 4.82 W per busy core x CPU-seconds"
    )
    assert EnergyMeter(configurations()["cpu-1"]).gpu is None, "the configuration has no GPU"


def test_energy_counter_that_stands_still_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = Gpu(FakeNvml(idle_watts=0, busy_watts=0, busy=(0, 0)), 0)
    with pytest.raises(HarnessError, match=r"counter of V100 \(NVML\) did not change within 1 s"):
        gpu.read_energy()


def test_modelled_energy_is_watts_times_cpu_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "is_rapl_readable", lambda: False)
    meter = EnergyMeter(configurations()["cpu-1"])
    with meter.measure_window() as energy_used:
        pass
    assert meter.complete(energy_used, 3600.0).cpu_wh == pytest.approx(4.27)
    assert meter.source.startswith("modelled: 4.27 W")
    assert meter.measure_idle_watts() is None


def test_carbon_intensity_is_codecarbons_and_unknown_countries_are_refused() -> None:
    assert 300 < energy.get_grams_co2_per_kwh("USA") < 500
    assert energy.get_grams_co2_per_kwh("FRA") < 100
    with pytest.raises(HarnessError, match="'ZZZ' is not in codecarbon's table"):
        energy.get_grams_co2_per_kwh("ZZZ")
