"""Systems whose examples may leave early, from the manifest to the board."""

from pathlib import Path

from harness.cli import selection, usage
from harness.leaderboard.ranking import load_rows, sections
from harness.leaderboard.tables import frame
from harness.results import record
from tests.support.records import board, make


def test_session_with_points_is_taken_up_by_its_systems(project: Path, tmp_path: Path) -> None:
    for name in ("ref", "exits", "exits@soon"):
        it, side = make(name, [1.0], 0.9)
        record.write_record(it, side, tmp_path / "records")
    options = usage.parser().parse_args(["run", "--resume", "s1", "--results", str(tmp_path)])
    selection.take_up(options, project)
    assert options.system == ["exits", "ref"]


def test_points_take_no_rank_and_push_nobody_down(tmp_path: Path) -> None:
    point = make("fast@soon", [1.0, 1.01, 0.99], 0.9)
    point[0].system["point"] = "soon"
    rows = board(tmp_path, make("ref", [10] * 3, 0.9), make("fast", [2, 2.01, 1.99], 0.9), point)
    assert rows["fast"].rank == 1
    assert rows["fast@soon"].rank is None
    assert rows["fast@soon"].qualified
    assert rows["fast@soon"].curve == "fast"
    table = frame(sections(load_rows(tmp_path / "records")[0]))
    assert sorted(table[table.system == "fast"].point.fillna("-")) == ["-", "soon"]
