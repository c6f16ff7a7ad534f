"""Systems whose examples may leave early, from the manifest to the board."""

import json
from pathlib import Path

from harness.reports.results_folder import write_board
from harness.results import record
from harness.submissions.plan import plan_system
from harness.tasks.task import Task
from tests.support.systems import (
    build_all,
    load_systems,
    measure,
    offline_records,
    write_early_exit_submissions,
)

NAMES = ("minilm-l6", "minilm-l6-unpadded", "null", "tfidf-logreg", "exits", "cascade")


def test_points_are_measured_and_are_one_curve_on_the_board(
    built_project: Path, reviews: Task
) -> None:
    write_early_exit_submissions(built_project)
    build_all(built_project, NAMES, reviews)
    session = measure(built_project, NAMES, reviews)
    records = offline_records(built_project, session)
    assert {"exits", "exits@soon", "exits@never", "cascade", "cascade@p90"} <= set(records)
    assert not any(record.failure for record in records.values()), records
    for name in ("exits", "exits@soon", "cascade"):
        window = records[name].rounds[0]
        assert window.left is not None
        assert sum(window.left) == window.examples >= 100
    left = {name: records[name].rounds[0].left for name in records}
    assert (left["exits@never"] or [1])[0] == 0
    assert (left["exits@soon"] or [0])[0] > 0
    assert left["minilm-l6"] is None
    folder = built_project / "results" / "records" / session / "reviews"
    single = record.read_record(folder / "single_stream" / "exits@soon.json").rounds[0]
    assert sum(single.left or []) == single.examples
    artifact = plan_system(load_systems(built_project, ["cascade"])[0], reviews, 0).find_artifact()
    assert artifact
    steps = [step["use"] for step in artifact.metadata.recipe]
    assert steps == ["tfidf-logreg", "finetune", "exits", "export", "calibrate", "cascade"]

    write_board(built_project / "results")
    text = (built_project / "results" / "README.md").read_text()
    assert "| exits |" in text
    assert "| exits@soon |" not in text, "a point is no row of its own"
    rows = json.loads((built_project / "results" / "leaderboard.json").read_text())
    points = [row["point"] for row in rows if row["system"] == "exits"]
    assert sorted(map(str, points)) == sorted(2 * ["None", "soon", "never"])

    measure(built_project, NAMES, reviews, session, blocks=2)
    again = record.read_record(folder / "offline" / "exits@soon.json")
    assert [window.block for window in again.rounds] == [1, 2]
