"""Official metrics, each with its standard error, and two systems compared on the same examples.

A metric is a function of sums over examples, so that one bootstrap serves them all. Those of
SuperGLUE are defined as its own evaluation defines them (Wang et al. 2019, section 3): where a task
has two, its score is their mean.
"""

import math
import re
import string
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.results import statistics
from harness.results.statistics import Floats, Interval

Answers = Sequence[int]
Truths = Sequence[Any]
"""What each example's answer is compared with: its label, or what else the metric needs."""


@dataclass(frozen=True)
class Score:
    """A metric's value in -1..1, its standard error over the examples, and the official metrics it
    is the mean of, where there are several.
    """

    value: float
    se: float
    parts: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Metric:
    """counts: what each example adds, float64 [examples, k]. parts: from sums [..., k] to the
    official metrics, each [...]; their mean is the metric's value. beside: others that are shown
    and not part of it. constants: answers that a majority class may give, from the truths.
    """

    counts: Callable[[Answers, Truths], Floats]
    parts: dict[str, Callable[[Floats], Floats]]
    beside: dict[str, Callable[[Floats], Floats]] = field(default_factory=dict)
    constants: Callable[[Truths], Iterable[int]] = lambda truths: sorted(set(truths))

    def value(self, sums: Floats) -> Floats:
        """Sums [..., k] to the metric [...]."""
        found: Floats = np.mean([each(sums) for each in self.parts.values()], axis=0)
        return found

    def score(self, answers: Answers, truths: Truths, groups: Sequence[int]) -> Score:
        """The value, and the standard error by bootstrap over groups; for accuracy of examples on
        their own that of a binomial share, which needs none.
        """
        counts = self.counts(answers, truths)
        sums = counts.sum(axis=0)
        value = float(self.value(sums))
        shown = self.parts | self.beside
        parts = {name: float(each(sums)) for name, each in shown.items()} if len(shown) > 1 else {}
        if self is ACCURACY and max(groups) < 0:
            return Score(value, math.sqrt(value * (1 - value) / len(truths)))
        return Score(
            value, float(statistics.resampled(counts, groups, self.value).std(ddof=1)), parts
        )

    def majority(self, truths: Truths) -> float:
        """The value of the constant answer that scores best."""
        return max(
            float(self.value(self.counts([answer] * len(truths), truths).sum(axis=0)))
            for answer in self.constants(truths)
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
    truths: Truths,
    groups: Sequence[int],
    majority: float,
    share: float,
) -> Comparison:
    """For accuracy of examples on their own: paired differences and McNemar's exact test. Else the
    paired bootstrap over groups: both systems are scored on the same resamples.
    """
    sides = [metric.counts(own, truths), metric.counts(other, truths)]
    pair = np.zeros((len(truths), 2, max(each.shape[1] for each in sides)))
    for side, counts in enumerate(sides):  # one may know of a class that the other never answers
        pair[:, side, : counts.shape[1]] = counts
    if metric is ACCURACY and max(groups) < 0:
        ours, theirs = pair[:, 0, 0], pair[:, 1, 0]
        difference = statistics.mean_interval(ours - theirs)
        kept = statistics.mean_interval(ours - majority - share * (theirs - majority))
        return Comparison(difference, statistics.mcnemar(ours > 0, theirs > 0), kept)
    value = metric.value(pair.sum(axis=0))
    draws = statistics.resampled(pair, groups, metric.value)
    kept_value = value[0] - majority - share * (value[1] - majority)
    kept_draws = draws[:, 0] - majority - share * (draws[:, 1] - majority)
    apart = draws[:, 0] - draws[:, 1]
    below = float(np.mean(apart <= 0)), float(np.mean(apart >= 0))
    return Comparison(
        statistics.middle(float(value[0] - value[1]), apart),
        min(1.0, 2 * (min(below) * len(apart) + 1) / (len(apart) + 1)),
        statistics.middle(float(kept_value), kept_draws),
    )


def overlap(text: str, answers: Sequence[str]) -> tuple[float, float]:
    """How a text fits the best of several answers: F1 of their words, and 1 for an exact match.

    Case, punctuation, articles and extra spaces do not count (ReCoRD: Zhang et al. 2018, as SQuAD).
    """
    f1 = max((_word_f1(_words(text), _words(answer)) for answer in answers), default=0.0)
    exact = any(_words(text) == _words(answer) for answer in answers)
    return f1, float(exact)


def _words(text: str) -> list[str]:
    bare = "".join(letter for letter in text.lower() if letter not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", bare).split()


def _word_f1(one: list[str], other: list[str]) -> float:
    common = sum((Counter(one) & Counter(other)).values())
    return 2 * common / (len(one) + len(other)) if common else 0.0


def _right(answers: Answers, truths: Truths) -> Floats:
    right = np.asarray(answers) == np.asarray(truths)
    return np.stack([right, np.ones(len(truths))], axis=1).astype(float)


def _classes(answers: Answers, truths: Truths) -> Floats:
    """Right; all; then for every class its true positives, answers and examples."""
    said, true = np.asarray(answers), np.asarray(truths)
    columns = [said == true, np.ones(len(true))]
    for label in range(max(*answers, *truths) + 1):
        columns += [(said == label) & (true == label), said == label, true == label]
    return np.stack(columns, axis=1).astype(float)


def _two(answers: Answers, truths: Truths) -> Floats:
    """True positives, false positives, false negatives and true negatives. Label 1 is the positive
    one.
    """
    said, true = np.asarray(answers) == 1, np.asarray(truths) == 1
    return np.stack([said & true, said & ~true, ~said & true, ~said & ~true], axis=1).astype(float)


def _by_question(answers: Answers, truths: Truths) -> Floats:
    """As `_two`, from [label, question]; then of each question, at its first example: whether all
    its answers are right, and 1.
    """
    labels, questions = (np.array(column) for column in zip(*truths, strict=True))
    right = (np.asarray(answers) == 1) == (labels == 1)
    whole = _at_first(questions, lambda inside: bool(right[inside].all()))
    return np.concatenate([_two(answers, labels.tolist()), whole], axis=1)


def _parity(answers: Answers, truths: Truths) -> Floats:
    """As `_right`, from [label, pair]; then of each pair, at its first example: whether both have
    the same answer, and 1.
    """
    labels, pairs = (np.array(column) for column in zip(*truths, strict=True))
    said = np.asarray(answers)
    same = _at_first(pairs, lambda inside: len(set(said[inside].tolist())) == 1)
    return np.concatenate([_right(answers, labels.tolist()), same], axis=1)


def _at_first(numbers: NDArray[Any], holds: Callable[[NDArray[Any]], bool]) -> Floats:
    found = np.zeros((len(numbers), 2))
    order = np.argsort(numbers, kind="stable")
    starts = np.flatnonzero(np.diff(numbers[order], prepend=numbers[order[0]] - 1))
    for inside in np.split(order, starts[1:]):
        found[inside[0]] = holds(inside), 1
    return found


def _worth(answers: Answers, truths: Truths) -> Floats:
    """From each candidate's [F1, exact match]: those of the chosen one, and 1."""
    chosen = [
        each[min(answer, len(each) - 1)] for answer, each in zip(answers, truths, strict=True)
    ]
    return np.concatenate([np.array(chosen, float), np.ones((len(truths), 1))], axis=1)


def _ratio(above: int, below: int) -> Callable[[Floats], Floats]:
    def share(sums: Floats) -> Floats:
        found: Floats = sums[..., above] / np.maximum(sums[..., below], 1)
        return found

    return share


def _f1(sums: Floats) -> Floats:
    twice = 2 * sums[..., 0]
    found: Floats = twice / np.maximum(twice + sums[..., 1] + sums[..., 2], 1)
    return found


def _macro_f1(sums: Floats) -> Floats:
    """Mean over the classes that occur or are answered."""
    hit, said, true = sums[..., 2::3], sums[..., 3::3], sums[..., 4::3]
    occurs = said + true
    found: Floats = (2 * hit / np.maximum(occurs, 1)).sum(-1) / np.maximum((occurs > 0).sum(-1), 1)
    return found


def _matthews(sums: Floats) -> Floats:
    """Matthews (1975); 0 where one side is constant."""
    hit, false, missed, rest = (sums[..., column] for column in range(4))
    product = (hit + false) * (hit + missed) * (rest + false) * (rest + missed)
    root = np.sqrt(np.maximum(product, 1))
    found: Floats = np.where(product > 0, (hit * rest - false * missed) / root, 0.0)
    return found


def _labels(truths: Truths) -> Iterable[int]:
    return sorted({each[0] for each in truths})


ACCURACY = Metric(_right, {"accuracy": _ratio(0, 1)})
METRICS = {
    "accuracy": ACCURACY,
    "f1": Metric(_two, {"F1": _f1}),
    "macro-f1": Metric(_classes, {"macro-F1": _macro_f1}),
    "matthews": Metric(_two, {"Matthews correlation": _matthews}),
    "accuracy+macro-f1": Metric(_classes, {"accuracy": _ratio(0, 1), "macro-F1": _macro_f1}),
    "f1a+em": Metric(_by_question, {"F1a": _f1, "EM": _ratio(4, 5)}, constants=_labels),
    "f1+em": Metric(_worth, {"F1": _ratio(0, 2), "EM": _ratio(1, 2)}, constants=lambda truths: [0]),
    "accuracy+parity": Metric(
        _parity, {"accuracy": _ratio(0, 1)}, {"gender parity": _ratio(2, 3)}, constants=_labels
    ),
}
"""By name. Of those with two parts the names are joined by `+`; gender parity, which every constant
answer gives in full, is shown beside the accuracy and does not count.
"""
