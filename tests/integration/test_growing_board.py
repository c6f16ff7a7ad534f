"""Somebody measures a submission of their own: all earlier rows stay on the board."""

import shutil
from pathlib import Path

from harness.leaderboard.board import load_board
from harness.submissions.staleness import StalenessCheck
from harness.tasks.task import Task
from tests.support.systems import measure


def test_row_of_a_later_session_stands_among_those_of_an_earlier_one(
    project: Path, reviews: Task
) -> None:
    shutil.copytree(project / "baselines" / "null", project / "baselines" / "older")
    first = measure(project, ["null", "older"], reviews)
    shutil.copytree(project / "baselines" / "null", project / "submissions" / "my-idea")
    second = measure(project, ["null", "my-idea"], reviews)
    sections, faults = load_board(
        project / "results" / "records", StalenessCheck(project).find_state
    )
    assert faults == []
    assert [section.scenario for section in sections] == ["offline", "single_stream"]
    for section in sections:
        rows = {row.name: (row.record.session, row.state.name) for row in section.rows}
        assert rows == {
            "older": (first, "current"),
            "null": (second, "current"),
            "my-idea": (second, "current"),
        }
