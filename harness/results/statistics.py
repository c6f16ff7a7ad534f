"""Intervals, paired tests, percentiles, and drift and outliers of a series of times.

Student (1908) for the interval of a mean; Efron & Tibshirani (1993) and Hesterberg (2015, What
Teachers Should Know About the Bootstrap, section 4) for the bootstrap; the early-stopping test of
MLPerf inference (Reddi et al. 2020) for the number of queries that a percentile needs; McNemar
(1947) for the answers of two systems to the same questions; Welch (1947) for two sessions and Holm
(1979) for many comparisons of them; Iglewicz & Hoaglin (1993) for outliers.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
BOOTSTRAP_FROM = 10
"""Number of blocks from which on the ratio is bootstrapped."""

RESAMPLES = 10_000

INTERVAL_ERRORS = 2 * 1.96
"""Width of a normal 95% interval in standard errors."""

WIDE_FACTOR = 4
"""An interval whose upper end is more than so many times its lower end, a factor of two to each
side, does not support its estimate."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95% confidence interval.

    Attributes:
        value: the estimate.
        low: lower end; nan if there are too few values for an interval.
        high: upper end; nan if there are too few values for an interval.
    """

    value: float
    low: float
    high: float

    @property
    def is_known(self) -> bool:
        """Whether there are enough values for the interval."""
        return not math.isnan(self.low)

    @property
    def is_wide(self) -> bool:
        """Whether the interval of a ratio is not known, or too wide to state the estimate alone."""
        return not self.high <= WIDE_FACTOR * self.low


@dataclass(frozen=True)
class Change:
    """A change between two series.

    Attributes:
        ratio: the mean of the second series over that of the first one.
        p: p-value of the hypothesis that there is no change.
    """

    ratio: Interval
    p: float


@dataclass(frozen=True)
class Drift:
    """A change over the course of one series.

    Attributes:
        change: relative change from start to end (0.1: 10% up).
        p: p-value of the hypothesis that there is no change.
    """

    change: float
    p: float


def estimate_ratio(slow: Sequence[float], fast: Sequence[float]) -> Interval:
    """Return how many times faster `fast` is: the geometric mean of the ratios within blocks.

    Ratios are taken within blocks, so that drift affects both sides alike. Below ten blocks the
    interval is that of Student's t on the log ratios, because a bootstrap over five covers only
    about 85%. From ten on it is the expanded percentile bootstrap (Hesterberg 2015), whose wider
    percentiles correct for the small variance of a bootstrap over few values.

    Args:
        slow: times above 0, one per block.
        fast: times above 0, of the same blocks.
    """
    logs = [math.log(slower / faster) for slower, faster in zip(slow, fast, strict=True)]
    count, mean = len(logs), math.fsum(logs) / len(logs)
    if count == 1:
        return Interval(math.exp(mean), math.nan, math.nan)
    student = _student_quantile(count)
    if count < BOOTSTRAP_FROM:  # plain floats: a leaderboard takes a hundred thousand of these
        variance = math.fsum((value - mean) ** 2 for value in logs) / (count - 1)
        half = student * math.sqrt(variance / count)
        return Interval(math.exp(mean), math.exp(mean - half), math.exp(mean + half))
    from scipy.special import ndtr

    draws = np.random.default_rng(0).choice(logs, (RESAMPLES, count)).mean(axis=1)
    tail = float(ndtr(-student * math.sqrt(count / (count - 1))))
    interval = percentile_interval(mean, draws, tail)
    return Interval(math.exp(mean), math.exp(interval.low), math.exp(interval.high))


def combine_ratios(ratios: Sequence[Interval]) -> Interval:
    """Return the geometric mean of independent ratios, such as speed-ups on several tasks.

    The half widths of the intervals of the logarithms add up as those of independent estimates do.

    Args:
        ratios: each with its interval; at least one.
    """
    count = len(ratios)
    mean = math.fsum(math.log(ratio.value) for ratio in ratios) / count
    below = math.hypot(*(math.log(ratio.value / ratio.low) for ratio in ratios)) / count
    above = math.hypot(*(math.log(ratio.high / ratio.value) for ratio in ratios)) / count
    return Interval(math.exp(mean), math.exp(mean - below), math.exp(mean + above))


@cache
def _student_quantile(count: int) -> float:
    """Half the width of the 95% interval of a mean of so many values, in standard errors."""
    from scipy.special import stdtrit  # slow to import, and not every command needs it

    return float(stdtrit(count - 1, (1 + CONFIDENCE) / 2))


def estimate_change(before: Sequence[float], after: Sequence[float]) -> Change | None:
    """Return the change between two unpaired series, by Welch's t test on the logarithms.

    Args:
        before: values above 0.
        after: values above 0.

    Returns:
        The change; None if a series has fewer than two values.
    """
    if min(len(before), len(after)) < 2:
        return None
    from scipy.special import stdtr, stdtrit

    logs = [np.log(np.asarray(series, float)) for series in (before, after)]
    variances = [float(series.var(ddof=1)) / len(series) for series in logs]
    difference = float(logs[1].mean() - logs[0].mean())
    error = math.sqrt(sum(variances))
    if error == 0.0:
        return Change(Interval(*[math.exp(difference)] * 3), float(difference == 0.0))
    freedom = sum(variances) ** 2 / (
        variances[0] ** 2 / (len(before) - 1) + variances[1] ** 2 / (len(after) - 1)
    )
    half = float(stdtrit(freedom, (1 + CONFIDENCE) / 2)) * error
    interval = Interval(
        math.exp(difference), math.exp(difference - half), math.exp(difference + half)
    )
    return Change(interval, 2 * float(stdtr(freedom, -abs(difference) / error)))


def adjust_p_values(values: Sequence[float]) -> list[float]:
    """Return the p-values of several tests, adjusted for their number (Holm 1979).

    Rejecting only adjusted values below 5% keeps the probability of any false alarm at 5% or less.
    """
    order = sorted(range(len(values)), key=values.__getitem__)
    adjusted, highest = [0.0] * len(values), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(values) - rank) * values[index]))
        adjusted[index] = highest
    return adjusted


def percentile_interval(
    value: float, draws: Floats, tail: float = (1 - CONFIDENCE) / 2
) -> Interval:
    """Return an estimate with the percentile interval of its bootstrap draws.

    Args:
        value: the estimate.
        draws: float64 [resamples].
        tail: the share of draws outside of the interval on each side.
    """
    low, high = np.quantile(draws, [tail, 1 - tail])
    return Interval(value, float(low), float(high))


def geometric_mean(values: Sequence[float]) -> float:
    """Return the geometric mean of values above 0."""
    return math.exp(math.fsum(map(math.log, values)) / len(values))


def mcnemar_p_value(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Return the two-sided p-value of the hypothesis that two systems are right equally often
    (McNemar 1947).

    It is that of the exact binomial test on the examples that only one of them answers right.

    Args:
        first: bool [examples], whether one system is right.
        second: bool [examples], whether the other system is right.
    """
    from scipy.special import bdtr

    gained, lost = int((first & ~second).sum()), int((second & ~first).sum())
    return min(1.0, 2 * float(bdtr(min(gained, lost), gained + lost, 0.5)))


def binomial_p_value(successes: int, count: int, share: float) -> float:
    """Return the probability of at most so many successes in so many trials (one-sided test).

    Args:
        successes: how many trials succeeded.
        count: the number of trials.
        share: the probability of a success under the null hypothesis.
    """
    from scipy.special import bdtr

    return float(bdtr(successes, count, share))


def bootstrap_sums(
    counts: Floats, groups: Sequence[int], statistic: Callable[[Floats], Floats]
) -> Floats:
    """Return the bootstrap draws of a statistic of sums, with whole groups drawn together.

    Examples of one group are not independent: drawing them one by one would make intervals too
    narrow (Efron & Tibshirani 1993, section 8.6).

    Args:
        counts: float64 [examples, ...], what each example adds to the sums.
        groups: the group of each example; -1 if it has none.
        statistic: from the sums of each resample, float64 [resamples, ...].

    Returns:
        The statistic of each resample, [resamples, ...].
    """
    numbers = np.asarray(groups)
    own_numbers = np.arange(len(numbers)) + numbers.max(initial=0) + 1
    numbers = np.where(numbers < 0, own_numbers, numbers)
    _, group_indices = np.unique(numbers, return_inverse=True)
    sums = np.zeros((group_indices.max() + 1, *counts.shape[1:]))
    np.add.at(sums, group_indices, counts)
    distinct, frequencies = np.unique(sums.reshape(len(sums), -1), axis=0, return_counts=True)
    shares = frequencies / len(sums)
    draws = np.random.default_rng(0).multinomial(len(sums), shares, RESAMPLES)
    return statistic((draws @ distinct).reshape(RESAMPLES, *counts.shape[1:]))


def estimate_drift(values: Sequence[float]) -> Drift | None:
    """Return the drift of a series: a straight line through its logarithms, by least squares.

    Args:
        values: values above 0, in order of time.

    Returns:
        The drift, with the t test of its slope; None below four values.
    """
    from scipy.special import stdtr

    count = len(values)
    if count < 4:
        return None
    times, logs = np.arange(count) - (count - 1) / 2, np.log(np.asarray(values, float))
    squares = float(times @ times)
    slope = float(times @ logs) / squares
    residual = float(((logs - logs.mean() - slope * times) ** 2).sum())
    error = math.sqrt(residual / (count - 2) / squares)
    p = 2 * float(stdtr(count - 2, -abs(slope) / error)) if error else float(slope == 0)
    return Drift(math.exp(slope * (count - 1)) - 1, p)


def find_outliers(values: Sequence[float], share: float) -> list[int]:
    """Return the indices of outliers (Iglewicz & Hoaglin 1993).

    The modified z-score of an outlier (0.6745 times its distance from the median, over the median
    of these distances) is above 3.5.

    Args:
        values: the series.
        share: an outlier also differs from the median by more than this share of it.
    """
    array = np.asarray(values, float)
    median = float(np.median(array))
    distances = np.abs(array - median)
    typical = float(np.median(distances))
    far = (0.6745 * distances > 3.5 * typical) & (distances > share * median)
    return [int(index) for index in np.flatnonzero(far)]


def mean_error(values: Sequence[float] | Floats) -> float:
    """Return the standard error of the mean of at least two values."""
    array = np.asarray(values, float)
    return float(array.std(ddof=1)) / math.sqrt(len(array))


def mean_interval(values: Sequence[float] | Floats) -> Interval:
    """Return the mean of many values with its normal interval, `INTERVAL_ERRORS` wide."""
    mean, half = float(np.mean(values)), INTERVAL_ERRORS / 2 * mean_error(values)
    return Interval(mean, mean - half, mean + half)


@cache
def count_needed_queries(share: float) -> int:
    """Return the fewest queries for which a percentile can be claimed with 99% confidence.

    It is the smallest n of MLPerf's early-stopping test, in which one query may exceed the
    percentile: share^n + n (1 - share) share^(n-1) <= 1%; 64 for 0.90, 662 for 0.99.
    """
    count = 2
    while share**count + count * (1 - share) * share ** (count - 1) > 0.01:
        count += 1
    return count


def compute_percentile(values: Sequence[float], share: float) -> float | None:
    """Return a percentile; None if there are too few values to claim it.

    Args:
        values: the values.
        share: above 0 and below 1.
    """
    if len(values) < count_needed_queries(share):
        return None
    return float(np.quantile(np.asarray(values, float), share))
