"""Which systems of a session are measured at their operating points."""

from pathlib import Path

import pytest

from harness.cli.options import SessionOptions
from harness.cli.resolve import make_session_plan
from tests.support.systems import REPOSITORY


@pytest.mark.parametrize(
    ("options", "has_points"),
    [
        (SessionOptions(), False),
        (SessionOptions(systems=["cascade"]), True),
        (SessionOptions(systems=["fastformers"]), False),
        (SessionOptions(all_systems=True), True),
    ],
)
def test_points_come_with_all_and_with_systems_that_are_named(
    tmp_path: Path, options: SessionOptions, has_points: bool
) -> None:
    plan, _ = make_session_plan(options, REPOSITORY, tmp_path)
    names = {planned.system.name for planned in plan.systems}
    assert ("cascade@p90" in names) is has_points


@pytest.mark.parametrize("rows", [["cascade"], ["cascade", "cascade@p90"], ["cascade@seed1"]])
def test_resumed_session_has_the_points_that_it_had(tmp_path: Path, rows: list[str]) -> None:
    folder = tmp_path / "records" / "s1" / "sentiment" / "offline"
    folder.mkdir(parents=True)
    for name in rows:
        (folder / f"{name}.json").write_text("{}")
    options = SessionOptions(systems=["cascade"], resume="s1")
    plan, _ = make_session_plan(options, REPOSITORY, tmp_path, "s1")
    names = {planned.system.name for planned in plan.systems}
    assert ("cascade@p90" in names) is ("cascade@p90" in rows)


def test_default_systems_show_what_the_project_is_about(tmp_path: Path) -> None:
    plan, _ = make_session_plan(SessionOptions(), REPOSITORY, tmp_path)
    assert {planned.system.name for planned in plan.systems} == {
        *("minilm-l6", "minilm-l6-unpadded", "minilm-l6-batched", "majority", "tfidf-logreg"),
        *("null", "onnx-int8", "closed-int8", "fastformers", "static", "cascade"),
    }
