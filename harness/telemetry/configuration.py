"""The fixed configurations under which everything is measured: cores, threads, memory, price, power
model.
"""

import os
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.errors import HarnessError, ManifestError
from harness.schema import nearest, read_toml
from harness.store.cache import digest

FOLDER = Path(__file__).parent / "configurations"


@dataclass(frozen=True)
class Configuration:
    """One `configurations/*.toml`.

    device: `cpu`, or `gpu`: then the worker also gets the first CUDA device.
    cores: logical CPUs that the worker is pinned to; it runs as many threads.
    memory_gb: what a worker may hold, in GiB.
    usd_per_hour, price_source, price_date: what renting it costs.
    watts_per_core, power_source: of one busy core; used where no energy counter can be read.
    country: three-letter code, for the carbon intensity of electricity.
    """

    name: str
    title: str
    device: str
    cores: int
    memory_gb: float
    usd_per_hour: float
    price_source: str
    price_date: str
    watts_per_core: float
    power_source: str
    country: str

    @cached_property
    def hash(self) -> str:
        """Twelve hex digits over everything that is declared."""
        return digest(asdict(self))[:12]

    def misfit(self) -> str:
        """Why this machine cannot hold the configuration; '' if it can."""
        if self.device == "gpu" and not nvml_devices():
            return "it needs an NVIDIA GPU, and NVML finds none on this machine"
        cores, memory = (
            len(os.sched_getaffinity(0)),
            os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30,
        )
        if self.cores > cores:
            return f"it needs {self.cores} cores, and this machine has {cores}"
        if self.memory_gb > memory:
            return f"it needs {self.memory_gb:g} GiB of memory, and this machine has {memory:.1f}"
        return ""


def configurations() -> dict[str, Configuration]:
    """All by name, smallest first. Raises: ManifestError if a file is not one."""
    found = [_read(path) for path in FOLDER.glob("*.toml")]
    return {each.name: each for each in sorted(found, key=lambda each: (each.device, each.cores))}


def nvml_devices() -> list[str]:
    """The names of the NVIDIA GPUs that the driver's library (NVML) knows, without CUDA."""
    import pynvml

    try:
        pynvml.nvmlInit()
        handles = map(pynvml.nvmlDeviceGetHandleByIndex, range(pynvml.nvmlDeviceGetCount()))
        return [str(pynvml.nvmlDeviceGetName(each)) for each in handles]
    except pynvml.NVMLError:
        return []


def choose_configuration(name: str = "") -> Configuration:
    """The configuration of this name; without one, the largest `cpu` one that fits the machine.

    Raises: HarnessError if it does not fit, with the name of one that does.
    """
    known = configurations()
    fitting = [each for each in known.values() if each.device == "cpu" and not each.misfit()]
    if not fitting:
        smallest = next(iter(known.values()))
        raise HarnessError(
            f"no configuration fits this machine; the smallest is {smallest.name!r}, and "
            f"{smallest.misfit()}."
        )
    if not name:
        return fitting[-1]
    if name not in known:
        raise HarnessError(f"configuration {name!r} does not exist. {nearest(name, known)}")
    if misfit := known[name].misfit():
        raise HarnessError(
            f"configuration {name!r} does not fit: {misfit}. Use --configuration "
            f"{fitting[-1].name}."
        )
    return known[name]


def _read(path: Path) -> Configuration:
    data: dict[str, Any] = read_toml(path)
    expected = {each.name for each in fields(Configuration)} - {"name"}
    if wrong := expected ^ set(data):
        raise ManifestError(f"{path}: missing or unknown keys: {', '.join(sorted(wrong))}.")
    return Configuration(name=path.stem, **data)
