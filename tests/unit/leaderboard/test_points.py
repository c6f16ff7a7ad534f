"""Operating points of systems with early exits on the leaderboard."""

from pathlib import Path

from harness.cli.options import SessionOptions
from harness.cli.resolve import restore_options
from harness.leaderboard.ranking import load_sections
from harness.leaderboard.tables import build_frame
from harness.results.record import write_record
from tests.support.records import make_record, rows_by_name


def test_session_with_points_is_resumed_by_its_systems(project: Path, tmp_path: Path) -> None:
    for name in ("ref", "exits", "exits@soon"):
        record, side = make_record(name, [1.0], 0.9)
        write_record(record, side, tmp_path / "records")
    options = restore_options(SessionOptions(resume="s1", results=str(tmp_path)), project)
    assert options.systems == ["exits", "ref"]


def test_points_are_not_ranked_and_lower_no_rank(tmp_path: Path) -> None:
    point = make_record("fast@soon", [1.0, 1.01, 0.99], 0.9)
    point[0].system["point"] = "soon"
    rows = rows_by_name(
        tmp_path,
        make_record("ref", [10] * 3, 0.9),
        make_record("fast", [2, 2.01, 1.99], 0.9),
        point,
    )
    assert rows["fast"].rank == 1
    assert rows["fast@soon"].rank is None
    assert rows["fast@soon"].qualified
    assert rows["fast@soon"].base_name == "fast"
    table = build_frame(load_sections(tmp_path / "records")[0])
    assert sorted(table[table.system == "fast"].point.fillna("-")) == ["-", "soon"]
