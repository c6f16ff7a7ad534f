"""The probe `training`: an honest model passes whatever the splits look like."""

import random
from collections.abc import Sequence

import pytest

from harness.audit.session import compare_splits
from harness.tasks.task import Example


def split(count: int, positive: float) -> list[Example]:
    """So many examples, a share of them of label 1."""
    return [Example(((f"text {n}",),), int(n < positive * count)) for n in range(count)]


def answered(examples: Sequence[Example], right: tuple[float, float], seed: int = 0) -> list[int]:
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
    own, other = split(1000, reported), split(1000, train)
    found = compare_splits(answered(own, right), own, answered(other, right, 1), other)
    assert found.passed, found.text


@pytest.mark.parametrize("train", [0.1, 0.5, 0.9])
def test_memorised_split_does_not(train: float) -> None:
    own, other = split(1000, 0.5), split(1000, train)
    found = compare_splits(answered(own, (1, 1)), own, answered(other, (0.6, 0.6)), other)
    assert found.passed is False
    assert "that is what a memorised split looks like" in found.text


def test_some_wrong_labels_in_training_are_no_sign() -> None:
    own, other = split(1000, 0.5), split(1000, 0.5)
    found = compare_splits(answered(own, (0.93, 0.93)), own, answered(other, (0.8, 0.8)), other)
    assert found.passed


def test_few_examples_tell_nothing() -> None:
    own, other = split(5, 0.5), split(20, 0.5)
    assert compare_splits(answered(own, (1, 1)), own, answered(other, (0.7, 0.7)), other).passed
    apart = [Example((("a",),), 1)] * 30
    none = [Example((("a",),), 0)] * 30
    assert compare_splits([1] * 30, apart, [1] * 30, none).passed is None


def test_choices_count_together() -> None:
    own = [Example((("a", "b"), ("a", "c")), n % 2) for n in range(100)]
    assert compare_splits([n % 2 for n in range(100)], own, [0] * 100, own).passed is False
