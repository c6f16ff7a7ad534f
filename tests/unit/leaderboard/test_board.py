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
from harness.leaderboard.cost import compute_usd_per_100m
from harness.leaderboard.formatting import format_interval, format_number
from harness.leaderboard.ranking import load_rows, load_sections
from harness.leaderboard.row import format_machine
from harness.reports.results_folder import write_board
from harness.results.record import read_record, read_side, write_record
from harness.results.statistics import Interval
from harness.telemetry.configuration import configurations
from tests.support.records import GOLDEN, drifting_times, golden_records, make_record, rows_by_name
from tests.support.systems import REPOSITORY


def test_speedup_is_a_ratio_within_blocks(tmp_path: Path) -> None:
    rows = rows_by_name(
        tmp_path,
        make_record("ref", drifting_times(10), 0.9),
        make_record("fast", drifting_times(2), 0.9),
    )
    speedup = rows["fast"].speedup
    assert (speedup.value, speedup.low, speedup.high) == pytest.approx((5, 5, 5))


def test_blocks_of_only_one_system_do_not_count(tmp_path: Path) -> None:
    rows = rows_by_name(
        tmp_path, make_record("ref", [10, 10, 99], 0.9), make_record("fast", [2, 2], 0.9)
    )
    assert rows["fast"].speedup.value == pytest.approx(5)


def test_floor_keeps_95_percent_of_the_gain(tmp_path: Path) -> None:
    rows = rows_by_name(
        tmp_path,
        make_record("ref", drifting_times(10), 0.9),
        make_record("above", drifting_times(2), 0.881),
        make_record("below", drifting_times(1), 0.879),
        make_record("far", drifting_times(1), 0.6),
    )
    assert rows["above"].qualified
    assert rows["above"].near_floor
    assert not rows["below"].qualified
    assert rows["below"].near_floor, "not significantly below"
    assert (rows["far"].qualified, rows["far"].near_floor, rows["far"].rank) == (False, False, None)


@pytest.mark.parametrize(
    ("score", "seed_scores", "marked"),
    [
        (0.9, (), False),
        (0.91, (), False),  # p < 0.01, but within what seeds explain
        (0.92, (), True),
        (0.92, (0.9, 0.94), False),  # two standard deviations: 0.04
        (0.912, (0.911, 0.913), True),  # two standard deviations: 0.002
        (0.88, (), False),
    ],
)
def test_score_above_the_reference_by_more_than_chance_and_seeds_is_marked(
    tmp_path: Path, score: float, seed_scores: tuple[float, ...], marked: bool
) -> None:
    records = [
        make_record("ref", drifting_times(10), 0.9),
        make_record("mine", drifting_times(1), score),
    ]
    for seed, seed_score in enumerate(seed_scores, start=1):
        seed_record, side = make_record(f"mine@seed{seed}", drifting_times(1), seed_score)
        seed_record.system["seed"] = seed
        records.append((seed_record, side))
    rows = rows_by_name(tmp_path, *records)
    assert rows["mine"].above_reference is marked
    assert not rows["ref"].above_reference
    assert rows["mine"].columns()["above_reference"] is marked
    assert (rows["mine"].qualified, rows["mine"].rank) == (score >= 0.88, 1)
    write_board(tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert (f"{score:.4f} ± 0.0100^" in text) is marked
    assert ("mine: the score is above the reference's by more than chance" in text) is marked


def test_rank_counts_significantly_faster_systems(tmp_path: Path) -> None:
    noisy = [1.0, 1.3, 0.8, 1.1, 0.9]
    rows = rows_by_name(
        tmp_path,
        make_record("ref", [10] * 5, 0.9),
        make_record("a", [1.0, 1.01, 0.99, 1, 1], 0.9),
        make_record("b", noisy, 0.9),
        make_record("c", [2.0, 2.01, 1.99, 2, 2], 0.9),
        make_record("other", [0.1] * 5, 0.9, division="closed"),
    )
    ranks = {name: rows[name].rank for name in ("a", "b", "c", "ref", "other")}
    assert ranks == {"a": 1, "b": 1, "c": 3, "ref": 4, "other": 1}


def test_nothing_is_ranked_if_the_reference_is_not_above_the_majority_class(tmp_path: Path) -> None:
    rows = rows_by_name(
        tmp_path, make_record("ref", [10] * 3, 0.51), make_record("fast", [1] * 3, 0.51)
    )
    assert rows["fast"].rank is None
    assert rows["fast"].speedup.value == pytest.approx(10)


def test_machines_and_configurations_have_separate_sections(tmp_path: Path) -> None:
    for index, kwargs in enumerate(({}, {"cpu": "other"}, {"configuration": "cpu-1"})):
        write_record(*make_record("ref", [1.0], 0.9, session=f"s{index}", **kwargs), tmp_path)
    assert len(load_sections(tmp_path)[0]) == 3


def test_latest_session_with_the_reference_is_shown(tmp_path: Path) -> None:
    write_record(*make_record("ref", [1.0], 0.9, session="old", started="2026-01-01"), tmp_path)
    write_record(*make_record("ref", [1.0], 0.9, session="new", started="2026-01-02"), tmp_path)
    write_record(*make_record("fast", [1.0], 0.9, session="newest", started="2026-01-03"), tmp_path)
    assert [section.session for section in load_sections(tmp_path)[0]] == ["new"]


FILES = (
    *("README.md", "leaderboard.csv", "leaderboard.json", "index.html"),
    *("energy-report.md", "energy-report.csv", "pareto.svg", "ladder.svg"),
)


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results folder of the committed records, rendered by this version."""
    results = tmp_path_factory.mktemp("golden")
    golden_records(results / "records")
    board = write_board(results)
    assert board.faults == []
    assert tuple(board.files) == FILES
    return results


@pytest.mark.parametrize("name", FILES)
def test_board_equals_the_committed_one(golden: Path, name: str) -> None:
    assert (golden / name).read_text() == (GOLDEN / name).read_text()


def test_command_of_a_session_with_a_custom_model_names_the_model(tmp_path: Path) -> None:
    for name in ("ref", "ref-int8"):
        record, side = make_record(name, [1.0], 0.9)
        record.system["folder"] = f"models/{name}"
        write_record(record, side, tmp_path / "records")
    write_board(tmp_path)
    command = "`wattbench run --model MODEL --task sentiment --configuration cpu-2`"
    assert f"{command}, where `MODEL` is the path of ref;" in (tmp_path / "README.md").read_text()


def test_board_needs_no_torch(tmp_path: Path) -> None:
    golden_records(tmp_path / "records")
    script = (
        "import sys\n"
        "for name in ('torch', 'transformers', 'onnxruntime', 'tokenizers', 'sklearn'):\n"
        "    sys.modules[name] = None\n"
        "from pathlib import Path\nfrom harness.reports.results_folder import write_board\n"
        f"write_board(Path({str(tmp_path)!r}))"
    )
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
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
def test_invalid_record_is_rejected_with_its_path(
    tmp_path: Path, change: Any, message: str
) -> None:
    record, side = make_record("ref", [1.0], 0.9)
    write_record(record, side, tmp_path)
    path = record.path(tmp_path)
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(RecordError, match=message) as caught:
        read_record(path)
    assert str(path) in str(caught.value)


def test_record_survives_the_round_trip(tmp_path: Path) -> None:
    record, side = make_record("ref", [1.0, 2.0], 0.9)
    expected = copy.deepcopy(asdict(record))
    write_record(record, side, tmp_path)
    assert asdict(read_record(record.path(tmp_path))) == expected
    assert read_side(record.path(tmp_path)) == side


def test_missing_side_file_removes_only_its_row(tmp_path: Path) -> None:
    for name in ("ref", "fast"):
        write_record(*make_record(name, [1.0], 0.9), tmp_path)
    make_record("fast", [1.0], 0.9)[0].path(tmp_path).with_suffix(".json.gz").unlink()
    rows, faults = load_rows(tmp_path)
    assert [row.name for row in rows] == ["ref"]
    assert "fast.json.gz" in faults[0]


def test_empty_results_name_the_command_to_run(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="Run: wattbench run"):
        write_board(tmp_path)


@pytest.mark.parametrize(
    ("seconds", "usd"),
    [(734.35, 4223), (209.29, 1204), (22.5, 129), (9.97, 57), (5.68, 33), (4.11, 24), (3.14, 18)],
)
def test_cost_agrees_with_table_3_of_fastformers(seconds: float, usd: int) -> None:
    price = configurations()["cpu-16"].usd_per_hour
    assert round(compute_usd_per_100m(price, 3270 / seconds)) == usd


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
    assert format_number(value) == text


def test_interval_is_written_with_its_limits() -> None:
    assert format_interval(Interval(12.34, 12.0, 12.6)) == "12.3x [12.0, 12.6]"
    assert format_interval(Interval(2.0, float("nan"), float("nan"))) == "2.00x"
    assert format_interval(None) == "-"


def test_machine_name_includes_the_quota() -> None:
    record, _ = make_record("ref", [1.0], 0.9)
    record.machine["quota"] = 1.5
    assert format_machine(record) == "CPU, 2 cores, quota 1.5 (avx2)"


MEASURED = {"source": "measured: CPU by RAPL", "idle": {"cpu_w": 3.0, "ram_w": 1.0}}


def test_measured_energy_has_a_column_above_the_idle_machine(tmp_path: Path) -> None:
    """1,000 examples in 10 s, 36 W of CPU and 3.6 W of RAM, over 4 W when idle."""
    record, side = make_record("ref", [10.0], 0.9, energy=MEASURED)
    record.rounds[0].energy = {"cpu_wh": 0.1, "ram_wh": 0.01}
    write_record(record, side, tmp_path / "records")
    assert write_board(tmp_path).faults == []
    columns = load_rows(tmp_path / "records")[0][0].columns()
    assert columns["energy_wh_per_1k"] == pytest.approx(0.11)
    assert columns["energy_above_idle_wh_per_1k"] == pytest.approx(0.11 - 4 * 10 / 3600)
    assert columns["co2_g_per_1k"] == pytest.approx(0.11 / 1000 * 369.5)
    assert (columns["ram_wh_per_1k"], columns["gpu_wh_per_1k"]) == (pytest.approx(0.01), None)
    text = (tmp_path / "README.md").read_text()
    assert "| Wh/1k (measured)   | Wh/1k above idle   |" in text


def test_modelled_energy_has_no_column_above_idle(tmp_path: Path) -> None:
    write_record(*make_record("ref", [10.0], 0.9), tmp_path / "records")
    write_board(tmp_path)
    assert "above idle" not in (tmp_path / "README.md").read_text()
    assert load_rows(tmp_path / "records")[0][0].columns()["energy_above_idle_wh_per_1k"] is None


def test_example_of_a_custom_plot_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The code in docs/results.md, as written."""
    text = (REPOSITORY / "docs" / "results.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    golden_records(tmp_path / "results" / "records")
    monkeypatch.chdir(tmp_path)
    script = f"import matplotlib\nmatplotlib.use('svg')\n{code}"
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    plot = (tmp_path / "mine.svg").read_text()
    assert "<!-- onnx-int8 -->" in plot, "matplotlib keeps each text as a comment"


@pytest.mark.parametrize("inner", ["system", "task", "configuration", "machine", "energy", "roles"])
def test_record_without_a_needed_key_removes_only_its_row(tmp_path: Path, inner: str) -> None:
    for name in ("ref", "fast"):
        write_record(*make_record(name, [1.0], 0.9), tmp_path / "records")
    path = make_record("fast", [1.0], 0.9)[0].path(tmp_path / "records")
    data = json.loads(path.read_text())
    key = next(iter(data[inner]))
    del data[inner][key]
    path.write_text(json.dumps(data))
    board = write_board(tmp_path)
    assert [fault for fault in board.faults if str(path) in fault and key in fault]
    assert [row.name for section in board.sections for row in section.rows] == ["ref"]


def test_ten_thousand_records_are_rendered_in_ten_seconds_and_a_gigabyte(tmp_path: Path) -> None:
    """A hundred sessions of a hundred systems, on one machine."""
    records = tmp_path / "records"
    record, side = make_record("ref", [10.0, 10.1, 9.9], 0.9)
    write_record(record, side, records)
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
        "board = write_board(Path(sys.argv[1]))\nassert not board.faults\n"
        "assert {section.session for section in board.sections} == {'s99'}\n"
        "print(time.process_time() - started)\n"
        "peak = Path('/proc/self/status').read_text().split('VmHWM:')[1]\n"
        "print(int(peak.split()[0]) * 1024)"  # rusage would include pytest's memory at the fork
    )
    process = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
    seconds, memory = map(float, process.stdout.split())
    assert seconds < 10
    assert memory < 1e9


@pytest.mark.parametrize(
    "change",
    [
        lambda record: setattr(record.rounds[0], "seconds", 0.0),
        lambda record: setattr(record.rounds[0], "seconds", -1.0),
        lambda record: setattr(record.rounds[0], "memory_mb", float("nan")),
        lambda record: setattr(record, "score", None),
        lambda record: setattr(record, "score", {"value": 0.5}),
        lambda record: record.score.update(value="x"),
        lambda record: record.score.update(examples=7),
        lambda record: record.rounds[0].energy.update(cpu_wh="x"),
        lambda record: setattr(record, "artifact", {"recipe": []}),
        lambda record: record.artifact["recipe"][0].update(cost={}),
        lambda record: setattr(record.rounds[0], "left", [0, 0]),
        lambda record: record.system.update(division="weird"),
        lambda record: setattr(record, "scenario", "batchy"),
        lambda record: record.system.update(serve=None),
        lambda record: record.system.update(authors="me"),
        lambda record: record.configuration.update(usd_per_hour=None),
    ],
)
def test_record_with_impossible_values_removes_only_its_row(tmp_path: Path, change: Any) -> None:
    write_record(*make_record("ref", [1.0, 1.1], 0.9), tmp_path / "records")
    record, side = make_record("odd", [1.0, 1.1], 0.9)
    change(record)
    write_record(record, side, tmp_path / "records")
    board = write_board(tmp_path)
    assert [row.name for section in board.sections for row in section.rows] == ["ref"]
    assert [fault for fault in board.faults if "odd.json" in fault]


def test_files_of_earlier_records_are_removed(tmp_path: Path) -> None:
    golden_records(tmp_path / "records")
    write_board(tmp_path)
    shutil.rmtree(tmp_path / "records")
    record, side = make_record("dead", [], 0.5)
    record.score, record.failure = None, {"reason": "it closed its output", "stderr": ""}
    write_record(record, side | {"answers": []}, tmp_path / "records")
    assert tuple(write_board(tmp_path).files) == FILES[:4]
    names = {path.name for path in tmp_path.glob("*.*")}
    assert names == {"README.md", "leaderboard.csv", "leaderboard.json", "index.html"}


def test_unknown_energy_is_not_zero(tmp_path: Path) -> None:
    record, side = make_record("ref", [1.0, 1.1], 0.9)
    for window in record.rounds:
        window.energy = {}
    write_record(record, side, tmp_path / "records")
    (section,) = write_board(tmp_path).sections
    columns = section.rows[0].columns()
    assert (columns["energy_wh_per_1k"], columns["co2_g_per_1k"]) == (None, None)
