from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.leaderboard.ranking import load_sections
from harness.reports.ladder import ladder, ladders
from harness.reports.results_folder import write_board
from harness.results import record
from harness.tasks.registry import get_suite
from harness.tasks.suites import Suite
from tests.support.records import golden_records, make


def short(*names: str) -> Suite:
    return replace(get_suite("quick"), ladder=names)


def cells(table: str) -> dict[str, list[str]]:
    lines = [line for line in table.splitlines() if line.startswith("|")][2:]
    split = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {line[0]: line[1:] for line in split}


def test_each_rung_is_compared_with_the_first_and_with_the_one_before(tmp_path: Path) -> None:
    golden_records(tmp_path)
    shown, _ = load_sections(tmp_path, "s1")
    found = cells(ladder(shown, short("minilm-l6", "minilm-l6-unpadded", "small"), "github"))
    assert list(found) == ["minilm-l6", "minilm-l6-unpadded", "small"]
    # 1,000 examples in about 10, 4 and 0.5 seconds
    assert [float(line[0]) for line in found.values()] == pytest.approx([10.2, 4.04, 0.5], rel=0.02)
    assert found["minilm-l6"][1:3] == ["1.00x", "-"]
    assert found["minilm-l6-unpadded"][1] == found["minilm-l6-unpadded"][2]
    assert found["small"][1].startswith("20.4x [")
    assert found["small"][2].startswith("8.08x [")
    assert found["small"][3].startswith("20.4x [")
    assert found["small"][4] == "0.7000 below the floor"


def test_whole_set_at_a_price_is_the_papers_formula(tmp_path: Path) -> None:
    """Kim & Hassan (2020), Table 3, on another machine: USD an hour / 3600 x s / examples x 1e8."""
    golden_records(tmp_path)
    found = cells(ladder(load_sections(tmp_path, "s1")[0], short("minilm-l6", "small"), "github"))
    assert float(found["small"][5]) == pytest.approx(0.0846 / 3600 * 0.5 / 1000 * 1e8, rel=0.02)


def test_ladder_that_no_session_holds_names_the_command(tmp_path: Path) -> None:
    golden_records(tmp_path)
    shown, _ = load_sections(tmp_path, "s1")
    with pytest.raises(HarnessError, match="bench --suite quick --ladder"):
        ladder(shown, short("minilm-l6", "dead"), "github")
    without = [replace(each, rows=each.rows[:3]) for each in shown]
    assert ladders(without, "github") == ""


def test_board_holds_the_ladder_where_a_session_does(tmp_path: Path) -> None:
    for name in get_suite("quick").ladder:
        record.write_record(*make(name, [1.0, 1.1], 0.9), tmp_path / "records")
    write_board(tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert "## The ladder" in text
    assert list(cells(text.partition("## The ladder")[2])) == list(get_suite("quick").ladder)
