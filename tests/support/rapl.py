"""A fake tree of RAPL counters, as the kernel lays it out."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from codecarbon.core.rapl import RAPLFile


class Counter:
    """A processor package whose counter the test drives, and one of memory that must not count."""

    def __init__(self, root: Path) -> None:
        for name, folder in (("package-0", "intel-rapl:0"), ("dram", "intel-rapl:0:0")):
            place = root / "intel-rapl" / folder
            place.mkdir(parents=True)
            (place / "name").write_text(name)
            (place / "max_energy_range_uj").write_text("262143328850")
            (place / "energy_uj").write_text("1000000000")
        self.file = root / "intel-rapl" / "intel-rapl:0" / "energy_uj"
        self.joules = 1000.0

    def step_config(self, joules: float) -> None:
        self.joules += joules
        fresh = self.file.with_name("new")
        fresh.write_text(str(round(self.joules * 1e6)))
        fresh.replace(self.file)


@contextmanager
def drawing(counter: Counter, watts: float) -> Iterator[None]:
    """The package draws so much while the block runs: whoever reads the counter finds it exact."""
    read, lock = RAPLFile._get_value, threading.Lock()
    begin, started = counter.joules, time.perf_counter()

    def read_current(file: RAPLFile) -> object:
        with lock:
            used = begin + watts * (time.perf_counter() - started)
            counter.step_config(used - counter.joules)
            return read(file)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RAPLFile, "_get_value", read_current)
        yield
