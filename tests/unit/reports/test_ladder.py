from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.leaderboard.ranking import load_sections
from harness.reports.ladder import render_ladder, render_ladders
from harness.reports.results_folder import write_board
from harness.results.record import write_record
from harness.tasks.registry import get_suite
from harness.tasks.suites import Suite
from tests.support.figures import table_rows
from tests.support.records import golden_records, make_record


def suite_with_ladder(*names: str) -> Suite:
    return replace(get_suite("quick"), ladder=names)


def cells_by_system(table: str) -> dict[str, list[str]]:
    return {system: cells for system, *cells in table_rows(table)}


def test_each_system_is_compared_with_the_first_and_with_the_one_before(tmp_path: Path) -> None:
    golden_records(tmp_path)
    sections, _ = load_sections(tmp_path, "s1")
    rows = cells_by_system(
        render_ladder(sections, suite_with_ladder("minilm-l6", "minilm-l6-unpadded", "small"))
    )
    assert list(rows) == ["minilm-l6", "minilm-l6-unpadded", "small"]
    # 1,000 examples in about 10, 4 and 0.5 seconds
    assert [float(line[0]) for line in rows.values()] == pytest.approx([10.2, 4.04, 0.5], rel=0.02)
    assert rows["minilm-l6"][1:3] == ["1.00x", "-"]
    assert rows["minilm-l6-unpadded"][1] == rows["minilm-l6-unpadded"][2]
    assert rows["small"][1].startswith("20.4x [")
    assert rows["small"][2].startswith("8.08x [")
    assert rows["small"][3].startswith("20.4x [")
    assert rows["small"][4] == "0.7000 below the floor"


def test_price_follows_the_formula_of_the_paper(tmp_path: Path) -> None:
    """Kim & Hassan (2020), Table 3: USD per hour / 3600 x seconds / examples x 1e8."""
    golden_records(tmp_path)
    rows = cells_by_system(
        render_ladder(load_sections(tmp_path, "s1")[0], suite_with_ladder("minilm-l6", "small"))
    )
    assert float(rows["small"][5]) == pytest.approx(0.0846 / 3600 * 0.5 / 1000 * 1e8, rel=0.02)


def test_incomplete_ladder_names_the_command_to_run(tmp_path: Path) -> None:
    golden_records(tmp_path)
    sections, _ = load_sections(tmp_path, "s1")
    with pytest.raises(HarnessError, match="bench --suite quick --ladder"):
        render_ladder(sections, suite_with_ladder("minilm-l6", "dead"))
    incomplete = [replace(section, rows=section.rows[:3]) for section in sections]
    assert render_ladders(incomplete) == ""


def test_leaderboard_has_the_ladder_if_a_session_has_all_systems(tmp_path: Path) -> None:
    for name in get_suite("quick").ladder:
        write_record(*make_record(name, [1.0, 1.1], 0.9), tmp_path / "records")
    write_board(tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert "## The ladder" in text
    assert list(cells_by_system(text.partition("## The ladder")[2])) == list(
        get_suite("quick").ladder
    )
