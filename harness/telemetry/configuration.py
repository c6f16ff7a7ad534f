"""The fixed configurations of all measurements: cores, threads, memory, price, power model."""

import os
from pathlib import Path
from typing import Literal

from pydantic import Field

from harness.errors import HarnessError, suggest_name
from harness.schema import Faults, Number, Schema, read_toml
from harness.store.cache import digest
from harness.telemetry.gpu import explain_missing_gpu, find_gpu
from harness.telemetry.kernel import read_memory_limit

FOLDER = Path(__file__).parent / "configurations"


class Configuration(Schema):
    """The content of a `configurations/*.toml`.

    Attributes:
        name: name of the file, without `.toml`.
        title: one line for tables.
        device: `cpu`, or `gpu`: then a worker or a build also gets the first CUDA device.
        cores: number of logical CPUs that the worker is pinned to, and of its threads.
        memory_gb: memory limit of a worker, in GiB.
        usd_per_hour: what such a machine costs.
        price_source: where the price comes from.
        price_date: when it was read.
        watts_per_core: power of one busy core, for the model that is used without energy counters.
        power_source: where that figure comes from.
        country: three-letter code, for the carbon intensity of electricity.
    """

    name: str
    title: str
    device: Literal["cpu", "gpu"]
    cores: int = Field(ge=1)
    memory_gb: Number = Field(gt=0)
    usd_per_hour: Number = Field(ge=0)
    price_source: str
    price_date: str
    watts_per_core: Number = Field(ge=0)
    power_source: str
    country: str = Field(pattern="^[A-Z]{3}$")

    @property
    def torch_device(self) -> str:
        """PyTorch's name of the device: `cpu` or `cuda`."""
        return "cuda" if self.device == "gpu" else "cpu"

    @property
    def hash(self) -> str:
        """Twelve hex digits of a digest of all fields."""
        return digest(self.model_dump())[:12]

    def find_misfit(self) -> str:
        """Return why this machine does not fit the configuration; '' if it does."""
        if self.device == "gpu" and not find_gpu():
            return f"it needs an NVIDIA GPU, and {explain_missing_gpu()}"
        cores = len(os.sched_getaffinity(0))
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
        limit = read_memory_limit()
        if self.cores > cores:
            return f"it needs {self.cores} cores, and this machine has {cores}"
        needed = f"it needs {self.memory_gb:g} GiB of memory"
        if self.memory_gb > memory:
            return f"{needed}, and this machine has {memory:.1f}"
        if limit is not None and self.memory_gb * 2**30 > limit:
            return f"{needed}, and the control group (container) allows {limit / 2**30:.1f}"
        return ""


def configurations() -> dict[str, Configuration]:
    """Return all configurations by name, the smallest first.

    Raises:
        ManifestError: a file has missing or unknown keys.
    """
    known = [_read(path) for path in FOLDER.glob("*.toml")]
    known.sort(key=lambda configuration: (configuration.device, configuration.cores))
    return {configuration.name: configuration for configuration in known}


def choose_configuration(name: str = "") -> Configuration:
    """Return the configuration of this name, else the largest `cpu` one that fits the machine.

    Raises:
        HarnessError: it does not exist or does not fit; the message names one that does.
    """
    known = configurations()
    fitting = [
        configuration
        for configuration in known.values()
        if configuration.device == "cpu" and not configuration.find_misfit()
    ]
    if not fitting:
        smallest = next(iter(known.values()))
        raise HarnessError(
            f"no configuration fits this machine; the smallest is {smallest.name!r}, and "
            f"{smallest.find_misfit()}."
        )
    if not name:
        return fitting[-1]
    if name not in known:
        raise HarnessError(f"configuration {name!r} does not exist. {suggest_name(name, known)}")
    if misfit := known[name].find_misfit():
        raise HarnessError(
            f"configuration {name!r} does not fit: {misfit}. Use --configuration "
            f"{fitting[-1].name}."
        )
    return known[name]


def _read(path: Path) -> Configuration:
    faults = Faults(path)
    configuration = faults.check(Configuration, {**read_toml(path), "name": path.stem})
    faults.raise_any()
    assert configuration is not None
    return configuration
