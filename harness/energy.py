"""Energy of a window of time, with its provenance.

`measured`: codecarbon over RAPL, where the counters can be read. `modelled`: the configuration's
declared watts per core times the CPU-seconds used. codecarbon's own model is not used for windows:
it samples once a second and gives the first sample no load, so that six busy seconds came out at
53% of watts times CPU-seconds.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

from harness.configuration import Configuration
from harness.errors import HarnessError


@dataclass
class Energy:
    """What a window used. cpu_wh, ram_wh: watt-hours; ram_wh is None where it is not known. source:
    `measured: ...` or `modelled: ...`.
    """

    cpu_wh: float
    ram_wh: float | None
    source: str

    def record(self) -> dict[str, Any]:
        """As a record holds it."""
        return asdict(self)


class Meter:
    """Measures windows one after the other; made once a session."""

    def __init__(self, configuration: Configuration) -> None:
        self.watts = configuration.watts_per_core
        self.tracker = _tracker(configuration.country) if rapl_readable() else None
        self.windows = 0

    @property
    def source(self) -> str:
        """Where the figures come from."""
        if self.tracker is not None:
            return "measured: CPU by RAPL through codecarbon, RAM by its estimate"
        return f"modelled: {self.watts:g} W per busy core x CPU-seconds"

    @contextmanager
    def window(self) -> Iterator[Energy]:
        """Measure the block; the caller passes the result through `complete` with the CPU-seconds
        of the block.

        Raises: HarnessError if codecarbon returned nothing: an error, not a zero.
        """
        energy = Energy(0.0, None, self.source)
        if self.tracker is None:
            yield energy
            return
        self.windows += 1
        self.tracker.start_task(f"window {self.windows}")
        try:
            yield energy
        finally:
            data = self.tracker.stop_task()
        if data is None or not data.cpu_energy:
            raise HarnessError(
                "codecarbon returned no energy for the window. Check that the RAPL counters can be "
                "read."
            )
        energy.cpu_wh, energy.ram_wh = data.cpu_energy * 1000, data.ram_energy * 1000

    def complete(self, energy: Energy, cpu_seconds: float) -> Energy:
        """The same with modelled watt-hours, where nothing was measured."""
        if self.tracker is None:
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
        gpu_ids=None,
    )
