"""Statistics, against those of scipy, published examples and simulated sessions."""

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from harness.results import statistics


def test_ratio_is_student_t_on_the_log_ratios() -> None:
    slow, fast = [2.0, 2.2, 2.1, 1.9, 2.4], [1.0, 1.0, 1.1, 1.0, 1.1]
    logs = np.log(np.array(slow) / np.array(fast))
    expected = scipy_stats.t.interval(0.95, 4, loc=logs.mean(), scale=scipy_stats.sem(logs))
    interval = statistics.estimate_ratio(slow, fast)
    assert math.log(interval.value) == pytest.approx(logs.mean())
    assert (math.log(interval.low), math.log(interval.high)) == pytest.approx(expected)


def test_drift_that_hits_both_sides_of_a_block_alike_leaves_the_ratio_exact() -> None:
    drift = np.linspace(1, 3, 5)
    interval = statistics.estimate_ratio((2 * drift).tolist(), drift.tolist())
    assert (interval.value, interval.low, interval.high) == pytest.approx((2, 2, 2))


def test_one_block_gives_no_interval() -> None:
    assert math.isnan(statistics.estimate_ratio([2.0], [1.0]).low)


def test_ten_blocks_are_bootstrapped_and_agree_with_scipy() -> None:
    draws = np.random.default_rng(3).normal(0.5, 0.1, 12)
    interval = statistics.estimate_ratio(np.exp(draws).tolist(), [1.0] * 12)
    tail = scipy_stats.norm.cdf(-scipy_stats.t.ppf(0.975, 11) * math.sqrt(12 / 11))
    expected = scipy_stats.bootstrap(
        (draws,), np.mean, method="percentile", confidence_level=1 - 2 * tail
    ).confidence_interval
    assert (math.log(interval.low), math.log(interval.high)) == pytest.approx(
        tuple(expected), abs=0.01
    )


def test_interval_of_five_blocks_covers_the_truth_in_95_of_100_sessions() -> None:
    noise = np.random.default_rng(0)
    covered = 0
    for _ in range(1000):
        interval = statistics.estimate_ratio(
            (2 * np.exp(noise.normal(0, 0.05, 5))).tolist(), [1.0] * 5
        )
        covered += interval.low <= 2 <= interval.high
    assert 930 <= covered <= 970


@pytest.mark.parametrize(("share", "queries"), [(0.9, 64), (0.99, 662)])
def test_needed_queries_are_those_of_mlperf(share: float, queries: int) -> None:
    assert statistics.count_needed_queries(share) == queries


def test_percentile_is_withheld_from_too_few_queries() -> None:
    values = list(range(663))
    assert statistics.compute_percentile(values[:661], 0.99) is None
    assert statistics.compute_percentile(values, 0.99) == pytest.approx(np.percentile(values, 99))


def test_mean_interval_is_the_normal_one() -> None:
    values = [0.0, 1.0, 1.0, 0.0, 1.0]
    interval = statistics.mean_interval(values)
    assert interval.high - interval.value == pytest.approx(1.96 * scipy_stats.sem(values))


def test_geometric_mean_agrees_with_scipy() -> None:
    assert statistics.geometric_mean([1, 2, 8]) == pytest.approx(scipy_stats.gmean([1, 2, 8]))


def simulate_slowdowns(noise: np.random.Generator, slots: int) -> np.ndarray:
    """Return how many times slower the machine is in each slot, float64 [slots].

    It drifts by up to 60%, follows a random walk, and has a spike in one slot in fifteen.
    """
    drift = np.linspace(0, noise.uniform(-0.6, 0.6), slots)
    walk = np.cumsum(noise.normal(0, 0.02, slots))
    spikes = (noise.random(slots) < 1 / 15) * noise.exponential(0.15, slots)
    return np.exp(drift + walk + spikes + noise.normal(0, 0.03, slots))


def compute_unpaired_interval(slow: np.ndarray, fast: np.ndarray) -> tuple[float, float]:
    """Return Welch's interval of the ratio, as a script that measures the systems one by one."""
    test = scipy_stats.ttest_ind(np.log(slow), np.log(fast), equal_var=False)
    interval = test.confidence_interval()
    return math.exp(interval.low), math.exp(interval.high)


@pytest.mark.parametrize("blocks", [5, 9, 12, 20])
def test_paired_interval_covers_the_truth_under_drift_and_spikes_and_unpaired_does_not(
    blocks: int,
) -> None:
    """200 sessions of four systems; the truth is 3x."""
    noise = np.random.default_rng(blocks)
    sessions, systems, truth = 200, 4, 3.0
    paired = unpaired = 0
    for _ in range(sessions):
        slowdowns = simulate_slowdowns(noise, blocks * systems)
        slow, fast = [], []
        for block in range(blocks):
            slots = block * systems + noise.permutation(systems)
            slow.append(truth * slowdowns[slots[0]])
            fast.append(slowdowns[slots[1]])
        interval = statistics.estimate_ratio(slow, fast)
        paired += interval.low <= truth <= interval.high
        low, high = compute_unpaired_interval(
            truth * slowdowns[:blocks], slowdowns[blocks : 2 * blocks]
        )
        unpaired += low <= truth <= high
    assert 0.92 * sessions <= paired <= 0.98 * sessions
    assert unpaired < 0.85 * sessions


def test_mcnemar_agrees_with_scipy_and_with_agrestis_example() -> None:
    """Agresti (2002), table 10.1: 150 and 86 of 1,600 changed their mind; z^2 = 17.36."""
    first = np.array([True] * 150 + [False] * 86 + [True] * 1364)
    second = np.array([False] * 150 + [True] * 86 + [True] * 1364)
    p = statistics.mcnemar_p_value(first, second)
    assert p == pytest.approx(scipy_stats.binomtest(86, 236).pvalue)
    assert p == pytest.approx(scipy_stats.chi2.sf(17.36, 1), rel=0.5)
    assert statistics.mcnemar_p_value(first, first) == 1


def test_resampling_whole_groups_agrees_with_scipy() -> None:
    values = np.random.default_rng(1).normal(0, 1, (40, 1))
    draws = statistics.bootstrap_sums(values, [-1] * 40, lambda sums: sums[..., 0] / 40)
    expected = scipy_stats.bootstrap((values[:, 0],), np.mean, method="percentile", rng=0)
    assert draws.std(ddof=1) == pytest.approx(expected.standard_error, rel=0.03)
    shuffled = np.random.default_rng(2).permutation(np.repeat(np.arange(40), 3))
    copies = statistics.bootstrap_sums(
        values[shuffled], shuffled.tolist(), lambda sums: sums[..., 0] / 120
    )
    assert copies.std(ddof=1) == pytest.approx(draws.std(ddof=1), rel=0.03)


@pytest.mark.parametrize("slope", [0.0, 0.02, -0.3])
def test_drift_is_the_regression_of_scipy(slope: float) -> None:
    noise = np.random.default_rng(5).normal(0, 0.02, 8)
    drift = statistics.estimate_drift(np.exp(slope * np.arange(8) + noise).tolist())
    expected = scipy_stats.linregress(np.arange(8), slope * np.arange(8) + noise)
    assert drift is not None
    assert drift.change == pytest.approx(math.exp(7 * expected.slope) - 1)
    assert drift.p == pytest.approx(expected.pvalue)


def test_drift_needs_four_values() -> None:
    assert statistics.estimate_drift([1.0, 2.0, 3.0]) is None
    assert statistics.estimate_drift([1.0] * 4) == statistics.Drift(0.0, 1.0)


def test_outliers_are_those_of_the_modified_z_score() -> None:
    values = [1.0, 1.02, 0.98, 1.01, 0.99, 1.6]
    scale = scipy_stats.median_abs_deviation(values)
    scores = 0.6745 * np.abs(np.array(values) - np.median(values)) / scale
    assert statistics.find_outliers(values, 0.1) == list(np.flatnonzero(scores > 3.5)) == [5]
    assert statistics.find_outliers([1.0, 1.0, 1.0, 1.0, 1.05], 0.1) == [], (
        "an outlier by its score, but only 5% off"
    )
