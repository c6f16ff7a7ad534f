import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest

from harness.errors import HarnessError
from harness.leaderboard.columns import get_figures
from harness.leaderboard.ranking import load_rows, load_sections
from harness.reports.results_folder import write_board
from harness.results.record import write_record
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
    assert get_figures(rows["mine"])["above_reference"] is marked
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
    *("energy-report.md", "energy-report.csv", "energy-suites.csv", "energy-suite.svg"),
    *("pareto.svg", "ladder.svg"),
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
    command = "`wattbench bench --model MODEL --task sentiment --configuration cpu-2`"
    assert f"{command}, where `MODEL` is the path of ref;" in (tmp_path / "README.md").read_text()


def test_commands_for_a_custom_task_say_that_its_path_is_needed(tmp_path: Path) -> None:
    times = [1.0, 3.0, 1.0, 3.0, 1.0]
    for name, seconds in (("ref", times), ("ref-int8", [1.0] * 5)):
        record, side = make_record(name, seconds, 0.9, task="tickets")
        record.system["folder"] = f"models/{name}"
        write_record(record, side, tmp_path / "records")
    write_board(tmp_path)
    text = (tmp_path / "README.md").read_text()
    options = "--model MODEL --task PATH/task.toml"
    assert f"`wattbench bench {options} --configuration cpu-2`" in text
    assert f"`wattbench run --resume s1 --until 5% {options}`" in text
    assert f"wattbench bench {options}" in (tmp_path / "leaderboard.csv").read_text()


@pytest.mark.parametrize("has_energy", [True, False])
def test_every_link_leads_to_a_file(tmp_path: Path, has_energy: bool) -> None:
    record, side = make_record("ref", [1.0], 0.9)
    if not has_energy:
        record.rounds[0].energy = {}
    write_record(record, side, tmp_path / "records")
    files = write_board(tmp_path).files
    assert ("energy-report.md" in files) == has_energy
    page = (tmp_path / "index.html").read_text()
    links = re.findall(r'href="([^#:"]+)"', page) + re.findall(r'"record": ?"([^"]+)"', page)
    assert len(links) > 3
    for name in (name for name in files if name.endswith(".md")):
        links += re.findall(r"\]\(([^):]+)\)", (tmp_path / name).read_text())
    for link in links:
        assert (tmp_path / unquote(link)).exists(), link


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


def test_empty_results_name_the_command_to_run(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="Run: wattbench run"):
        write_board(tmp_path)


MEASURED = {"source": "measured: CPU by RAPL", "idle": {"cpu_w": 3.0, "ram_w": 1.0}}


def test_measured_energy_has_a_column_above_the_idle_machine(tmp_path: Path) -> None:
    """1,000 examples in 10 s, 36 W of CPU and 3.6 W of RAM, over 4 W when idle."""
    record, side = make_record("ref", [10.0], 0.9, energy=MEASURED)
    record.rounds[0].energy = {"cpu_wh": 0.1, "ram_wh": 0.01}
    write_record(record, side, tmp_path / "records")
    assert write_board(tmp_path).faults == []
    columns = get_figures(load_rows(tmp_path / "records")[0][0])
    assert columns["energy_wh_per_1k"] == pytest.approx(0.11)
    assert columns["energy_above_idle_wh_per_1k"] == pytest.approx(0.11 - 4 * 10 / 3600)
    assert columns["co2_g_per_1k"] == pytest.approx(0.11 / 1000 * 369.5)
    assert (columns["ram_wh_per_1k"], columns["gpu_wh_per_1k"]) == (pytest.approx(0.01), None)
    text = (tmp_path / "README.md").read_text()
    assert "| Wh/1k (measured) | Wh/1k above idle |" in text


def test_modelled_energy_has_no_column_above_idle(tmp_path: Path) -> None:
    write_record(*make_record("ref", [10.0], 0.9), tmp_path / "records")
    write_board(tmp_path)
    assert "above idle" not in (tmp_path / "README.md").read_text()
    assert get_figures(load_rows(tmp_path / "records")[0][0])["energy_above_idle_wh_per_1k"] is None


def test_example_of_a_custom_plot_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The code in docs/guides/read-results.md, as written."""
    text = (REPOSITORY / "docs" / "guides" / "read-results.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    golden_records(tmp_path / "results" / "records")
    monkeypatch.chdir(tmp_path)
    script = f"import matplotlib\nmatplotlib.use('svg')\n{code}"
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    plot = (tmp_path / "mine.svg").read_text()
    assert "<!-- onnx-int8 -->" in plot, "matplotlib keeps each text as a comment"


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
    columns = get_figures(section.rows[0])
    assert (columns["energy_wh_per_1k"], columns["co2_g_per_1k"]) == (None, None)
