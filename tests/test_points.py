"""Systems whose examples may leave early, from the manifest to the board."""

import json
from pathlib import Path

import pytest

from harness import chosen, record, usage
from harness.board.ranking import load_rows, sections
from harness.board.tables import frame, write_board
from harness.build import build, find_artifact
from harness.configuration import choose
from harness.manifest import System
from harness.tasks.task import task
from tests.conftest import declare
from tests.records import board, make
from tests.test_run import measure, systems
from tests.test_run import short_windows as short_windows

EXITS = """
[[step]]
use = "exits"
after = [0]
epochs = 1
transfer = false
[[step]]
use = "export"
[[step]]
use = "calibrate"
"""

SERVE = """
engine = "onnxruntime"
[serve.points]
soon = 0.3
never = "never"
"""


@pytest.fixture
def leaving(project: Path) -> list[System]:
    declare(project, EXITS, SERVE, "exits")
    both = project / "submissions" / "cascade" / "submission.toml"
    both.write_text(both.read_text().replace('"static", "fastformers"', '"tfidf-logreg", "exits"'))
    return systems(project, NAMES)


NAMES = ("minilm-l6", "minilm-l6-unpadded", "null", "tfidf-logreg", "exits", "cascade")


@pytest.mark.usefixtures("short_windows")
def test_points_are_measured_and_are_one_curve_on_the_board(
    project: Path, leaving: list[System]
) -> None:
    build(leaving, [task("sentiment")], choose("cpu-1"), project, say=lambda line: None)
    session = measure(project, 1, names=NAMES)
    records = project / "results" / "records" / session / "sentiment"
    found = {path.stem: record.read(path) for path in records.glob("offline/*.json")}
    assert {"exits", "exits@soon", "exits@never", "cascade", "cascade@p90"} <= set(found)
    assert not any(each.failure for each in found.values()), found
    count = len(task("sentiment").examples("validation"))
    for name in ("exits", "exits@soon", "cascade"):
        its = found[name].rounds[0]
        assert its.left is not None
        assert sum(its.left) == its.examples >= count
    assert found["exits@never"].rounds[0].left[0] == 0
    assert found["exits@soon"].rounds[0].left[0] > 0
    assert found["minilm-l6"].rounds[0].left is None
    single = record.read(records / "single_stream" / "exits@soon.json").rounds[0]
    assert sum(single.left or []) == single.examples
    artifact = find_artifact(leaving[-1], task("sentiment"), 0, project)
    assert artifact
    steps = [each["use"] for each in artifact.about["recipe"]]
    assert steps == ["tfidf-logreg", "finetune", "exits", "export", "calibrate", "cascade"]

    write_board(project / "results")
    text = (project / "results" / "README.md").read_text()
    assert "**Where examples leave**" in text
    assert "[exits@soon](" not in text, "a point is no row of its own"
    rows = json.loads((project / "results" / "leaderboard.json").read_text())
    points = [each["point"] for each in rows if each["system"] == "exits"]
    assert sorted(map(str, points)) == sorted(2 * ["None", "soon", "never"])

    measure(project, 2, session, names=NAMES)
    again = record.read(records / "offline" / "exits@soon.json")
    assert [each.block for each in again.rounds] == [1, 2]


def test_session_with_points_is_taken_up_by_its_systems(project: Path, tmp_path: Path) -> None:
    for name in ("ref", "exits", "exits@soon"):
        it, side = make(name, [1.0], 0.9)
        record.write(it, side, tmp_path / "records")
    options = usage.parser().parse_args(["run", "--resume", "s1", "--results", str(tmp_path)])
    chosen.take_up(options, project)
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
