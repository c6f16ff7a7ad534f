"""Official metrics with their standard errors, and two systems compared on the same examples.

A metric is a function of sums over examples, so that one bootstrap serves them all. The metrics of
SuperGLUE are defined as in its own evaluation (Wang et al. 2019, section 3): the score of a task
with two metrics is their mean.
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

Answers = Sequence[int] | NDArray[np.integer[Any]]
Truths = Sequence[Any] | NDArray[Any]
"""What each example's answer is compared with: its label, or what else the metric needs."""


@dataclass(frozen=True)
class Score:
    """The score of a system on a task.

    Attributes:
        value: the metric, in -1..1.
        se: its standard error over the examples.
        parts: the official metrics by name, if there are several.
    """

    value: float
    se: float
    parts: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Metric:
    """A metric of sums over examples.

    Attributes:
        counts: returns what each example adds to the sums, float64 [examples, k].
        parts: the official metrics by name, each from sums [..., k] to [...]; the value of the
            metric is their mean.
        additional: metrics that are reported beside them and do not count.
        constant_answers: the answers that the majority class is chosen from.
    """

    counts: Callable[[Answers, Truths], Floats]
    parts: dict[str, Callable[[Floats], Floats]]
    additional: dict[str, Callable[[Floats], Floats]] = field(default_factory=dict)
    constant_answers: Callable[[Truths], Iterable[int]] = lambda truths: sorted(set(truths))

    def value(self, sums: Floats) -> Floats:
        """Return the metric [...] for sums [..., k]."""
        value: Floats = np.mean([part(sums) for part in self.parts.values()], axis=0)
        return value

    def score(self, answers: Answers, truths: Truths, groups: Sequence[int]) -> Score:
        """Return the score with its standard error.

        The error is that of a bootstrap over groups; for the accuracy of ungrouped examples it is
        the binomial one, which needs no bootstrap.

        Args:
            answers: the answer to each example.
            truths: what each answer is compared with.
            groups: the group of each example; -1 if it has none.
        """
        counts = self.counts(answers, truths)
        sums = counts.sum(axis=0)
        value = float(self.value(sums))
        reported = self.parts | self.additional
        parts = {}
        if len(reported) > 1:
            parts = {name: float(part(sums)) for name, part in reported.items()}
        if _has_independent_examples(self, groups):
            return Score(value, math.sqrt(value * (1 - value) / len(truths)))
        draws = statistics.bootstrap_sums(counts, groups, self.value)
        return Score(value, float(draws.std(ddof=1)), parts)

    def majority_value(self, truths: Truths) -> float:
        """Return the value of the constant answer that scores best."""
        return max(
            float(self.value(self.counts([answer] * len(truths), truths).sum(axis=0)))
            for answer in self.constant_answers(truths)
        )


@dataclass(frozen=True)
class Comparison:
    """A system against another one on the same examples.

    Attributes:
        difference: its value minus that of the other, with its 95% interval.
        p: p-value that the difference is zero.
        floor_margin: its gain over the majority class minus a share of the other's gain, with its
            95% interval; zero or more if the system keeps that share.
    """

    difference: Interval
    p: float
    floor_margin: Interval


def compare(
    metric: Metric,
    answers: Answers,
    other: Answers,
    truths: Truths,
    groups: Sequence[int],
    majority: float,
    share: float,
) -> Comparison:
    """Compare the answers of two systems.

    For the accuracy of ungrouped examples: paired differences and McNemar's exact test. Otherwise
    the paired bootstrap over groups: both systems are scored on the same resamples.

    Args:
        metric: the metric of the task.
        answers: those of the system.
        other: those of the system that it is compared with.
        truths: what each answer is compared with.
        groups: the group of each example; -1 if it has none.
        majority: the value of the majority class.
        share: the share of the other's gain over the majority class that the system should keep.
    """
    if _has_independent_examples(metric, groups):
        right, other_right = _count_pair(answers, other, truths)
        margins = right - majority - share * (other_right - majority)
        return Comparison(
            statistics.mean_interval(right.astype(float) - other_right),
            statistics.mcnemar_p_value(right, other_right),
            statistics.mean_interval(margins),
        )
    value, draws = _bootstrap_pair(metric, answers, other, truths, groups)
    margin = value[0] - majority - share * (value[1] - majority)
    margin_draws = draws[:, 0] - majority - share * (draws[:, 1] - majority)
    differences = draws[:, 0] - draws[:, 1]
    tails = float(np.mean(differences <= 0)), float(np.mean(differences >= 0))
    return Comparison(
        statistics.percentile_interval(float(value[0] - value[1]), differences),
        min(1.0, 2 * (min(tails) * len(differences) + 1) / (len(differences) + 1)),
        statistics.percentile_interval(float(margin), margin_draws),
    )


def estimate_difference_error(
    metric: Metric, answers: Answers, other: Answers, truths: Truths, groups: Sequence[int]
) -> float:
    """Return the standard error of the difference between two systems' values, on the same
    examples.

    Args:
        metric: the metric of the task.
        answers: those of one system.
        other: those of the other one.
        truths: what each answer is compared with; at least two.
        groups: the group of each example; -1 if it has none.
    """
    if _has_independent_examples(metric, groups):
        right, other_right = _count_pair(answers, other, truths)
        return statistics.mean_error(right.astype(float) - other_right)
    _, draws = _bootstrap_pair(metric, answers, other, truths, groups)
    return float((draws[:, 0] - draws[:, 1]).std(ddof=1))


def _has_independent_examples(metric: Metric, groups: Sequence[int]) -> bool:
    """Return whether the metric is a mean over independent examples, which needs no bootstrap."""
    return metric is ACCURACY and max(groups) < 0


def _count_pair(
    answers: Answers, other: Answers, truths: Truths
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return for each of two systems which examples it answers correctly."""
    true = np.asarray(truths)
    return np.asarray(answers) == true, np.asarray(other) == true


def _bootstrap_pair(
    metric: Metric, answers: Answers, other: Answers, truths: Truths, groups: Sequence[int]
) -> tuple[Floats, Floats]:
    """Return the values of two systems [2], and those of each resample [resamples, 2]."""
    sides = [metric.counts(answers, truths), metric.counts(other, truths)]
    pair = np.zeros((len(truths), 2, max(side.shape[1] for side in sides)))
    for index, counts in enumerate(sides):  # one may count a class that the other never answers
        pair[:, index, : counts.shape[1]] = counts
    return metric.value(pair.sum(axis=0)), statistics.bootstrap_sums(pair, groups, metric.value)


def score_overlap(text: str, answers: Sequence[str]) -> tuple[float, float]:
    """Return how well a text matches the best of several answers (ReCoRD: Zhang et al. 2018).

    Case, punctuation, articles and extra spaces are ignored, as in SQuAD.

    Returns:
        F1 of the words, and 1 for an exact match, else 0.
    """
    f1 = max((_word_f1(_words(text), _words(answer)) for answer in answers), default=0.0)
    exact = any(_words(text) == _words(answer) for answer in answers)
    return f1, float(exact)


def _words(text: str) -> list[str]:
    bare = "".join(letter for letter in text.lower() if letter not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", bare).split()


def _word_f1(words: list[str], other: list[str]) -> float:
    common = sum((Counter(words) & Counter(other)).values())
    return 2 * common / (len(words) + len(other)) if common else 0.0


def _count_right(answers: Answers, truths: Truths) -> Floats:
    """Columns: right, 1."""
    right = np.asarray(answers) == np.asarray(truths)
    return np.stack([right, np.ones(len(truths))], axis=1).astype(float)


def _count_classes(answers: Answers, truths: Truths) -> Floats:
    """Columns: right, 1, then for each class: true positive, answered, true."""
    answered, true = np.asarray(answers), np.asarray(truths)
    columns = [answered == true, np.ones(len(true))]
    for label in range(max(*answers, *truths) + 1):
        columns += [(answered == label) & (true == label), answered == label, true == label]
    return np.stack(columns, axis=1).astype(float)


def _count_binary(answers: Answers, truths: Truths) -> Floats:
    """Columns: true positive, false positive, false negative, true negative; 1 is positive."""
    answered, true = np.asarray(answers) == 1, np.asarray(truths) == 1
    columns = [answered & true, answered & ~true, ~answered & true, ~answered & ~true]
    return np.stack(columns, axis=1).astype(float)


def _count_questions(answers: Answers, truths: Truths) -> Floats:
    """Truths are [label, question].

    Columns: those of `_count_binary`; then, at the first example of each question, whether all its
    answers are right, and 1.
    """
    labels, questions = (np.array(column) for column in zip(*truths, strict=True))
    right = (np.asarray(answers) == 1) == (labels == 1)
    exact = _count_at_first(questions, lambda indices: bool(right[indices].all()))
    return np.concatenate([_count_binary(answers, labels.tolist()), exact], axis=1)


def _count_parity(answers: Answers, truths: Truths) -> Floats:
    """Truths are [label, pair].

    Columns: those of `_count_right`; then, at the first example of each pair, whether both have the
    same answer, and 1.
    """
    labels, pairs = (np.array(column) for column in zip(*truths, strict=True))
    answered = np.asarray(answers)
    same = _count_at_first(pairs, lambda indices: len(set(answered[indices].tolist())) == 1)
    return np.concatenate([_count_right(answers, labels.tolist()), same], axis=1)


def _count_at_first(numbers: NDArray[Any], condition: Callable[[NDArray[Any]], bool]) -> Floats:
    """At the first example of each number: whether the condition holds for all of its, and 1."""
    counts = np.zeros((len(numbers), 2))
    order = np.argsort(numbers, kind="stable")
    starts = np.flatnonzero(np.diff(numbers[order], prepend=numbers[order[0]] - 1))
    for indices in np.split(order, starts[1:]):
        counts[indices[0]] = condition(indices), 1
    return counts


def _count_overlap(answers: Answers, truths: Truths) -> Floats:
    """Truths are the [F1, exact match] of each candidate; columns: those of the answer, and 1."""
    chosen = [
        candidates[min(answer, len(candidates) - 1)]
        for answer, candidates in zip(answers, truths, strict=True)
    ]
    return np.concatenate([np.array(chosen, float), np.ones((len(truths), 1))], axis=1)


def _ratio(numerator: int, denominator: int) -> Callable[[Floats], Floats]:
    def compute(sums: Floats) -> Floats:
        ratio: Floats = sums[..., numerator] / np.maximum(sums[..., denominator], 1)
        return ratio

    return compute


def _f1(sums: Floats) -> Floats:
    twice = 2 * sums[..., 0]
    f1: Floats = twice / np.maximum(twice + sums[..., 1] + sums[..., 2], 1)
    return f1


def _macro_f1(sums: Floats) -> Floats:
    """Mean over the classes that occur or are answered."""
    hits, answered, true = sums[..., 2::3], sums[..., 3::3], sums[..., 4::3]
    total = answered + true
    mean: Floats = (2 * hits / np.maximum(total, 1)).sum(-1) / np.maximum((total > 0).sum(-1), 1)
    return mean


def _matthews(sums: Floats) -> Floats:
    """Matthews (1975); 0 where the answers or the labels are constant."""
    tp, fp, fn, tn = (sums[..., column] for column in range(4))
    product = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    root = np.sqrt(np.maximum(product, 1))
    correlation: Floats = np.where(product > 0, (tp * tn - fp * fn) / root, 0.0)
    return correlation


def _first_labels(truths: Truths) -> Iterable[int]:
    return sorted({truth[0] for truth in truths})


_ACCURACY_PART = {"accuracy": _ratio(0, 1)}
ACCURACY = Metric(_count_right, _ACCURACY_PART)
METRICS = {
    "accuracy": ACCURACY,
    "f1": Metric(_count_binary, {"F1": _f1}),
    "macro-f1": Metric(_count_classes, {"macro-F1": _macro_f1}),
    "matthews": Metric(_count_binary, {"Matthews correlation": _matthews}),
    "accuracy+macro-f1": Metric(_count_classes, {**_ACCURACY_PART, "macro-F1": _macro_f1}),
    "f1a+em": Metric(
        _count_questions, {"F1a": _f1, "EM": _ratio(4, 5)}, constant_answers=_first_labels
    ),
    "f1+em": Metric(
        _count_overlap,
        {"F1": _ratio(0, 2), "EM": _ratio(1, 2)},
        constant_answers=lambda truths: [0],
    ),
    "accuracy+parity": Metric(
        _count_parity,
        _ACCURACY_PART,
        {"gender parity": _ratio(2, 3)},
        constant_answers=_first_labels,
    ),
}
"""By name; a name with `+` joins those of its parts.

Gender parity does not count: every constant answer has the full one.
"""
