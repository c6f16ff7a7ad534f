"""A suite as a whole."""

from pathlib import Path

import pytest

from harness.leaderboard.ranking import load_rows, sections
from harness.leaderboard.suites import suite_table, whole
from harness.leaderboard.tables import markdown
from harness.results import record
from tests.support.records import make

TASKS = ("sentiment", "privacyqa", "boolq")


def measured(folder: Path, tasks: tuple[str, ...] = TASKS, **sessions: str) -> str:
    """Three systems on some tasks of the suite `embedded`; `quick` is 4, 9 and 1 times as fast."""
    for task, factor, right in zip(tasks, (4, 9, 1), (0.8, 0.9, 0.86), strict=False):
        times = [10.0, 11.0, 10.0, 9.0, 10.0]
        for name, seconds, score in (
            ("ref", times, 0.9),
            ("unpadded", [each / 2 for each in times], 0.9),
            ("fast", [each / factor for each in times], right),
        ):
            it, side = make(name, seconds, score, session=sessions.get(task, "s1"))
            it.suite, it.task = "embedded", it.task | {"name": task}
            record.write_record(it, side, folder)
    found = sections(load_rows(folder)[0])
    tables = [suite_table(each, "github") for each in whole(found).values()]
    return "\n".join(tables)


def line(table: str, name: str) -> list[str]:
    cells = ([cell.strip() for cell in row.strip("|").split("|")] for row in table.splitlines())
    return next(each for each in cells if each[1:2] == [name])


def test_score_is_the_mean_and_speed_the_geometric_mean(tmp_path: Path) -> None:
    table = measured(tmp_path)
    cells = line(table, "fast")
    assert cells[3:7] == ["0.8533", "0.8000", "0.9000", "0.8600"]
    speed = (4 * 9 * 1) ** (1 / 3)
    assert float(cells[7].split("x")[0]) == pytest.approx(speed, rel=0.01)
    assert float(cells[8].split("x")[0]) == pytest.approx(speed / 2, rel=0.01)
    assert line(table, "ref")[7] == "1.00x"


def test_a_system_below_the_floor_of_one_task_has_no_rank(tmp_path: Path) -> None:
    table = measured(tmp_path)
    assert line(table, "fast")[0] == "-", "0.8 and 0.86 are below the floor of 0.88"
    assert {line(table, name)[0] for name in ("ref", "unpadded")} == {"1", "2"}


def test_only_a_session_with_all_tasks_counts(tmp_path: Path) -> None:
    assert measured(tmp_path / "few", TASKS[:2]) == ""
    assert measured(tmp_path / "apart", boolq="s2") == ""


def test_board_has_the_table(tmp_path: Path) -> None:
    measured(tmp_path)
    found = sections(load_rows(tmp_path)[0])
    text = markdown(found, [])
    assert "## The suite embedded as a whole, session s1" in text
    assert "as in SuperGLUE" in text


def test_parts_of_a_score_stand_beside_it(tmp_path: Path) -> None:
    it, side = make("ref", [1.0, 1.1], 0.9)
    it.task["metric"] = "accuracy+macro-f1"
    it.score |= {"parts": {"accuracy": 0.92, "macro-F1": 0.88}}
    record.write_record(it, side, tmp_path)
    text = markdown(sections(load_rows(tmp_path)[0]), [])
    assert "0.9000 ± 0.0100 (0.9200 / 0.8800)" in text
    assert "(mean of accuracy and macro-F1)" in text


def test_building_has_its_price(tmp_path: Path) -> None:
    """The sum over all steps, those of the teacher among them."""
    record.write_record(*make("ref", [1.0, 1.1], 0.9), tmp_path)
    row = sections(load_rows(tmp_path)[0])[0].rows[0]
    assert row.columns()["build_seconds"] == 96.0
    assert row.columns()["build_cpu_seconds"] == 186.0
    assert row.columns()["build_wh"] == pytest.approx(0.21)
    text = markdown(sections(load_rows(tmp_path)[0]), [])
    assert "**Building, carrying and loading**" in text
    assert "| 3.10 " in text, "minutes"
