"""From scores to answers, and their accuracy: the same for training, serving and measuring.

The built-in worker imports this module, so it needs NumPy alone.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float32]
"""float32 [candidates, labels]."""


def answers_from_scores(scores: Scores, candidates: Sequence[int]) -> list[int]:
    """Return one answer per example: the best label, or the best of several candidates.

    Of several candidates the best is the one with the largest margin of label 1 over label 0; of
    equal ones the first.

    Args:
        scores: float32 [candidates, labels], the candidates of all examples in order.
        candidates: number of candidates of each example.
    """
    if len(scores) == len(candidates):
        labels: list[int] = scores.argmax(axis=1).tolist()
        return labels
    margins = scores[:, 1] - scores[:, 0]
    ends = np.cumsum(candidates)
    return [
        int(scores[end - 1].argmax()) if count == 1 else int(margins[end - count : end].argmax())
        for end, count in zip(ends, candidates, strict=True)
    ]


def compute_accuracy(scores: Scores, candidates: Sequence[int], labels: Sequence[int]) -> float:
    """Return the share of the examples that are answered right.

    Args:
        scores: float32 [candidates, labels], the candidates of all examples in order.
        candidates: number of candidates of each example.
        labels: the label of each candidate; of an example with several candidates 1 for each right
            one, else 0.
    """
    answers = answers_from_scores(scores, candidates)
    starts = np.cumsum(candidates) - candidates
    right = [
        bool(answer == labels[start] if count == 1 else labels[start + answer] == 1)
        for answer, count, start in zip(answers, candidates, starts.tolist(), strict=True)
    ]
    return sum(right) / len(right)
