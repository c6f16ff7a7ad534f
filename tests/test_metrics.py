import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from sklearn.metrics import accuracy_score, f1_score

from harness.tasks.metrics import ACCURACY, METRICS, compare

ALONE = [-1] * 500
F1 = METRICS["f1"]


def drawn(seed: int, classes: int = 2) -> list[int]:
    return np.random.default_rng(seed).integers(0, classes, 500).tolist()


def test_accuracy_agrees_with_scikit_learn_and_its_error_is_binomial() -> None:
    labels, answers = drawn(0, 3), drawn(1, 3)
    found = ACCURACY.score(answers, labels, ALONE)
    expected = accuracy_score(labels, answers)
    assert found.value == pytest.approx(expected)
    assert found.se == pytest.approx(np.sqrt(expected * (1 - expected) / 500))


def test_f1_agrees_with_scikit_learn_and_its_error_with_scipys_bootstrap() -> None:
    labels, answers = drawn(0), drawn(1)
    found = F1.score(answers, labels, ALONE)
    assert found.value == pytest.approx(f1_score(labels, answers))
    expected = scipy_stats.bootstrap(
        (labels, answers), f1_score, paired=True, vectorized=False, n_resamples=1000, rng=0
    )
    assert found.se == pytest.approx(expected.standard_error, rel=0.1)


def test_error_of_grouped_examples_is_that_of_their_groups() -> None:
    """Five copies of every example say no more than one of each."""
    labels, answers = drawn(0)[:100], drawn(1)[:100]
    alone = ACCURACY.score(answers, labels, [-1] * 100)
    copied = ACCURACY.score(answers * 5, labels * 5, list(range(100)) * 5)
    assert copied.value == alone.value
    assert copied.se == pytest.approx(alone.se, rel=0.05)
    naive = ACCURACY.score(answers * 5, labels * 5, [-1] * 500)
    assert naive.se < 0.5 * copied.se


def test_majority_is_the_best_constant_answer() -> None:
    assert ACCURACY.majority([0, 1, 1, 2]) == 0.5
    assert F1.majority([0, 0, 0, 1]) == pytest.approx(f1_score([0, 0, 0, 1], [1] * 4))


def compared(name: str, own: list[int], other: list[int], groups: list[int], share: float = 1.0):
    return compare(METRICS[name], own, other, drawn(0), groups, 0.5, share)


def flipped(answers: list[int], places: range) -> list[int]:
    return [1 - each if place in places else each for place, each in enumerate(answers)]


def test_paired_accuracy_is_mcnemars_exact_test() -> None:
    """Textbook counts: 25 gained and 10 lost of 500."""
    labels = drawn(0)
    own, other = flipped(labels, range(10)), flipped(labels, range(10, 35))
    found = compare(ACCURACY, own, other, labels, ALONE, 0.5, 1.0)
    assert found.difference.value == pytest.approx(15 / 500)
    assert found.p == pytest.approx(scipy_stats.binomtest(10, 35).pvalue)
    apart = np.equal(own, labels).astype(float) - np.equal(other, labels)
    half = 1.96 * scipy_stats.sem(apart)
    assert found.difference.high - found.difference.value == pytest.approx(half)


def test_paired_f1_is_a_bootstrap_of_the_difference() -> None:
    labels, own, other = drawn(0), flipped(drawn(0), range(60)), flipped(drawn(0), range(40, 140))
    found = compare(F1, own, other, labels, ALONE, 0.5, 1.0)
    assert found.difference.value == pytest.approx(f1_score(labels, own) - f1_score(labels, other))
    expected = scipy_stats.bootstrap(
        (labels, own, other),
        lambda labels, own, other: f1_score(labels, own) - f1_score(labels, other),
        paired=True,
        vectorized=False,
        n_resamples=1000,
        method="percentile",
        rng=0,
    ).confidence_interval
    assert found.difference.low == pytest.approx(expected.low, abs=0.01)
    assert found.difference.high == pytest.approx(expected.high, abs=0.01)
    assert found.p < 0.05


@pytest.mark.parametrize("name", METRICS)
def test_a_system_does_not_differ_from_itself(name: str) -> None:
    found = compared(name, drawn(1), drawn(1), ALONE)
    assert (found.difference.value, found.p) == (0, 1)


def test_groups_widen_the_paired_interval() -> None:
    own, other = flipped(drawn(0), range(50)), flipped(drawn(0), range(100))
    groups = [place // 50 for place in range(500)]
    narrow = compared("accuracy", own, other, ALONE).difference
    wide = compared("accuracy", own, other, groups).difference
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)


def test_floor_interval_is_about_the_kept_share_of_the_gain() -> None:
    own, other = flipped(drawn(0), range(50)), flipped(drawn(0), range(40))
    found = compared("accuracy", own, other, ALONE, share=0.95)
    assert found.kept.value == pytest.approx((0.9 - 0.5) - 0.95 * (0.92 - 0.5))


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=2, max_size=40))
def test_permuted_examples_have_the_same_score(pairs: list[tuple[int, int]]) -> None:
    backwards = pairs[::-1]
    for metric in METRICS.values():
        one, other = (
            metric.value(metric.counts(*zip(*each, strict=True)).sum(axis=0))
            for each in (pairs, backwards)
        )
        assert one == pytest.approx(other)
