"""All tasks of a suite together."""

from pathlib import Path

import pytest

from harness.leaderboard.board import load_board
from harness.leaderboard.columns import get_column, get_figures
from harness.leaderboard.markdown import render_leaderboard
from harness.leaderboard.page import render_page
from harness.leaderboard.ranking import load_sections
from harness.leaderboard.suites import find_measured_suites, format_suite_table
from harness.results.record import write_record
from tests.support.figures import table_rows
from tests.support.records import make_record

TASKS = ("sentiment", "privacyqa", "boolq")


def suite_tables(folder: Path, tasks: tuple[str, ...] = TASKS, **sessions: str) -> str:
    """Three systems on tasks of the suite `embedded`; `fast` is 4, 9 and 1 times as fast."""
    for task, factor, accuracy in zip(tasks, (4, 9, 1), (0.8, 0.9, 0.86), strict=False):
        times = [10.0, 11.0, 10.0, 9.0, 10.0]
        for name, seconds, score in (
            ("ref", times, 0.9),
            ("unpadded", [value / 2 for value in times], 0.9),
            ("fast", [value / factor for value in times], accuracy),
        ):
            record, side = make_record(name, seconds, score, session=sessions.get(task, "s1"))
            record.suite, record.task = "embedded", record.task | {"name": task}
            write_record(record, side, folder)
    suites = find_measured_suites(load_sections(folder)[0])
    return "\n".join(map(format_suite_table, suites))


def row_of(name: str, table: str) -> list[str]:
    return next(row for row in table_rows(table) if row[1] == name)


def test_score_is_the_mean_and_speedup_the_geometric_mean(tmp_path: Path) -> None:
    table = suite_tables(tmp_path)
    cells = row_of("fast", table)
    assert cells[3:7] == ["0.8533", "0.8000", "0.9000", "0.8600"]
    speed = (4 * 9 * 1) ** (1 / 3)
    assert float(cells[7].split("x")[0]) == pytest.approx(speed, rel=0.01)
    assert float(cells[8].split("x")[0]) == pytest.approx(speed / 2, rel=0.01)
    assert row_of("ref", table)[7] == "1.00x"


def test_system_below_the_floor_of_one_task_is_not_ranked(tmp_path: Path) -> None:
    table = suite_tables(tmp_path)
    assert row_of("fast", table)[0] == "-", "0.8 and 0.86 are below the floor of 0.88"
    assert {row_of(name, table)[0] for name in ("ref", "unpadded")} == {"1", "2"}


def test_tasks_of_several_sessions_are_combined_as_independent_ratios(tmp_path: Path) -> None:
    assert suite_tables(tmp_path / "few", TASKS[:1]) == ""
    one = row_of("fast", suite_tables(tmp_path / "together"))
    two = row_of("fast", suite_tables(tmp_path / "apart", boolq="s2"))
    assert one[3:7] == two[3:7]
    assert one[7].split("x")[0] == two[7].split("x")[0]


def write_task(
    folder: Path, task: str, session: str, times: dict[str, list[float]], cpu: str = "CPU"
) -> None:
    started = "2026-01-02T00:00:00Z" if session.startswith("b") else "2026-01-01T00:00:00Z"
    for name, seconds in times.items():
        record, side = make_record(
            name, seconds, 0.9, session=session, started=started, cpu=cpu, task=task
        )
        record.suite = "embedded"
        write_record(record, side, folder)


def test_ranks_of_several_sessions_need_more_than_sessions_differ_by(tmp_path: Path) -> None:
    """`fast` is 1.3 times as fast as the reference, and `slow`, of other sessions, 1.2 times."""
    times = [10.0, 11.0, 10.0, 9.0, 10.0]
    fast, slow = [value / 1.3 for value in times], [value / 1.2 for value in times]
    for number, task in enumerate(TASKS):
        write_task(tmp_path, task, f"a{number}", {"ref": times, "fast": fast})
        write_task(tmp_path, task, f"b{number}", {"ref": times, "slow": slow})
    (complete,) = find_measured_suites(load_board(tmp_path)[0])
    table = format_suite_table(complete)
    assert {name: row_of(name, table)[0] for name in ("fast", "slow", "ref")} == {
        **{"fast": "1", "slow": "1"},
        "ref": "2",  # slower than `slow`, which is of the same sessions
    }


def test_only_scores_of_several_machines_are_combined(tmp_path: Path) -> None:
    for task, cpu in zip(TASKS, ("one", "one", "two"), strict=True):
        times = {"ref": [10.0, 11.0], "fast": [5.0, 5.5]}
        write_task(tmp_path, task, f"a-{cpu}", times, cpu=cpu)
    (complete,) = find_measured_suites(load_board(tmp_path)[0])
    table = format_suite_table(complete)
    heading, *_ = table.splitlines()
    assert "mean score" in heading
    assert "speed-up" not in heading
    assert next(row for row in table_rows(table) if row[0] == "fast")[2] == "0.9000"
    text = render_leaderboard(load_board(tmp_path)[0], [])
    assert "<summary>All tasks of the suite embedded on 2 machines, reference ref</summary>" in text
    assert "cpu-2, one, 2 cores (avx2)" in text
    assert "cpu-2, two, 2 cores (avx2)" in text


def test_half_of_the_tasks_are_combined_and_the_others_named(tmp_path: Path) -> None:
    table = suite_tables(tmp_path, TASKS[:2])
    cells = row_of("fast", table)
    assert cells[3:6] == ["0.8500", "0.8000", "0.9000"]
    assert float(cells[6].split("x")[0]) == pytest.approx(6, rel=0.01)
    text = render_leaderboard(load_sections(tmp_path)[0], [])
    place = "cpu-2, CPU, 2 cores (avx2)"
    head = f"<summary>2 of 3 tasks of the suite embedded on {place}, reference ref</summary>"
    assert head in text
    assert "Not measured on this machine: boolq. `wattbench run --suite embedded` measures" in text


def test_incomplete_suite_has_the_scores_of_all_machines_and_the_speed_of_one(
    tmp_path: Path,
) -> None:
    machines = {"boolq": "one", "cb": "one", "copa": "one", "rte": "one", "multirc": "two"}
    for task, cpu in machines.items():
        times = {"ref": [10.0, 11.0], "fast": [5.0, 5.5]}
        write_task(tmp_path, task, f"a-{cpu}", times, cpu=cpu)
    together, largest = find_measured_suites(load_board(tmp_path)[0])
    assert together.heading.startswith("5 of 8 tasks of the suite superglue on 2 machines")
    assert together.missing == ["record", "wic", "wsc"]
    assert "speed-up" not in format_suite_table(together)
    assert largest.heading.startswith("4 of 8 tasks of the suite superglue on cpu-2, one")
    assert largest.missing == ["multirc", "record", "wic", "wsc"]
    assert "speed-up" in format_suite_table(largest)


def test_tasks_without_records_are_named(tmp_path: Path) -> None:
    for task in ("boolq", "cb", "copa", "rte"):
        write_task(tmp_path, task, "a", {"ref": [10.0, 11.0], "fast": [5.0, 5.5]})
    (measured,) = find_measured_suites(load_board(tmp_path)[0])
    assert measured.missing == ["multirc", "record", "wic", "wsc"]
    text = measured.describe_missing()
    assert text.startswith("Not measured on this machine: multirc, record, wic, wsc. ")


def test_leaderboard_has_the_suite_table(tmp_path: Path) -> None:
    suite_tables(tmp_path)
    text = render_leaderboard(load_sections(tmp_path)[0], [])
    place = "cpu-2, CPU, 2 cores (avx2)"
    assert f"<summary>All tasks of the suite embedded on {place}, reference ref</summary>" in text
    assert "as in SuperGLUE" in text


def test_score_is_shown_with_its_parts(tmp_path: Path) -> None:
    record, side = make_record("ref", [1.0, 1.1], 0.9)
    record.task["metric"] = "accuracy+macro-f1"
    record.score |= {"parts": {"accuracy": 0.92, "macro-F1": 0.88}}
    write_record(record, side, tmp_path)
    text = render_leaderboard(load_sections(tmp_path)[0], [])
    assert "0.9000 ± 0.0100 (0.9200 / 0.8800)" in text
    assert "(mean of accuracy and macro-F1)" in text


def test_build_cost_is_the_sum_over_all_steps(tmp_path: Path) -> None:
    """The steps of the teacher included."""
    write_record(*make_record("ref", [1.0, 1.1], 0.9), tmp_path)
    sections, _ = load_sections(tmp_path)
    row = sections[0].rows[0]
    assert get_figures(row)["build_seconds"] == 96.0
    assert get_figures(row)["build_cpu_seconds"] == 186.0
    assert get_figures(row)["build_wh"] == pytest.approx(0.21)
    assert get_column("build_cpu_seconds").text(row) == "3.10", "minutes"
    assert "3.10 CPU-minutes, 0.210 Wh" in render_page(sections)
