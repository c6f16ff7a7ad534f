"""The measured path, on a fake tree of RAPL counters as the kernel lays it out."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from codecarbon.core import cpu

from harness import energy
from harness.board.ranking import load_rows
from harness.configuration import choose, configurations
from harness.energy import Meter
from harness.errors import HarnessError
from harness.manifest import read_system
from harness.measure import run
from harness.measure.run import Effort
from harness.record import Record, read
from harness.tasks.task import suite, task


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

    def use(self, joules: float) -> None:
        self.joules += joules
        fresh = self.file.with_name("new")
        fresh.write_text(str(round(self.joules * 1e6)))
        fresh.replace(self.file)


@pytest.fixture
def counter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Counter:
    root = tmp_path / "powercap"
    made = Counter(root)
    monkeypatch.setattr(cpu, "_get_candidate_bases", lambda folder: [str(root)])
    settings = (str(root), False, False)
    monkeypatch.setattr(cpu.IntelRAPL.__init__, "__defaults__", settings)
    init = cpu.IntelRAPL.__init__

    def here(self: object, rapl_dir: str = "", **kwargs: bool) -> None:
        init(self, rapl_dir=str(root), **kwargs)

    monkeypatch.setattr(cpu.IntelRAPL, "__init__", here)
    return made


@contextmanager
def drawing(counter: Counter, watts: float) -> Iterator[None]:
    """The package draws so much while the block runs."""
    over = threading.Event()

    def draw() -> None:
        last = time.perf_counter()
        while not over.wait(0.002):
            now = time.perf_counter()
            counter.use(watts * (now - last))
            last = now

    thread = threading.Thread(target=draw)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def session(project: Path) -> dict[str, Record]:
    null = read_system(project / "baselines" / "null", project)
    name = run.measure(
        [null],
        [task("sentiment")],
        suite("quick"),
        choose("cpu-1"),
        project,
        project / "results",
        Effort(blocks=1),
        say=lambda line: None,
    )
    found = (project / "results" / "records" / name).glob("*/*/null.json")
    return {path.parent.name: read(path) for path in found}


def test_session_on_counters_holds_answering_loading_and_the_idle_machine(
    project: Path, counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(energy, "IDLE_SECONDS", 0.5)
    with drawing(counter, 25.0):
        found = session(project)
    for each in found.values():
        assert each.failure is None
        assert each.energy["source"].startswith("measured: CPU by RAPL")
        assert each.energy["idle"]["cpu_w"] == pytest.approx(25.0, rel=0.05)
        (only,) = each.rounds
        assert only.energy["cpu_wh"] * 3600 == pytest.approx(25.0 * only.seconds, rel=0.1)
        assert only.load_wh > only.load_seconds * 25.0 / 3600 * 0.95
    (row,) = [row for row in load_rows(project / "results" / "records")[0] if row.seconds][:1]
    per_1k = row.columns()
    assert abs(per_1k["energy_above_idle_wh_per_1k"]) < 0.1 * per_1k["energy_wh_per_1k"]


@pytest.mark.usefixtures("counter")
def test_counter_that_stands_still_fails_the_row(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Meter, "idle_watts", lambda self: None)
    found = session(project)
    assert all("returned no energy" in (each.failure or {})["reason"] for each in found.values())


def test_measured_energy_is_exact_to_one_percent_and_of_the_window_alone(counter: Counter) -> None:
    meter = Meter(configurations()["cpu-1"])
    assert meter.source.startswith("measured: CPU by RAPL")
    try:
        for joules in (5.0, 0.4, 80.0):
            counter.use(33.0)  # between windows
            with meter.window() as used:
                counter.use(joules / 2)
                time.sleep(0.05)
                counter.use(joules / 2)
                ended = time.perf_counter()
            assert time.perf_counter() - ended < 0.02, "read at once"
            counter.use(11.0)
            found = meter.complete(used, cpu_seconds=1000.0)
            assert found.cpu_wh * 3600 == pytest.approx(joules, rel=0.01)
            assert found.ram_wh is not None
            assert found.gpu_wh is None
    finally:
        meter.close()


def test_counter_that_runs_over_its_end_is_followed(counter: Counter) -> None:
    counter.joules = 262143.0
    counter.use(0)
    meter = Meter(configurations()["cpu-1"])
    try:
        with meter.window() as used:
            counter.joules = 0.0
            counter.use(4.67115)
        assert used.cpu_wh * 3600 == pytest.approx(5.0, rel=0.01)
    finally:
        meter.close()


def test_idle_watts_are_those_of_the_counter(
    counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(energy, "IDLE_SECONDS", 1.0)
    meter = Meter(configurations()["cpu-1"])
    with drawing(counter, 25.0):
        watts = meter.idle_watts()
    meter.close()
    assert watts is not None
    assert watts["cpu_w"] == pytest.approx(25.0, rel=0.02)


def test_counter_that_stands_still_is_an_error_not_a_zero(counter: Counter) -> None:
    meter = Meter(configurations()["cpu-1"])
    try:
        with pytest.raises(HarnessError, match=r"returned no energy.*RAPL"), meter.window():
            time.sleep(0.01)
    finally:
        meter.close()


def test_tracker_that_returns_nothing_is_an_error_not_a_zero(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    silent = SimpleNamespace(start_task=lambda name: None, stop_task=lambda: None)
    monkeypatch.setattr(energy, "rapl_readable", lambda: True)
    monkeypatch.setattr(energy, "_tracker", lambda country: silent)
    meter = Meter(configurations()["cpu-1"])
    with pytest.raises(HarnessError, match="returned no energy"), meter.window():
        pass


def test_gpu_is_measured_by_nvml_and_the_cpu_beside_it_modelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = SimpleNamespace(cpu_energy=9.0, ram_energy=9.0, gpu_energy=0.002)
    tracker = SimpleNamespace(start_task=lambda name: None, stop_task=lambda: data)
    monkeypatch.setattr(energy, "rapl_readable", lambda: False)
    monkeypatch.setattr(energy, "nvml_devices", lambda: ["V100"])
    monkeypatch.setattr(energy, "_tracker", lambda country: tracker)
    meter = Meter(configurations()["gpu-1"])
    with meter.window() as used:
        pass
    found = meter.complete(used, 3600.0)
    assert (found.cpu_wh, found.ram_wh, found.gpu_wh) == (pytest.approx(4.82), None, 2.0)
    assert meter.source.startswith("modelled: 4.82 W"), "not all of it is measured"
    assert "GPU measured by NVML" in meter.source
    assert Meter(configurations()["cpu-1"]).gpu is False, "its GPU is not the configuration's"


def test_modelled_energy_is_watts_times_cpu_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "rapl_readable", lambda: False)
    meter = Meter(configurations()["cpu-1"])
    with meter.window() as used:
        pass
    assert meter.complete(used, 3600.0).cpu_wh == pytest.approx(4.27)
    assert meter.source.startswith("modelled: 4.27 W")
    assert meter.idle_watts() is None


def test_carbon_intensity_is_codecarbons_and_unknown_countries_are_refused() -> None:
    assert 300 < energy.grams_co2_per_kwh("USA") < 500
    assert energy.grams_co2_per_kwh("FRA") < 100
    with pytest.raises(HarnessError, match="'ZZZ' is not in codecarbon's table"):
        energy.grams_co2_per_kwh("ZZZ")
