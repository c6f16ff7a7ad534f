"""Intervals, paired tests, percentiles, and what is wrong with a series of times.

Student (1908) for the interval of a mean; Efron & Tibshirani (1993) and Hesterberg (2015, What
Teachers Should Know About the Bootstrap, section 4) for the bootstrap; the early-stopping test of
MLPerf inference (Reddi et al. 2020) for how many queries a percentile needs; McNemar (1947) for two
systems' answers to the same questions; Welch (1947) for two sessions and Holm (1979) for many
comparisons of them; Iglewicz & Hoaglin (1993) for outliers.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, ndtr, stdtr, stdtrit

CONFIDENCE = 0.95
BOOTSTRAP_FROM = 10
RESAMPLES = 10_000

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95% confidence interval; low and high are nan where one value gives no
    interval.
    """

    value: float
    low: float
    high: float


def ratio(slow: Sequence[float], fast: Sequence[float]) -> Interval:
    """How many times faster: the geometric mean of the blocks' ratios slow[i] / fast[i] (times,
    each above 0).

    Ratios are taken within blocks, so that drift hits both sides alike. Student t on the log ratios
    below ten blocks, because a bootstrap over five covers only about 85%; from ten on the expanded
    percentile bootstrap (Hesterberg 2015), whose levels make up for what few values vary too
    little.
    """
    logs = [math.log(one / other) for one, other in zip(slow, fast, strict=True)]
    count, mean = len(logs), math.fsum(logs) / len(logs)
    if count == 1:
        return Interval(math.exp(mean), math.nan, math.nan)
    student = _student(count)
    if count < BOOTSTRAP_FROM:  # plain floats: a board takes a hundred thousand of these
        spread = math.fsum((each - mean) ** 2 for each in logs) / (count - 1)
        half = student * math.sqrt(spread / count)
        return Interval(math.exp(mean), math.exp(mean - half), math.exp(mean + half))
    draws = np.random.default_rng(0).choice(logs, (RESAMPLES, count)).mean(axis=1)
    found = middle(mean, draws, float(ndtr(-student * math.sqrt(count / (count - 1)))))
    return Interval(math.exp(mean), math.exp(found.low), math.exp(found.high))


@dataclass(frozen=True)
class Change:
    """How many times as large something became, with its interval, and the p-value that it did
    not change.
    """

    ratio: Interval
    p: float


@cache
def _student(count: int) -> float:
    """How many standard errors a 95% interval of the mean of so many values has to each side."""
    return float(stdtrit(count - 1, (1 + CONFIDENCE) / 2))


def change(before: Sequence[float], after: Sequence[float]) -> Change | None:
    """From one series to another that is not paired with it (each value above 0): Welch's t test
    (1947) on the logarithms; None where one has fewer than two values.
    """
    if min(len(before), len(after)) < 2:
        return None
    one, other = (np.log(np.asarray(each, float)) for each in (before, after))
    errors = [float(each.var(ddof=1)) / len(each) for each in (one, other)]
    apart, error = float(other.mean() - one.mean()), math.sqrt(sum(errors))
    if error == 0.0:
        return Change(Interval(*[math.exp(apart)] * 3), float(apart == 0.0))
    freedom = sum(errors) ** 2 / (
        errors[0] ** 2 / (len(one) - 1) + errors[1] ** 2 / (len(other) - 1)
    )
    half = float(stdtrit(freedom, (1 + CONFIDENCE) / 2)) * error
    found = Interval(math.exp(apart), math.exp(apart - half), math.exp(apart + half))
    return Change(found, 2 * float(stdtr(freedom, -abs(apart) / error)))


def holm(values: Sequence[float]) -> list[float]:
    """P-values of several tests, so adjusted that below 5% there is one false alarm in twenty over
    all of them (Holm 1979).
    """
    order = sorted(range(len(values)), key=values.__getitem__)
    adjusted, highest = [0.0] * len(values), 0.0
    for place, index in enumerate(order):
        highest = max(highest, min(1.0, (len(values) - place) * values[index]))
        adjusted[index] = highest
    return adjusted


def middle(value: float, draws: Floats, tail: float = (1 - CONFIDENCE) / 2) -> Interval:
    """A value with the percentile interval of its bootstrap draws. tail: left out on each side."""
    low, high = np.quantile(draws, [tail, 1 - tail])
    return Interval(value, float(low), float(high))


def geometric_mean(values: Sequence[float]) -> float:
    """The n-th root of the product of n values, each above 0."""
    return math.exp(float(np.mean(np.log(values))))


def mcnemar(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Two-sided p-value that two systems are right equally often: the exact binomial test on the
    examples of which one alone is right.
    """
    gained, lost = int((one & ~other).sum()), int((other & ~one).sum())
    return min(1.0, 2 * float(bdtr(min(gained, lost), gained + lost, 0.5)))


def resampled(counts: Floats, groups: Sequence[int], value: Callable[[Floats], Floats]) -> Floats:
    """Bootstrap of a statistic of sums, whole groups drawn together.

    counts: [examples, ...] what each example adds. groups: of each example; -1: on its own. value:
    from the sums of a resample [resamples, ...] to its statistic.

    Returns: [resamples, ...]. Examples of one group are not independent: drawing them one by one
    would make intervals too narrow (Efron & Tibshirani 1993, section 8.6).
    """
    own = np.asarray(groups)
    alone = own < 0
    numbers = np.where(alone, np.arange(len(own)) + own.max(initial=0) + 1, own)
    _, places = np.unique(numbers, return_inverse=True)
    sums = np.zeros((places.max() + 1, *counts.shape[1:]))
    np.add.at(sums, places, counts)
    kinds, many = np.unique(sums.reshape(len(sums), -1), axis=0, return_counts=True)
    draws = np.random.default_rng(0).multinomial(len(sums), many / len(sums), RESAMPLES)
    return value((draws @ kinds).reshape(RESAMPLES, *counts.shape[1:]))


@dataclass(frozen=True)
class Drift:
    """How a series moved from its start to its end: `change` as a share (0.1: 10% up), and the
    p-value that it did not.
    """

    change: float
    p: float


def drift(values: Sequence[float]) -> Drift | None:
    """The straight line through the logarithms of a series (each above 0), by least squares, with
    the t test of its slope; None below four values.
    """
    count = len(values)
    if count < 4:
        return None
    times, logs = np.arange(count) - (count - 1) / 2, np.log(np.asarray(values, float))
    spread = float(times @ times)
    slope = float(times @ logs) / spread
    left = float(((logs - logs.mean() - slope * times) ** 2).sum())
    error = math.sqrt(left / (count - 2) / spread)
    p = 2 * float(stdtr(count - 2, -abs(slope) / error)) if error else float(slope == 0)
    return Drift(math.exp(slope * (count - 1)) - 1, p)


def outliers(values: Sequence[float], share: float = 0.1) -> list[int]:
    """Which values lie apart: their modified z-score (0.6745 times the distance from the median,
    over the median distance) is above 3.5, and they are more than `share` off the median.
    """
    array = np.asarray(values, float)
    middle = float(np.median(array))
    distance = np.abs(array - middle)
    usual = float(np.median(distance))
    far = (0.6745 * distance > 3.5 * usual) & (distance > share * middle)
    return [int(each) for each in np.flatnonzero(far)]


def mean_interval(values: Sequence[float] | Floats) -> Interval:
    """Mean of many values (paired differences, say) with its normal interval, 1.96 standard errors
    to both sides.
    """
    array = np.asarray(values, float)
    mean, half = float(array.mean()), 1.96 * float(array.std(ddof=1)) / math.sqrt(len(array))
    return Interval(mean, mean - half, mean + half)


@cache
def queries_needed(share: float) -> int:
    """The fewest queries from which this percentile may be claimed with 99% confidence while one
    query is left out.

    MLPerf's early-stopping test: the smallest n with share^n + n (1 - share) share^(n-1) <= 1%; 64
    for 0.90, 662 for 0.99.
    """
    count = 2
    while share**count + count * (1 - share) * share ** (count - 1) > 0.01:
        count += 1
    return count


def percentile(values: Sequence[float], share: float) -> float | None:
    """The percentile (0 < share < 1), or None where there are too few values to claim it."""
    if len(values) < queries_needed(share):
        return None
    return float(np.quantile(np.asarray(values, float), share))
