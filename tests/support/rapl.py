"""A fake tree of RAPL counters, as the kernel lays it out."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from codecarbon.core.rapl import RAPLFile


class Counter:
    """The counter of a processor package, set by the test; that of memory must not be counted."""

    def __init__(self, root: Path) -> None:
        for name, folder in (("package-0", "intel-rapl:0"), ("dram", "intel-rapl:0:0")):
            counter = root / "intel-rapl" / folder
            counter.mkdir(parents=True)
            (counter / "name").write_text(name)
            (counter / "max_energy_range_uj").write_text("262143328850")
            (counter / "energy_uj").write_text("1000000000")
        self.file = root / "intel-rapl" / "intel-rapl:0" / "energy_uj"
        self.joules = 1000.0

    def advance(self, joules: float) -> None:
        """Use so much energy."""
        self.joules += joules
        new = self.file.with_name("new")
        new.write_text(str(round(self.joules * 1e6)))
        new.replace(self.file)


@contextmanager
def constant_power(counter: Counter, watts: float) -> Iterator[None]:
    """Advance the counter by this power while the block runs, exactly at each reading."""
    read, lock = RAPLFile._get_value, threading.Lock()
    before, started = counter.joules, time.perf_counter()

    def read_current(file: RAPLFile) -> object:
        with lock:
            used = before + watts * (time.perf_counter() - started)
            counter.advance(used - counter.joules)
            return read(file)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RAPLFile, "_get_value", read_current)
        yield
