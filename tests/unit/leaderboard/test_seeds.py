"""Several training seeds, from the session to the leaderboard."""

from pathlib import Path

import pandas
import pytest

from harness.leaderboard.columns import get_figures
from harness.leaderboard.ranking import Section, load_sections
from harness.submissions.plan import make_plan, plan_system
from harness.tasks.registry import get_task
from tests.support.records import golden_records
from tests.support.systems import load_systems


def offline_section(records: Path) -> Section:
    sections, _ = load_sections(records, "s1")
    (offline,) = (section for section in sections if section.scenario == "offline")
    return offline


def test_only_trained_systems_have_seeds(project: Path) -> None:
    known = load_systems(project, ("minilm-l6", "onnx-int8", "null"))
    task = get_task("sentiment")
    trained = [plan_system(system, task, 0).is_trained for system in known]
    assert trained == [True, True, False]
    planned = make_plan(known, [task], seed=5, seeds=3).systems
    assert [row.system.name for row in planned] == [
        *("minilm-l6", "onnx-int8", "null"),
        *("minilm-l6@seed6", "onnx-int8@seed6", "minilm-l6@seed7", "onnx-int8@seed7"),
    ]
    assert [row.system.seed for row in planned] == [None, None, None, 6, 6, 7, 7]
    assert [row.seed for row in planned] == [5, 5, 5, 6, 6, 7, 7]


def test_scores_of_all_seeds_are_summarized_and_only_the_main_row_is_ranked(tmp_path: Path) -> None:
    golden_records(tmp_path)
    section = offline_section(tmp_path)
    rows = {row.name: row for row in section.rows}
    main = rows["fastformers"]
    assert [row.name for row in main.seed_rows] == [
        "fastformers",
        "fastformers@seed1",
        "fastformers@seed2",
    ]
    scores = pandas.Series([0.888, 0.893, 0.88])
    assert main.seed_scores == pytest.approx((scores.mean(), scores.std()))
    assert rows["fastformers@seed1"].rank is None
    assert "fastformers@seed1" not in [row.name for row in section.system_rows]
    assert get_figures(main)["seeds"] == 3
    assert get_figures(main)["command"].endswith("--seeds 3")
    assert rows["small"].seed_rows == []


def test_break_even_is_the_build_cost_over_the_saving_of_a_request(tmp_path: Path) -> None:
    """186 CPU-seconds to build, 180 for the reference; a request takes 0.3 instead of 4.04 ms."""
    golden_records(tmp_path)
    section = offline_section(tmp_path)
    rows = {row.name: row for row in section.rows}
    assert rows["fastformers"].break_even == pytest.approx(6.0 / (0.00404 - 0.0003))
    assert rows["minilm-l6"].break_even == float("inf")
    assert rows["minilm-l6-unpadded"].break_even is None
    # energy is measured: 0.21 Wh to build, 0.011 Wh per second
    measured = load_sections(tmp_path, "s2")[0][0].measured_rows
    fast, reference = measured["onnx-int8"], measured["minilm-l6-unpadded"]
    saved = 0.011 * (1 / reference.throughput - 1 / fast.throughput)
    build = get_figures(fast)["build_wh"] - get_figures(reference)["build_wh"]
    assert fast.break_even == pytest.approx(build / saved, abs=1e-9)
