import copy
import json
import re
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from harness.errors import HarnessError, RecordError
from harness.leaderboard.cost import usd_per_100m
from harness.leaderboard.formatting import interval, number
from harness.leaderboard.ranking import load_rows, sections
from harness.leaderboard.row import machine_name
from harness.reports.results_folder import write_board
from harness.results import record
from harness.results.statistics import Interval
from harness.telemetry.configuration import configurations
from tests.support.records import GOLDEN, board, drifting, golden_records, make
from tests.support.systems import REPOSITORY


def test_speedup_is_a_ratio_within_blocks(tmp_path: Path) -> None:
    rows = board(tmp_path, make("ref", drifting(10), 0.9), make("fast", drifting(2), 0.9))
    found = rows["fast"].speedup
    assert (found.value, found.low, found.high) == pytest.approx((5, 5, 5))


def test_blocks_that_only_one_side_has_do_not_count(tmp_path: Path) -> None:
    rows = board(tmp_path, make("ref", [10, 10, 99], 0.9), make("fast", [2, 2], 0.9))
    assert rows["fast"].speedup.value == pytest.approx(5)


def test_floor_keeps_95_percent_of_the_gain(tmp_path: Path) -> None:
    rows = board(
        tmp_path,
        make("ref", drifting(10), 0.9),
        make("above", drifting(2), 0.881),
        make("below", drifting(1), 0.879),
        make("far", drifting(1), 0.6),
    )
    assert rows["above"].qualified
    assert rows["above"].near
    assert not rows["below"].qualified
    assert rows["below"].near, "not significantly below"
    assert (rows["far"].qualified, rows["far"].near, rows["far"].rank) == (False, False, None)


@pytest.mark.parametrize(
    ("score", "others", "marked"),
    [
        (0.9, (), False),
        (0.91, (), False),  # p < 0.01, but no more than seeds may explain
        (0.92, (), True),
        (0.92, (0.9, 0.94), False),  # two standard deviations are 0.04
        (0.912, (0.911, 0.913), True),  # and here 0.002
        (0.88, (), False),
    ],
)
def test_score_above_the_reference_beyond_chance_and_seeds_is_marked(
    tmp_path: Path, score: float, others: tuple[float, ...], marked: bool
) -> None:
    records = [make("ref", drifting(10), 0.9), make("mine", drifting(1), score)]
    for seed, other in enumerate(others, start=1):
        again = make(f"mine@seed{seed}", drifting(1), other)
        again[0].system["seed"] = seed
        records.append(again)
    rows = board(tmp_path, *records)
    assert rows["mine"].above is marked
    assert not rows["ref"].above
    assert rows["mine"].columns()["above_reference"] is marked
    assert (rows["mine"].qualified, rows["mine"].rank) == (score >= 0.88, 1)
    write_board(tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert (f"{score:.4f} ± 0.0100^" in text) is marked
    assert ("mine: above the reference's score by more than chance" in text) is marked


def test_rank_counts_the_significantly_faster(tmp_path: Path) -> None:
    noisy = [1.0, 1.3, 0.8, 1.1, 0.9]
    rows = board(
        tmp_path,
        make("ref", [10] * 5, 0.9),
        make("a", [1.0, 1.01, 0.99, 1, 1], 0.9),
        make("b", noisy, 0.9),
        make("c", [2.0, 2.01, 1.99, 2, 2], 0.9),
        make("other", [0.1] * 5, 0.9, division="closed"),
    )
    ranks = {name: rows[name].rank for name in ("a", "b", "c", "ref", "other")}
    assert ranks == {"a": 1, "b": 1, "c": 3, "ref": 4, "other": 1}


def test_nothing_is_ranked_where_the_reference_learned_nothing(tmp_path: Path) -> None:
    rows = board(tmp_path, make("ref", [10] * 3, 0.51), make("fast", [1] * 3, 0.51))
    assert rows["fast"].rank is None
    assert rows["fast"].speedup.value == pytest.approx(10)


def test_machines_and_configurations_get_sections_of_their_own(tmp_path: Path) -> None:
    for number_, kwargs in enumerate(({}, {"cpu": "other"}, {"configuration": "cpu-1"})):
        record.write_record(*make("ref", [1.0], 0.9, session=f"s{number_}", **kwargs), tmp_path)
    assert len(sections(load_rows(tmp_path)[0])) == 3


def test_latest_session_that_holds_the_reference_is_shown(tmp_path: Path) -> None:
    record.write_record(*make("ref", [1.0], 0.9, session="old", started="2026-01-01"), tmp_path)
    record.write_record(*make("ref", [1.0], 0.9, session="new", started="2026-01-02"), tmp_path)
    record.write_record(*make("fast", [1.0], 0.9, session="newest", started="2026-01-03"), tmp_path)
    assert [each.session for each in sections(load_rows(tmp_path)[0])] == ["new"]


FILES = (
    *("README.md", "leaderboard.csv", "leaderboard.json", "index.html"),
    *("energy-report.md", "energy-report.csv", "pareto.svg", "ladder.svg"),
)


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The committed records, drawn anew."""
    results = tmp_path_factory.mktemp("golden")
    golden_records(results / "records")
    drawn = write_board(results)
    assert drawn.faults == []
    assert tuple(drawn.files) == FILES
    return results


@pytest.mark.parametrize("name", FILES)
def test_board_is_the_golden_one(golden: Path, name: str) -> None:
    assert (golden / name).read_text() == (GOLDEN / name).read_text()


def test_command_of_a_session_with_ones_own_model_names_the_model(tmp_path: Path) -> None:
    for name in ("ref", "ref-int8"):
        it, side = make(name, [1.0], 0.9)
        it.system["folder"] = f"models/{name}"
        record.write_record(it, side, tmp_path / "records")
    write_board(tmp_path)
    command = "`wattbench run --model MODEL --task sentiment --configuration cpu-2`"
    assert f"{command}, `MODEL` being where ref lies;" in (tmp_path / "README.md").read_text()


def test_board_needs_no_torch(tmp_path: Path) -> None:
    golden_records(tmp_path / "records")
    script = (
        "import sys\n"
        "for name in ('torch', 'transformers', 'onnxruntime', 'tokenizers', 'sklearn'):\n"
        "    sys.modules[name] = None\n"
        "from pathlib import Path\nfrom harness.reports.results_folder import write_board\n"
        f"write_board(Path({str(tmp_path)!r}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "pareto.svg").read_text().startswith("<?xml")


def test_same_records_give_the_same_bytes(tmp_path: Path) -> None:
    golden_records(tmp_path / "records")
    write_board(tmp_path)
    first = {path.name: path.read_bytes() for path in tmp_path.glob("*.*")}
    write_board(tmp_path)
    assert first == {path.name: path.read_bytes() for path in tmp_path.glob("*.*")}
    assert set(first) == set(FILES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data | {"schema": 0}, r"schema 0, but this version reads 2"),
        (lambda data: data | {"extra": 1}, r"unknown keys: extra"),
        (lambda data: {k: v for k, v in data.items() if k != "task"}, r"missing .*task"),
        (lambda data: data | {"session": 3}, r"session = 3 has the wrong type"),
        (lambda data: data | {"timing": {"window": "x"}}, r"timing has window = 'x'"),
        (lambda data: data | {"timing": {"window": None}}, r"timing has window = None"),
        (lambda data: data | {"timing": {"windw": 1.5}}, r"timing has windw = 1.5"),
        (lambda data: data | {"rounds": [{"block": 1}]}, r"missing"),
        (lambda data: [data], r"schema None"),
    ],
)
def test_record_that_is_not_one_is_refused_by_name(
    tmp_path: Path, change: Any, message: str
) -> None:
    it, side = make("ref", [1.0], 0.9)
    record.write_record(it, side, tmp_path)
    path = it.path(tmp_path)
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(RecordError, match=message) as caught:
        record.read_record(path)
    assert str(path) in str(caught.value)


def test_record_survives_the_round_trip(tmp_path: Path) -> None:
    it, side = make("ref", [1.0, 2.0], 0.9)
    expected = copy.deepcopy(asdict(it))
    record.write_record(it, side, tmp_path)
    assert asdict(record.read_record(it.path(tmp_path))) == expected
    assert record.read_side(it.path(tmp_path)) == side


def test_missing_side_file_takes_only_its_row_down(tmp_path: Path) -> None:
    for name in ("ref", "fast"):
        record.write_record(*make(name, [1.0], 0.9), tmp_path)
    make("fast", [1.0], 0.9)[0].path(tmp_path).with_suffix(".json.gz").unlink()
    rows, faults = load_rows(tmp_path)
    assert [row.name for row in rows] == ["ref"]
    assert "fast.json.gz" in faults[0]


def test_empty_results_say_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="Run: wattbench run"):
        write_board(tmp_path)


@pytest.mark.parametrize(
    ("seconds", "usd"),
    [(734.35, 4223), (209.29, 1204), (22.5, 129), (9.97, 57), (5.68, 33), (4.11, 24), (3.14, 18)],
)
def test_cost_agrees_with_table_3_of_fastformers(seconds: float, usd: int) -> None:
    price = configurations()["cpu-16"].usd_per_hour
    assert round(usd_per_100m(price, 3270 / seconds)) == usd


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0, "0"),
        (1234.5, "1,234"),
        (9.876, "9.88"),
        (0.01234, "0.0123"),
        (3e-9, "3.00e-09"),
    ],
)
def test_numbers_have_three_digits(value: float | None, text: str) -> None:
    assert number(value) == text


def test_interval_is_shown_with_its_ends() -> None:
    assert interval(Interval(12.34, 12.0, 12.6)) == "12.3x [12.0, 12.6]"
    assert interval(Interval(2.0, float("nan"), float("nan"))) == "2.00x"
    assert interval(None) == "-"


def test_machine_name_tells_a_quota() -> None:
    it, _ = make("ref", [1.0], 0.9)
    it.machine["quota"] = 1.5
    assert machine_name(it) == "CPU, 2 cores, quota 1.5 (avx2)"


MEASURED = {"source": "measured: CPU by RAPL", "idle": {"cpu_w": 3.0, "ram_w": 1.0}}


def test_measured_energy_has_a_column_above_the_idle_machine(tmp_path: Path) -> None:
    """1,000 examples in 10 s, 36 J a second of CPU and 3.6 of RAM, over 4 W of idling."""
    it, side = make("ref", [10.0], 0.9, energy=MEASURED)
    it.rounds[0].energy = {"cpu_wh": 0.1, "ram_wh": 0.01}
    record.write_record(it, side, tmp_path / "records")
    assert write_board(tmp_path).faults == []
    columns = load_rows(tmp_path / "records")[0][0].columns()
    assert columns["energy_wh_per_1k"] == pytest.approx(0.11)
    assert columns["energy_above_idle_wh_per_1k"] == pytest.approx(0.11 - 4 * 10 / 3600)
    assert columns["co2_g_per_1k"] == pytest.approx(0.11 / 1000 * 369.5)
    assert (columns["ram_wh_per_1k"], columns["gpu_wh_per_1k"]) == (pytest.approx(0.01), None)
    text = (tmp_path / "README.md").read_text()
    assert "| Wh/1k (measured)   | above idle   |" in text


def test_modelled_energy_has_no_column_above_idle(tmp_path: Path) -> None:
    record.write_record(*make("ref", [10.0], 0.9), tmp_path / "records")
    write_board(tmp_path)
    assert "above idle" not in (tmp_path / "README.md").read_text()
    assert load_rows(tmp_path / "records")[0][0].columns()["energy_above_idle_wh_per_1k"] is None


def test_example_of_ones_own_plot_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one in docs/results.md, as written."""
    text = (REPOSITORY / "docs" / "results.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    golden_records(tmp_path / "results" / "records")
    monkeypatch.chdir(tmp_path)
    script = f"import matplotlib\nmatplotlib.use('svg')\n{code}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    drawn = (tmp_path / "mine.svg").read_text()
    assert "<!-- onnx-int8 -->" in drawn, "matplotlib keeps each text as a comment"


@pytest.mark.parametrize("inner", ["system", "task", "configuration", "machine", "energy", "roles"])
def test_record_that_lacks_what_the_board_asks_takes_only_its_row_down(
    tmp_path: Path, inner: str
) -> None:
    for name in ("ref", "fast"):
        record.write_record(*make(name, [1.0], 0.9), tmp_path / "records")
    path = make("fast", [1.0], 0.9)[0].path(tmp_path / "records")
    data = json.loads(path.read_text())
    lost = next(iter(data[inner]))
    del data[inner][lost]
    path.write_text(json.dumps(data))
    drawn = write_board(tmp_path)
    assert [fault for fault in drawn.faults if str(path) in fault and lost in fault]
    assert [row.name for section in drawn.sections for row in section.rows] == ["ref"]


def test_ten_thousand_records_are_drawn_in_ten_seconds_and_a_gigabyte(tmp_path: Path) -> None:
    """A hundred sessions of a hundred systems, on one machine."""
    records = tmp_path / "records"
    it, side = make("ref", [10.0, 10.1, 9.9], 0.9)
    record.write_record(it, side, records)
    (path,) = records.glob("*/*/*/*.json")
    text, packed = path.read_text(), path.with_suffix(".json.gz").read_bytes()
    shutil.rmtree(records)
    for session in range(100):
        folder = records / f"s{session:02}" / "sentiment" / "offline"
        folder.mkdir(parents=True)
        started = f"2026-{session // 28 + 1:02}-{session % 28 + 1:02}T00:00:00Z"
        for system in range(100):
            name = f"system-{system}" if system else "ref"
            changed = text.replace('"s1"', f'"s{session:02}"').replace(
                '"name": "ref"', f'"name": "{name}"'
            )
            (folder / f"{name}.json").write_text(changed.replace("2026-01-01T00:00:00Z", started))
            (folder / f"{name}.json.gz").write_bytes(packed)
    script = (
        "import sys, time\nfrom pathlib import Path\n"
        "from harness.reports.results_folder import write_board\nstarted = time.process_time()\n"
        "drawn = write_board(Path(sys.argv[1]))\nassert not drawn.faults\n"
        "assert {each.session for each in drawn.sections} == {'s99'}\n"
        "print(time.process_time() - started)\n"
        "held = Path('/proc/self/status').read_text().split('VmHWM:')[1]\n"
        "print(int(held.split()[0]) * 1024)"  # rusage would hold what pytest had when it forked
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    seconds, memory = map(float, done.stdout.split())
    assert seconds < 10
    assert memory < 1e9


@pytest.mark.parametrize(
    "change",
    [
        lambda it: setattr(it.rounds[0], "seconds", 0.0),
        lambda it: setattr(it.rounds[0], "seconds", -1.0),
        lambda it: setattr(it.rounds[0], "memory_mb", float("nan")),
        lambda it: setattr(it, "score", None),
        lambda it: setattr(it, "score", {"value": 0.5}),
        lambda it: it.score.update(value="x"),
        lambda it: it.score.update(examples=7),
        lambda it: it.rounds[0].energy.update(cpu_wh="x"),
        lambda it: setattr(it, "artifact", {"recipe": []}),
        lambda it: it.artifact["recipe"][0].update(cost={}),
        lambda it: setattr(it.rounds[0], "left", [0, 0]),
        lambda it: it.system.update(division="weird"),
        lambda it: setattr(it, "scenario", "batchy"),
        lambda it: it.system.update(serve=None),
        lambda it: it.system.update(authors="me"),
        lambda it: it.configuration.update(usd_per_hour=None),
    ],
)
def test_record_with_odd_values_takes_only_its_row_down(tmp_path: Path, change: Any) -> None:
    record.write_record(*make("ref", [1.0, 1.1], 0.9), tmp_path / "records")
    it, side = make("odd", [1.0, 1.1], 0.9)
    change(it)
    record.write_record(it, side, tmp_path / "records")
    drawn = write_board(tmp_path)
    assert [row.name for section in drawn.sections for row in section.rows] == ["ref"]
    assert [fault for fault in drawn.faults if "odd.json" in fault]


def test_what_is_no_longer_drawn_is_no_longer_there(tmp_path: Path) -> None:
    golden_records(tmp_path / "records")
    write_board(tmp_path)
    shutil.rmtree(tmp_path / "records")
    it, side = make("dead", [], 0.5)
    it.score, it.failure = None, {"reason": "it closed its output", "stderr": ""}
    record.write_record(it, side | {"answers": []}, tmp_path / "records")
    assert tuple(write_board(tmp_path).files) == FILES[:4]
    left = {path.name for path in tmp_path.glob("*.*")}
    assert left == {"README.md", "leaderboard.csv", "leaderboard.json", "index.html"}


def test_energy_that_is_not_known_is_no_zero(tmp_path: Path) -> None:
    it, side = make("ref", [1.0, 1.1], 0.9)
    for each in it.rounds:
        each.energy = {}
    record.write_record(it, side, tmp_path / "records")
    (section,) = write_board(tmp_path).sections
    columns = section.rows[0].columns()
    assert (columns["energy_wh_per_1k"], columns["co2_g_per_1k"]) == (None, None)
