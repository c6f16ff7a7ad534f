import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from harness import stats


def test_ratio_is_student_t_on_the_log_ratios() -> None:
    slow, fast = [2.0, 2.2, 2.1, 1.9, 2.4], [1.0, 1.0, 1.1, 1.0, 1.1]
    logs = np.log(np.array(slow) / np.array(fast))
    expected = scipy_stats.t.interval(0.95, 4, loc=logs.mean(), scale=scipy_stats.sem(logs))
    found = stats.ratio(slow, fast)
    assert math.log(found.value) == pytest.approx(logs.mean())
    assert (math.log(found.low), math.log(found.high)) == pytest.approx(expected)


def test_drift_that_hits_both_sides_of_a_block_alike_leaves_the_ratio_exact() -> None:
    drift = np.linspace(1, 3, 5)
    found = stats.ratio((2 * drift).tolist(), drift.tolist())
    assert (found.value, found.low, found.high) == pytest.approx((2, 2, 2))


def test_one_block_gives_no_interval() -> None:
    assert math.isnan(stats.ratio([2.0], [1.0]).low)


def test_ten_blocks_are_bootstrapped_and_agree_with_scipy() -> None:
    draws = np.random.default_rng(3).normal(0.5, 0.1, 12)
    found = stats.ratio(np.exp(draws).tolist(), [1.0] * 12)
    expected = scipy_stats.bootstrap((draws,), np.mean, method="percentile").confidence_interval
    assert (math.log(found.low), math.log(found.high)) == pytest.approx(tuple(expected), abs=0.01)


def test_interval_of_five_blocks_covers_the_truth_in_95_of_100_sessions() -> None:
    noise = np.random.default_rng(0)
    covered = 0
    for _ in range(1000):
        found = stats.ratio((2 * np.exp(noise.normal(0, 0.05, 5))).tolist(), [1.0] * 5)
        covered += found.low <= 2 <= found.high
    assert 930 <= covered <= 970


@pytest.mark.parametrize(("share", "queries"), [(0.9, 64), (0.99, 662)])
def test_queries_needed_are_those_of_mlperf(share: float, queries: int) -> None:
    assert stats.queries_needed(share) == queries


def test_percentile_is_withheld_from_too_few_queries() -> None:
    values = list(range(663))
    assert stats.percentile(values[:661], 0.99) is None
    assert stats.percentile(values, 0.99) == pytest.approx(np.percentile(values, 99))


def test_mean_interval_is_the_normal_one() -> None:
    values = [0.0, 1.0, 1.0, 0.0, 1.0]
    found = stats.mean_interval(values)
    assert found.high - found.value == pytest.approx(1.96 * scipy_stats.sem(values))


def test_geometric_mean_agrees_with_scipy() -> None:
    assert stats.geometric_mean([1, 2, 8]) == pytest.approx(scipy_stats.gmean([1, 2, 8]))
