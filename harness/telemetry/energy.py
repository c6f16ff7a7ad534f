"""Energy of a window of time, with its provenance.

`measured`: codecarbon over RAPL (CPU) and NVML (GPU), where the counters can be read. `modelled`:
the configuration's declared watts per core times the CPU-seconds used. codecarbon's own model is
not used for windows: it samples once a second and gives the first sample no load, so that six busy
seconds came out at 53% of watts times CPU-seconds.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

from harness.errors import HarnessError
from harness.telemetry.configuration import Configuration, nvml_devices

IDLE_SECONDS = 5.0
COUNTER_SECONDS = 0.1
"""Counters move every millisecond (RAPL) to every tenth of a second (NVML): a window shorter than
this may see none move, and then has no energy."""


@dataclass
class Energy:
    """What a window used, in watt-hours; None where a component is not known."""

    cpu_wh: float | None = None
    ram_wh: float | None = None
    gpu_wh: float | None = None

    def record(self) -> dict[str, Any]:
        """As a record holds it."""
        return asdict(self)


class Meter:
    """Measures windows one after the other; made once a session."""

    def __init__(self, configuration: Configuration) -> None:
        self.watts = configuration.watts_per_core
        self.cpu = rapl_readable()
        self.gpu = configuration.device == "gpu" and bool(nvml_devices())
        self.tracker = _tracker(configuration.country) if self.cpu or self.gpu else None
        self.windows = 0
        if self.tracker is not None:
            self.tracker.start_task("first")  # looks for hardware meanwhile, 0.2 s and more
            self.tracker.stop_task()

    @property
    def source(self) -> str:
        """Where the figures come from; begins with `measured` only where all of it is."""
        model = f"modelled: {self.watts:g} W per busy core x CPU-seconds"
        gpu = "; GPU measured by NVML through codecarbon" if self.gpu else ""
        if self.cpu:
            return f"measured: CPU by RAPL through codecarbon{gpu}; RAM by codecarbon's estimate"
        return model + gpu

    def idle_watts(self) -> dict[str, float] | None:
        """Watts of each component while nothing runs, over five seconds; None where no counter can
        be read.
        """
        if self.tracker is None:
            return None
        with self.window() as energy:
            started = time.perf_counter()
            time.sleep(IDLE_SECONDS)
            hours = (time.perf_counter() - started) / 3600
        return {
            name.replace("_wh", "_w"): round(value / hours, 3)
            for name, value in energy.record().items()
            if value is not None
        }

    @contextmanager
    def window(self) -> Iterator[Energy]:
        """Measure the block; the caller passes the result through `complete` with the CPU-seconds
        of the block.

        Raises: HarnessError if codecarbon returned nothing, or its counters stood still for more
        than COUNTER_SECONDS: an error, not a zero.
        """
        energy = Energy()
        if self.tracker is None:
            yield energy
            return
        self.windows += 1
        self.tracker.start_task(f"window {self.windows}")
        started = time.perf_counter()
        try:
            yield energy
        finally:
            seconds = time.perf_counter() - started
            data = self.tracker.stop_task()
        counted = data is not None and (data.cpu_energy if self.cpu else data.gpu_energy)
        if data is None or (not counted and seconds > COUNTER_SECONDS):
            counters = "RAPL" if self.cpu else "NVML"
            raise HarnessError(
                f"codecarbon returned no energy for the window. Check that the {counters} counters "
                "can be read: wattbench doctor."
            )
        if not counted:
            return
        if self.cpu:
            energy.cpu_wh, energy.ram_wh = data.cpu_energy * 1000, data.ram_energy * 1000
        if self.gpu:
            energy.gpu_wh = data.gpu_energy * 1000

    def complete(self, energy: Energy, cpu_seconds: float) -> Energy:
        """The same with modelled watt-hours, where the CPU is not measured."""
        if not self.cpu:
            energy.cpu_wh = self.watts * cpu_seconds / 3600
        return energy

    def close(self) -> None:
        """Stop the tracker's thread."""
        if self.tracker is not None:
            self.tracker.stop()


def rapl_readable() -> bool:
    """Whether codecarbon finds RAPL counters that this user may read."""
    from codecarbon.core.cpu import is_rapl_available

    return bool(is_rapl_available())


@lru_cache
def grams_co2_per_kwh(country: str) -> float:
    """Carbon intensity of a country's electricity, from codecarbon's table. country: three-letter
    code.

    Raises: HarnessError if codecarbon does not know the country.
    """
    from codecarbon.core.emissions import Emissions
    from codecarbon.core.units import Energy as Kwh
    from codecarbon.external.geography import GeoMetadata
    from codecarbon.input import DataSource

    tables = DataSource()
    if country not in tables.get_global_energy_mix_data():  # codecarbon would take the world's
        raise HarnessError(
            f"country {country!r} is not in codecarbon's table. Use a three-letter code, as USA."
        )
    place = GeoMetadata(country_iso_code=country)
    return float(Emissions(tables).get_country_emissions(Kwh.from_energy(kWh=1.0), place) * 1000)


def _tracker(country: str) -> Any:
    """A codecarbon tracker with every setting given, so that a user's own file changes nothing."""
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
        gpu_ids=[0],
    )
