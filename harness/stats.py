"""Intervals and percentiles.

Student (1908) for the interval of a mean; Efron & Tibshirani (1993) for the bootstrap; the early-
stopping test of MLPerf inference (Reddi et al. 2020) for how many queries a percentile needs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.special import stdtrit

CONFIDENCE = 0.95
BOOTSTRAP_FROM = 10
RESAMPLES = 10_000


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
    below ten blocks; percentile bootstrap from ten on, because over five blocks it covers only
    about 85%.
    """
    logs = np.log(np.asarray(slow, float) / np.asarray(fast, float))
    mean = float(logs.mean())
    if len(logs) == 1:
        return Interval(math.exp(mean), math.nan, math.nan)
    if len(logs) < BOOTSTRAP_FROM:
        half = (
            float(stdtrit(len(logs) - 1, (1 + CONFIDENCE) / 2))
            * float(logs.std(ddof=1))
            / math.sqrt(len(logs))
        )
        return Interval(math.exp(mean), math.exp(mean - half), math.exp(mean + half))
    draws = np.random.default_rng(0).choice(logs, (RESAMPLES, len(logs))).mean(axis=1)
    low, high = np.quantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(math.exp(mean), math.exp(float(low)), math.exp(float(high)))


def geometric_mean(values: Sequence[float]) -> float:
    """The n-th root of the product of n values, each above 0."""
    return math.exp(float(np.mean(np.log(values))))


def mean_interval(values: Sequence[float]) -> Interval:
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
