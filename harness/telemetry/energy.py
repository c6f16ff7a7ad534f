"""The energy of a window of time, with its source.

The CPU's is `measured` by codecarbon from the RAPL counters where they can be read, otherwise
`modelled`: the watts per core that the configuration declares, times the CPU-seconds used.
codecarbon's own model is not used for windows: it samples once per second and gives the first
sample no load, so that six busy seconds had 53% of watts times CPU-seconds. The GPU's is measured
from NVML's energy counter, read directly at the limits of the window (see `gpu.EnergyWindow`).
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

from harness.errors import HarnessError
from harness.telemetry.configuration import Configuration
from harness.telemetry.gpu import EnergyWindow, find_gpu

IDLE_SECONDS = 5.0
COUNTER_SECONDS = 0.1
"""A window shorter than this may see no update of the RAPL counters, and then has no CPU energy."""


@dataclass
class Energy:
    """The energy of a window in watt-hours.

    Attributes:
        cpu_wh: of the CPU; None if it is not known (yet).
        ram_wh: of memory; None if it is not known.
        gpu_wh: of the GPU; None if it is not known.
    """

    cpu_wh: float | None = None
    ram_wh: float | None = None
    gpu_wh: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name, as a record holds them."""
        return asdict(self)

    def scale(self, factor: float) -> "Energy":
        """Return so many times as much."""
        parts = asdict(self).items()
        return Energy(**{name: None if wh is None else wh * factor for name, wh in parts})


class EnergyMeter:
    """Measures windows, one after the other; a session has one meter.

    Args:
        configuration: gives the device, the power model and the country.

    Attributes:
        gpu: the GPU of the configuration; None for a CPU configuration.
        counts_gpu: whether the energy of the GPU can be measured.
    """

    def __init__(self, configuration: Configuration) -> None:
        self.watts = configuration.watts_per_core
        self.cpu = is_rapl_readable()
        self.gpu = find_gpu() if configuration.device == "gpu" else None
        self.counts_gpu = self.gpu is not None and self.gpu.has_energy_counter
        self.tracker = _build_tracker(configuration.country) if self.cpu else None
        self.windows = 0
        if self.tracker is not None:
            self.tracker.start_task("first")  # the first one looks for hardware, 0.2 s or more
            self.tracker.stop_task()

    @property
    def source(self) -> str:
        """Where the figures come from.

        It begins with `measured` if the energy of the device that computes is measured: the GPU
        where there is one, otherwise the CPU.
        """
        gpu = "GPU by NVML's energy counter" if self.counts_gpu else ""
        if self.cpu:
            cpu = "CPU by RAPL through codecarbon; RAM by codecarbon's estimate"
            return f"measured: {'; '.join(filter(None, [gpu, cpu]))}"
        model = f"{self.watts:g} W per busy core x CPU-seconds"
        return f"measured: {gpu}; CPU modelled: {model}" if gpu else f"modelled: {model}"

    def measure_idle_watts(self) -> dict[str, float] | None:
        """Return the watts of each component over five seconds in which nothing is measured.

        Returns:
            Watts by component, such as `cpu_w`; None if no counter can be read.
        """
        if self.tracker is None and not self.counts_gpu:
            return None
        with self.measure_window() as energy:
            started = time.perf_counter()
            time.sleep(IDLE_SECONDS)
            hours = (time.perf_counter() - started) / 3600
        return {
            name.replace("_wh", "_w"): round(value / hours, 3)
            for name, value in energy.to_dict().items()
            if value is not None
        }

    @contextmanager
    def measure_window(self) -> Iterator[Energy]:
        """Measure the energy of the block; pass the result to `complete` afterwards.

        Raises:
            HarnessError: codecarbon returned nothing, or the counters of CPU or GPU did not change:
                an error and not zero energy.
        """
        energy = Energy()
        with self._measure_cpu(energy):
            gpu_window = EnergyWindow(self.gpu) if self.gpu and self.counts_gpu else None
            yield energy
            if gpu_window:
                energy.gpu_wh = gpu_window.stop()

    @contextmanager
    def _measure_cpu(self, energy: Energy) -> Iterator[None]:
        if self.tracker is None:
            yield
            return
        self.windows += 1
        self.tracker.start_task(f"window {self.windows}")
        started = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - started
            data = self.tracker.stop_task()
        if data is None or (not data.cpu_energy and seconds > COUNTER_SECONDS):
            raise HarnessError(
                "codecarbon returned no energy for the window. Check that the RAPL counters can be "
                "read: wattbench doctor."
            )
        if data.cpu_energy:
            energy.cpu_wh, energy.ram_wh = data.cpu_energy * 1000, data.ram_energy * 1000

    def complete(self, energy: Energy, cpu_seconds: float) -> Energy:
        """Return the energy of a window, with the modelled energy of the CPU if it is not measured.

        Args:
            energy: the result of `measure_window`; it is changed.
            cpu_seconds: CPU-seconds that the window used.
        """
        if not self.cpu:
            energy.cpu_wh = self.watts * cpu_seconds / 3600
        return energy

    def close(self) -> None:
        """Stop the thread of codecarbon."""
        if self.tracker is not None:
            self.tracker.stop()


def is_rapl_readable() -> bool:
    """Return whether codecarbon finds RAPL counters that this user may read."""
    from codecarbon.core.cpu import is_rapl_available

    return bool(is_rapl_available())


@lru_cache
def get_grams_co2_per_kwh(country: str) -> float:
    """Return the carbon intensity of a country's electricity, in g CO2/kWh.

    Args:
        country: three-letter code.

    Raises:
        HarnessError: codecarbon's table does not have the country.
    """
    from codecarbon.core.emissions import Emissions
    from codecarbon.core.units import Energy as Kwh
    from codecarbon.external.geography import GeoMetadata
    from codecarbon.input import DataSource

    tables = DataSource()
    if country not in tables.get_global_energy_mix_data():  # it would take the world's average
        raise HarnessError(
            f"country {country!r} is not in codecarbon's table. Use a three-letter code "
            "such as USA."
        )
    geography = GeoMetadata(country_iso_code=country)
    kilograms = Emissions(tables).get_country_emissions(Kwh.from_energy(kWh=1.0), geography)
    return float(kilograms * 1000)


def _build_tracker(country: str) -> Any:
    """Every setting is given, so that a configuration file of the user changes nothing."""
    from codecarbon import OfflineEmissionsTracker

    logging.getLogger("codecarbon").setLevel(logging.ERROR)
    return OfflineEmissionsTracker(
        country_iso_code=country,
        project_name="wattbench",
        measure_power_secs=1,
        output_methods=[],
        tracking_mode="machine",
        log_level="error",
        allow_multiple_runs=True,
        rapl_include_dram=False,
        rapl_prefer_psys=False,
        pue=1.0,
        gpu_ids=[],
    )
