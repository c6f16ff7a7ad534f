"""Which rows share an accuracy pass, and how many answers must agree with it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scipy import stats as scipy_stats

from harness.errors import WorkerError
from harness.loadgen.scenarios import Window
from harness.results.statistics import binomial_p_value
from harness.runner.accuracy import CHECK_EXAMPLES, ScoredRow, group_rows
from harness.runner.evaluate import check_agreement
from harness.runner.system_run import EXACT_AGREEMENT, QUANTIZED_AGREEMENT, SystemRun
from harness.submissions.plan import make_plan
from harness.submissions.system import System
from harness.tasks.registry import get_task
from tests.support.systems import copy_example, load_systems, write_early_exit_submissions


def group_names(project: Path, names: tuple[str, ...], seeds: int = 1) -> list[list[str]]:
    """Return the names of the rows that share a pass, the one that runs it first."""
    plan = make_plan(load_systems(project, names), [get_task("sentiment")], seeds=seeds)
    groups = group_rows(
        [ScoredRow(row.system, row.task, row.key, row.system.spec.dtype) for row in plan.systems]
    )
    return [[plan.systems[index].system.name for index in group] for group in groups]


def test_rows_of_one_artifact_share_the_pass_of_the_row_with_the_fastest_batches(
    project: Path,
) -> None:
    names = ("minilm-l6", "minilm-l6-unpadded", "minilm-l6-batched", "onnx-int8", "null")
    assert group_names(project, names) == [
        ["minilm-l6-batched", "minilm-l6-unpadded", "minilm-l6"],
        ["onnx-int8"],
        ["null"],
    ]
    assert group_names(project, names[:2]) == [["minilm-l6-unpadded", "minilm-l6"]]


def test_operating_points_and_other_seeds_have_passes_of_their_own(project: Path) -> None:
    write_early_exit_submissions(project)
    assert group_names(project, ("exits",)) == [["exits"], ["exits@soon"], ["exits@never"]]
    rows = group_names(project, ("minilm-l6", "minilm-l6-unpadded"), seeds=2)
    assert sorted(map(sorted, rows)) == [
        ["minilm-l6", "minilm-l6-unpadded"],
        ["minilm-l6-unpadded@seed1", "minilm-l6@seed1"],
    ]


def test_custom_code_shares_its_answers_with_no_other_row(project: Path) -> None:
    copy_example(project)
    copy_example(project, copy="copy")
    assert group_names(project, ("custom-module", "copy")) == [["custom-module"], ["copy"]]


def change_serve(system: System, **values: Any) -> System:
    serve = {name: replace(serve, **values) for name, serve in system.serve.items()}
    return replace(system, serve=serve)


@pytest.mark.parametrize(
    ("dtype", "values", "passes"),
    [
        ("fp32", {"padding": "max"}, 1),
        ("int8", {"padding": "max"}, 2),
        ("fp32", {"batch": 8, "order": "by-length", "tokens": 512}, 1),
        ("int8", {"batch": 8}, 2),
        ("int8", {"instances": "per-core", "spin": False}, 1),
        ("fp32", {"threshold": 0.5}, 2),
        ("fp32", {"engine": "openvino"}, 2),
        ("fp32", {"compile": True}, 2),
    ],
)
def test_only_settings_that_decide_no_answer_are_left_out_of_the_comparison(
    project: Path, dtype: str, values: dict[str, Any], passes: int
) -> None:
    (system,) = load_systems(project, ("onnx-fp32",))
    row = ScoredRow(system, get_task("sentiment"), "k", dtype)
    other = row._replace(system=change_serve(system, **values))
    assert len(group_rows([row, other])) == passes


AGREEMENTS = [
    (EXACT_AGREEMENT, CHECK_EXAMPLES, 1),
    (QUANTIZED_AGREEMENT, CHECK_EXAMPLES, 3),
    (EXACT_AGREEMENT, 3, 0),
    (QUANTIZED_AGREEMENT, 3, 1),
    (EXACT_AGREEMENT, 2000, 6),
    (QUANTIZED_AGREEMENT, 2000, 31),
]


@pytest.mark.parametrize(("required", "count", "allowed"), AGREEMENTS)
def test_answers_may_differ_as_often_as_chance_explains(
    required: float, count: int, allowed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SystemRun, "required_agreement", required)
    placeholder: Any = None
    run = SystemRun(placeholder, placeholder, None, {})

    def answer(wrong: int) -> float:
        answers = [1] * wrong + [0] * (count - wrong)
        window = Window(rows=list(range(count)), answers=answers)
        return check_agreement(run, [0] * count, window, "here")

    assert answer(allowed) == (count - allowed) / count
    with pytest.raises(WorkerError, match=rf"of its {count} answers here equal"):
        answer(allowed + 1)


def test_p_value_is_that_of_the_binomial_test() -> None:
    expected = scipy_stats.binomtest(60, 64, 0.99, alternative="less").pvalue
    assert binomial_p_value(60, 64, 0.99) == pytest.approx(expected)
