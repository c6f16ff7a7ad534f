"""The probe `training`: an honest model passes whatever the splits look like."""

import random
from collections.abc import Sequence

import pytest

from harness.audit.probes import compare_splits
from harness.tasks.task import Example


def split(count: int, positive: float) -> list[Example]:
    """So many examples, a share of them of label 1."""
    return [Example(((f"text {n}",),), int(n < positive * count)) for n in range(count)]


def answer(examples: Sequence[Example], right: tuple[float, float], seed: int = 0) -> list[int]:
    """With this share of right answers for either label."""
    chance = random.Random(seed)
    return [e.label if chance.random() < right[e.label] else 1 - e.label for e in examples]


@pytest.mark.parametrize(
    ("train", "reported", "right"),
    [
        (0.1, 0.5, (0.6, 0.95)),
        (0.1, 0.5, (0.7, 0.97)),
        (0.9, 0.1, (0.9, 0.75)),
        (0.5, 0.5, (0.8, 0.8)),
        (0.02, 0.02, (0.99, 0.3)),
    ],
)
def test_honest_model_passes_with_any_shares_of_labels(
    train: float, reported: float, right: tuple[float, float]
) -> None:
    reported_examples, training_examples = split(1000, reported), split(1000, train)
    result = compare_splits(
        answer(reported_examples, right),
        reported_examples,
        answer(training_examples, right, 1),
        training_examples,
    )
    assert result.passed, result.text


@pytest.mark.parametrize("train", [0.1, 0.5, 0.9])
def test_memorised_split_fails(train: float) -> None:
    reported_examples, training_examples = split(1000, 0.5), split(1000, train)
    result = compare_splits(
        answer(reported_examples, (1, 1)),
        reported_examples,
        answer(training_examples, (0.6, 0.6)),
        training_examples,
    )
    assert result.passed is False
    assert "a memorised split looks like this" in result.text


def test_some_wrong_labels_in_training_pass() -> None:
    reported_examples, training_examples = split(1000, 0.5), split(1000, 0.5)
    result = compare_splits(
        answer(reported_examples, (0.93, 0.93)),
        reported_examples,
        answer(training_examples, (0.8, 0.8)),
        training_examples,
    )
    assert result.passed


def test_few_examples_give_no_verdict() -> None:
    reported_examples, training_examples = split(5, 0.5), split(20, 0.5)
    assert compare_splits(
        answer(reported_examples, (1, 1)),
        reported_examples,
        answer(training_examples, (0.7, 0.7)),
        training_examples,
    ).passed
    positive = [Example((("a",),), 1)] * 30
    negative = [Example((("a",),), 0)] * 30
    assert compare_splits([1] * 30, positive, [1] * 30, negative).passed is None


def test_choices_count_together() -> None:
    reported_examples = [Example((("a", "b"), ("a", "c")), n % 2) for n in range(100)]
    assert (
        compare_splits(
            [n % 2 for n in range(100)], reported_examples, [0] * 100, reported_examples
        ).passed
        is False
    )
