"""Scores on the selection slice."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from harness.search.scoring import Scorer, SelectionScore

TASK: Any = SimpleNamespace(name="words", metric="accuracy")


def score(
    answers: list[int], teacher: list[int], truths: list[int], groups: list[int], keep: float
) -> SelectionScore:
    data = SimpleNamespace(truths=truths, groups=groups)
    scorer = Scorer(TASK, SimpleNamespace(data=data), keep)  # type: ignore[arg-type]
    scorer._teacher = teacher
    return scorer.score_answers(answers)


@pytest.mark.parametrize(("examples", "enough"), [(26, False), (400, True)])
def test_a_few_examples_on_which_both_agree_prove_nothing(examples: int, enough: bool) -> None:
    """A student that answers as its teacher does keeps everything, as far as can be seen."""
    truths = [0, 1] * (examples // 2)
    answers = [0, 1] * (examples // 2 - examples // 10) + [0, 0] * (examples // 10)
    seen = score(answers, answers, truths, [-1] * examples, 0.95)
    assert seen.retained == 1.0
    assert seen.keeps_enough == enough
    assert seen.retained_low < 1.0


def test_the_error_is_that_of_one_more_example_on_which_they_differ() -> None:
    """With `keep` 1 the margin of two that agree has no other error."""
    truths = [0, 1] * 10
    seen = score(truths, truths, truths, [-1] * 20, 1.0)
    assert seen.margin == pytest.approx(-1 / 22)
    assert seen.retained_low == pytest.approx(1 - 1 / 22 / 0.5)


def test_examples_of_a_group_are_not_independent() -> None:
    truths = [0, 1] * 10
    grouped = score(truths, truths, truths, [*np.repeat(range(5), 4)], 1.0)
    assert grouped.margin == pytest.approx(-1 / 7)
    mixed = score(truths, truths, truths, [0] * 10 + [-1] * 10, 1.0)
    assert mixed.margin == pytest.approx(-1 / 13)


def test_the_margin_is_less_by_one_standard_error() -> None:
    truths = [0, 1] * 50
    worse = [*truths[:90], *[1 - truth for truth in truths[90:]]]
    seen = score(worse, truths, truths, [-1] * 100, 0.5)
    assert seen.value == pytest.approx(0.9)
    assert seen.retained == pytest.approx(0.8)
    # 90 differences of 0.25 (1 - 0.5 - 0.5 (1 - 0.5)), 10 of -0.75
    error = np.hypot(np.std([0.25] * 90 + [-0.75] * 10, ddof=1) / 10, 1 / 102)
    assert seen.margin == pytest.approx(0.15 - error)
    assert seen.retained_low == pytest.approx(0.8 - error / 0.5)
    assert seen.keeps_enough
