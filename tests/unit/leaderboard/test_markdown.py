"""`results/README.md`: a short table first, complete ones folded below it, controls last."""

import csv
import json
import re
from pathlib import Path

import pytest

from harness.leaderboard.board import load_board
from harness.leaderboard.formatting import compact_table, format_rows
from harness.leaderboard.ranking import Section, load_sections
from harness.leaderboard.section import choose_main_section
from harness.reports.results_folder import write_board
from harness.results.record import write_record
from tests.support.figures import table_rows
from tests.support.records import make_record, rows_by_name
from tests.support.systems import REPOSITORY

COMMITTED = REPOSITORY / "results"
CONTROLS = {"null", "majority"}


def write_results(folder: Path, **scores: float) -> str:
    """Render records of systems with these scores; the more recent a name, the faster it is."""
    for index, (name, score) in enumerate({"ref": 0.9, **scores}.items()):
        times = [10 / 2**index * noise for noise in (1, 1.01, 0.99)]
        write_record(*make_record(name, times, score), folder / "records")
    write_board(folder)
    return (folder / "README.md").read_text()


def first_column(table: str) -> list[str]:
    return [row[0] for row in table_rows(table)]


def test_first_table_has_eight_columns_and_only_systems_above_the_floor(tmp_path: Path) -> None:
    text = write_results(tmp_path, fast=0.9, bad=0.7, majority=0.5)
    rows = table_rows(text.partition("![Score")[0])
    assert [row[0] for row in rows] == ["fast", "ref"]
    assert {len(row) for row in rows} == {8}
    folded = text.partition("<summary>sentiment")[2]
    assert first_column(folded) == ["fast", "ref", "bad", "controls:", "majority"]


def test_first_table_is_of_the_latest_session_of_the_main_task_on_a_cpu(tmp_path: Path) -> None:
    for session, task, started in (
        ("old", "sentiment", "2026-01-01"),
        ("new", "sentiment", "2026-01-02"),
        ("other", "boolq", "2026-01-03"),
        ("gpu", "sentiment", "2026-01-04"),
    ):
        record, side = make_record("ref", [1.0], 0.9, session=session, task=task, started=started)
        record.machine["cpu"] = session  # each on a machine of its own
        if session == "gpu":
            record.machine["gpu"] = {"name": "GPU", "memory_gb": 80.0, "driver": "1"}
        write_record(record, side, tmp_path)
    main = choose_main_section(load_sections(tmp_path)[0])
    assert main
    assert main.session == "new"


@pytest.fixture(scope="module")
def committed() -> list[Section]:
    """The sections of the committed leaderboard."""
    return load_board(COMMITTED / "records", lambda row: "")[0]


@pytest.mark.parametrize(
    ("name", "scenarios"),
    [("README.md", ("offline", "single_stream", "server")), ("energy-report.md", ("offline",))],
)
def test_controls_are_last_and_apart_in_every_table(
    name: str, scenarios: tuple[str, ...], committed: list[Section]
) -> None:
    """In a table of nothing but controls, of a task that no system learns, they are not apart."""
    others = {
        row.base_name
        for section in committed
        for row in section.rows
        if row.is_control and row.base_name not in CONTROLS
    }
    without = [
        section
        for section in committed
        if section.scenario in scenarios and all(row.is_control for row in section.rows)
    ]
    tables = re.findall(r"(?:^\|.*\n)+", (COMMITTED / name).read_text(), re.M)
    complete = [table for table in tables if "| null " in table and table.startswith("| system")]
    apart = [table for table in complete if "| controls: " in table]
    assert len(complete) > 4
    assert len(complete) - len(apart) == len(without)
    for table in apart:
        systems, controls = re.split(r"\| controls: .*\n", table)
        assert not CONTROLS & set(first_column(systems))
        assert set(first_column(f"|---|\n{controls}")) <= CONTROLS | others


@pytest.mark.parametrize("name", ["leaderboard.csv", "energy-report.csv"])
def test_controls_are_the_last_rows_of_a_section_in_csv(
    name: str, committed: list[Section]
) -> None:
    known = {
        (row.record.session, row.record.task["name"], row.name)
        for section in committed
        for row in section.rows
        if row.is_control
    }
    places: dict[tuple[str, ...], list[bool]] = {}
    with (COMMITTED / name).open() as file:
        for line in csv.DictReader(file):
            place = line["session"], line["task"], line.get("scenario", "")
            is_control = (line["session"], line["task"], line["system"]) in known
            places.setdefault(place, []).append(is_control)
    for controls in places.values():
        assert controls == sorted(controls)
        assert any(controls)


@pytest.mark.parametrize(
    ("name", "score", "is_control"),
    [("null", 0.9, True), ("constant", 0.5, True), ("worse", 0.4, True), ("weak", 0.51, False)],
)
def test_control_is_the_null_system_or_not_above_the_majority_class(
    tmp_path: Path, name: str, score: float, is_control: bool
) -> None:
    rows = rows_by_name(tmp_path, make_record("ref", [1.0], 0.9), make_record(name, [1.0], score))
    assert rows[name].is_control is is_control
    assert not rows["ref"].is_control


def test_table_of_controls_alone_has_no_separate_line() -> None:
    assert "controls:" not in format_rows([(True, {"system": "null"})])


def test_compact_table_has_the_same_cells() -> None:
    table = format_rows([(False, {"system": "a -- b", "score": "1"}), (True, {"system": "c"})])
    assert table_rows(compact_table(table)) == table_rows(table)
    assert "  " not in compact_table(table)


def test_file_is_short_and_everything_is_folded_below_the_first_table() -> None:
    text = (COMMITTED / "README.md").read_text()
    outside = re.sub(r"<details>.*?</details>", "", text, flags=re.S)
    assert len(outside.encode()) < 8_000
    assert len(re.findall(r"(?m)^\|-", outside)) == 1
    assert text.count("<details>") == text.count("</details>")


def test_text_of_a_record_never_becomes_markup(tmp_path: Path) -> None:
    record, side = make_record("ref", [1.0], 0.9, cpu="A & B <b>|")
    write_record(record, side, tmp_path / "records")
    record, side = make_record("dead", [], 0.5, cpu="A & B <b>|")
    record.score, record.failure = None, {"reason": "</details>\n| <script>", "stderr": ""}
    write_record(record, side | {"answers": []}, tmp_path / "records")
    write_board(tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert "<summary>sentiment on cpu-2, A &amp; B &lt;b&gt;|, 2 cores (avx2)</summary>" in text
    assert "- dead failed: &lt;/details> \\| &lt;script>\n" in text
    assert text.count("</details>") == text.count("<details>")


def test_json_keeps_the_digits_of_very_small_figures(tmp_path: Path) -> None:
    record, side = make_record("ref", [1.0, 1.0], 0.9)
    for window in record.rounds:
        window.energy = {"cpu_wh": 2.1e-9}
    write_record(record, side, tmp_path / "records")
    write_board(tmp_path)
    (line,) = json.loads((tmp_path / "leaderboard.json").read_text())
    with (tmp_path / "leaderboard.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert line["energy_wh_per_1k"] == float(row["energy_wh_per_1k"]) == 2.1e-9
    assert line["gpu_wh_per_1k"] is None
