"""Several training seeds: from the command to the board."""

from pathlib import Path

import pandas
import pytest

from harness.leaderboard.ranking import load_sections
from harness.runner.session import expand_systems
from harness.submissions.plan import is_trained
from harness.tasks.registry import get_task
from tests.support.records import golden_records
from tests.support.systems import systems


def test_only_what_is_trained_has_seeds(project: Path) -> None:
    known = systems(project, ("minilm-l6", "onnx-int8", "null"))
    assert [is_trained(each, get_task("sentiment"), project) for each in known] == [
        True,
        True,
        False,
    ]
    found = expand_systems(known, [get_task("sentiment")], project, 5, 3)
    assert [each.name for each, _ in found] == [
        *("minilm-l6", "onnx-int8", "null"),
        *("minilm-l6@seed6", "onnx-int8@seed6", "minilm-l6@seed7", "onnx-int8@seed7"),
    ]
    assert [each.seed for each, _ in found] == [None, None, None, 6, 6, 7, 7]


def test_spread_over_seeds_is_shown_and_takes_no_rank(tmp_path: Path) -> None:
    golden_records(tmp_path)
    section = next(each for each in load_sections(tmp_path, "s1")[0] if each.scenario == "offline")
    rows = {row.name: row for row in section.rows}
    own = rows["fastformers"]
    assert [row.name for row in own.seeds] == [
        "fastformers",
        "fastformers@seed1",
        "fastformers@seed2",
    ]
    scores = pandas.Series([0.888, 0.893, 0.88])
    assert own.seed_scores == pytest.approx((scores.mean(), scores.std()))
    assert rows["fastformers@seed1"].rank is None
    assert "fastformers@seed1" not in [row.name for row in section.systems]
    assert own.columns()["seeds"] == 3
    assert own.columns()["command"].endswith("--seeds 3")
    assert rows["small"].seeds == []


def test_break_even_is_what_building_took_over_what_a_request_saves(tmp_path: Path) -> None:
    """186 CPU-seconds to build, 180 of them the reference's; 4.04 - 0.3 ms saved by a request."""
    golden_records(tmp_path)
    section = next(each for each in load_sections(tmp_path, "s1")[0] if each.scenario == "offline")
    rows = {row.name: row for row in section.rows}
    assert rows["fastformers"].break_even == pytest.approx(6.0 / (0.00404 - 0.0003))
    assert rows["minilm-l6"].break_even == float("inf")
    assert rows["minilm-l6-unpadded"].break_even is None
    measured = next(each for each in load_sections(tmp_path, "s2")[0])
    fast = next(row for row in measured.rows if row.name == "onnx-int8")
    # 0.21 Wh to build; 0.011 Wh a second where energy is measured
    other = next(row for row in measured.rows if row.name == "minilm-l6-unpadded")
    saved = 0.011 * (1 / other.throughput - 1 / fast.throughput)
    built = fast.columns()["build_wh"] - other.columns()["build_wh"]
    assert fast.break_even == pytest.approx(built / saved, abs=1e-9)
