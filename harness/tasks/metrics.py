"""Official metrics, each with its standard error, and two systems compared on the same examples.

A metric is a function of sums over examples, so that one bootstrap serves them all.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from harness import stats
from harness.stats import Floats, Interval

Answers = Sequence[int]


@dataclass(frozen=True)
class Score:
    """A metric's value in 0..1 and its standard error over the examples."""

    value: float
    se: float


@dataclass(frozen=True)
class Metric:
    """counts: what each example adds, float64 [examples, k]. value: from sums [..., k] to the
    metric [...].
    """

    counts: Callable[[Answers, Answers], Floats]
    value: Callable[[Floats], Floats]

    def score(self, answers: Answers, labels: Answers, groups: Sequence[int]) -> Score:
        """The value, and the standard error by bootstrap over groups; for accuracy of examples on
        their own that of a binomial share, which needs none.
        """
        counts = self.counts(answers, labels)
        value = float(self.value(counts.sum(axis=0)))
        if self is ACCURACY and max(groups) < 0:
            return Score(value, math.sqrt(value * (1 - value) / len(labels)))
        return Score(value, float(stats.resampled(counts, groups, self.value).std(ddof=1)))

    def majority(self, labels: Answers) -> float:
        """The value of the constant answer that scores best."""
        return max(
            float(self.value(self.counts([label] * len(labels), labels).sum(axis=0)))
            for label in sorted(set(labels))
        )


@dataclass(frozen=True)
class Comparison:
    """A system against another on the same examples.

    difference: own value less the other's, with its 95% interval; p: that it is zero. kept: own
    gain over `majority` less `share` of the other's, with its interval: at or above zero where
    that share is kept.
    """

    difference: Interval
    p: float
    kept: Interval


def compare(
    metric: Metric,
    own: Answers,
    other: Answers,
    labels: Answers,
    groups: Sequence[int],
    majority: float,
    share: float,
) -> Comparison:
    """For accuracy of examples on their own: paired differences and McNemar's exact test. Else the
    paired bootstrap over groups: both systems are scored on the same resamples.
    """
    pair = np.stack([metric.counts(own, labels), metric.counts(other, labels)], axis=1)
    if metric is ACCURACY and max(groups) < 0:
        ours, theirs = pair[:, 0, 0], pair[:, 1, 0]
        difference = stats.mean_interval(ours - theirs)
        kept = stats.mean_interval(ours - majority - share * (theirs - majority))
        return Comparison(difference, stats.mcnemar(ours > 0, theirs > 0), kept)
    value = metric.value(pair.sum(axis=0))
    draws = stats.resampled(pair, groups, metric.value)
    kept_value = value[0] - majority - share * (value[1] - majority)
    kept_draws = draws[:, 0] - majority - share * (draws[:, 1] - majority)
    apart = draws[:, 0] - draws[:, 1]
    below = float(np.mean(apart <= 0)), float(np.mean(apart >= 0))
    return Comparison(
        stats.middle(float(value[0] - value[1]), apart),
        min(1.0, 2 * (min(below) * len(apart) + 1) / (len(apart) + 1)),
        stats.middle(float(kept_value), kept_draws),
    )


def _right(answers: Answers, labels: Answers) -> Floats:
    right = np.asarray(answers) == np.asarray(labels)
    return np.stack([right, np.ones(len(labels))], axis=1).astype(float)


def _positives(answers: Answers, labels: Answers) -> Floats:
    """True positives; false positives and false negatives. Label 1 is the positive one."""
    said, true = np.asarray(answers) == 1, np.asarray(labels) == 1
    return np.stack([said & true, said ^ true], axis=1).astype(float)


def _share(sums: Floats) -> Floats:
    found: Floats = sums[..., 0] / sums[..., 1]
    return found


def _f1(sums: Floats) -> Floats:
    twice = 2 * sums[..., 0]
    found: Floats = twice / np.maximum(twice + sums[..., 1], 1)
    return found


ACCURACY = Metric(_right, _share)
METRICS = {"accuracy": ACCURACY, "f1": Metric(_positives, _f1)}
