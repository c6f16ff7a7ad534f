"""Answers and accuracy, with several candidates and with ties."""

from collections.abc import Sequence

import numpy as np
import pytest

from harness.models.answers import answers_from_scores, compute_accuracy


@pytest.mark.parametrize(
    ("scores", "candidates", "expected"),
    [
        ([[0.1, 0.9], [0.8, 0.2]], [1, 1], [1, 0]),
        ([[0, 1], [0, 3], [0, 2], [5, 0]], [3, 1], [1, 0]),
        ([[9, 9.5], [0, 2]], [2], [1]),
        ([[1, 1], [2, 2]], [1, 1], [0, 0]),  # equal labels: the first
        ([[0, 0], [0, 3], [1, 4]], [3], [1]),  # equal margins: the first
    ],
)
def test_answers_are_labels_or_best_candidates(
    scores: Sequence[Sequence[float]], candidates: list[int], expected: list[int]
) -> None:
    assert answers_from_scores(np.array(scores, np.float32), candidates) == expected


def test_accuracy_counts_examples_and_not_candidates() -> None:
    """Four examples: label 1 is right; of three candidates the second has the largest margin, and
    the third is right; of two equal candidates the first is answered, and right; label 0 is wrong.
    """
    scores = np.array(
        [[0, 1], [5, 6], [0, 9], [1, 3], [0, 1], [0, 1], [2, 1]],
        np.float32,
    )
    labels = [1, 0, 0, 1, 1, 0, 1]
    assert compute_accuracy(scores, [1, 3, 2, 1], labels) == 2 / 4
