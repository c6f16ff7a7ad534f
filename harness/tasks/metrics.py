"""Official metrics, each with its standard error."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Score:
    """A metric's value in 0..1 and its standard error over the examples."""

    value: float
    se: float


def accuracy(answers: Sequence[int], labels: Sequence[int]) -> Score:
    """Share of right answers; its standard error is that of a binomial share."""
    right = float(np.mean(np.asarray(answers) == np.asarray(labels)))
    return Score(right, math.sqrt(right * (1 - right) / len(labels)))


def majority_share(labels: Sequence[int]) -> float:
    """The accuracy of always giving the most frequent label."""
    return float(np.bincount(np.asarray(labels)).max() / len(labels))


METRICS: dict[str, Callable[[Sequence[int], Sequence[int]], Score]] = {"accuracy": accuracy}
