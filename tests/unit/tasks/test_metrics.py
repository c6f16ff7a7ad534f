"""Metrics: values, standard errors, comparisons."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from harness.tasks.metrics import (
    ACCURACY,
    METRICS,
    Comparison,
    compare,
    estimate_difference_error,
    score_overlap,
)

UNGROUPED = [-1] * 500
F1 = METRICS["f1"]


def draw_labels(seed: int, classes: int = 2) -> list[int]:
    return np.random.default_rng(seed).integers(0, classes, 500).tolist()


def test_accuracy_agrees_with_scikit_learn_and_its_error_is_binomial() -> None:
    labels, answers = draw_labels(0, 3), draw_labels(1, 3)
    score = ACCURACY.score(answers, labels, UNGROUPED)
    expected = accuracy_score(labels, answers)
    assert score.value == pytest.approx(expected)
    assert score.se == pytest.approx(np.sqrt(expected * (1 - expected) / 500))


def test_f1_agrees_with_scikit_learn_and_its_error_with_scipys_bootstrap() -> None:
    labels, answers = draw_labels(0), draw_labels(1)
    score = F1.score(answers, labels, UNGROUPED)
    assert score.value == pytest.approx(f1_score(labels, answers))
    expected = scipy_stats.bootstrap(
        (labels, answers), f1_score, paired=True, vectorized=False, n_resamples=1000, rng=0
    )
    assert score.se == pytest.approx(expected.standard_error, rel=0.1)


def test_error_of_grouped_examples_is_that_of_their_groups() -> None:
    """Five copies of an example hold no more information than one."""
    labels, answers = draw_labels(0)[:100], draw_labels(1)[:100]
    single = ACCURACY.score(answers, labels, [-1] * 100)
    copied = ACCURACY.score(answers * 5, labels * 5, list(range(100)) * 5)
    assert copied.value == single.value
    assert copied.se == pytest.approx(single.se, rel=0.05)
    naive = ACCURACY.score(answers * 5, labels * 5, [-1] * 500)
    assert naive.se < 0.5 * copied.se


def test_majority_is_the_best_constant_answer() -> None:
    assert ACCURACY.majority_value([0, 1, 1, 2]) == 0.5
    assert F1.majority_value([0, 0, 0, 1]) == pytest.approx(f1_score([0, 0, 0, 1], [1] * 4))


def compare_by(
    name: str, own: list[int], other: list[int], groups: list[int], share: float = 1.0
) -> Comparison:
    return compare(METRICS[name], own, other, draw_labels(0), groups, 0.5, share)


def flip(answers: list[int], indices: range) -> list[int]:
    return [1 - answer if index in indices else answer for index, answer in enumerate(answers)]


def test_paired_accuracy_is_mcnemars_exact_test() -> None:
    """Textbook counts: 25 gained and 10 lost of 500."""
    labels = draw_labels(0)
    own, other = flip(labels, range(10)), flip(labels, range(10, 35))
    comparison = compare(ACCURACY, own, other, labels, UNGROUPED, 0.5, 1.0)
    assert comparison.difference.value == pytest.approx(15 / 500)
    assert comparison.p == pytest.approx(scipy_stats.binomtest(10, 35).pvalue)
    differences = np.equal(own, labels).astype(float) - np.equal(other, labels)
    half = 1.96 * scipy_stats.sem(differences)
    assert comparison.difference.high - comparison.difference.value == pytest.approx(half)


def bootstrap_f1_difference(labels: list[int], own: list[int], other: list[int]) -> Any:
    return scipy_stats.bootstrap(
        (labels, own, other),
        lambda labels, own, other: f1_score(labels, own) - f1_score(labels, other),
        paired=True,
        vectorized=False,
        n_resamples=1000,
        method="percentile",
        rng=0,
    )


def test_paired_f1_is_a_bootstrap_of_the_difference() -> None:
    labels = draw_labels(0)
    own, other = flip(labels, range(60)), flip(labels, range(40, 140))
    comparison = compare(F1, own, other, labels, UNGROUPED, 0.5, 1.0)
    assert comparison.difference.value == pytest.approx(
        f1_score(labels, own) - f1_score(labels, other)
    )
    expected = bootstrap_f1_difference(labels, own, other).confidence_interval
    assert comparison.difference.low == pytest.approx(expected.low, abs=0.01)
    assert comparison.difference.high == pytest.approx(expected.high, abs=0.01)
    assert comparison.p < 0.05


def test_error_of_a_paired_difference_agrees_with_scipy() -> None:
    labels = draw_labels(0)
    own, other = flip(labels, range(60)), flip(labels, range(40, 140))
    error = estimate_difference_error(ACCURACY, own, other, labels, UNGROUPED)
    differences = np.equal(own, labels).astype(float) - np.equal(other, labels)
    assert error == pytest.approx(scipy_stats.sem(differences))
    assert estimate_difference_error(ACCURACY, own, own, labels, UNGROUPED) == 0
    expected = bootstrap_f1_difference(labels, own, other).standard_error
    error = estimate_difference_error(F1, own, other, labels, UNGROUPED)
    assert error == pytest.approx(expected, rel=0.1)
    groups = [index // 50 for index in range(500)]
    assert estimate_difference_error(F1, own, other, labels, groups) > 1.5 * error


def build_truths(name: str, labels: list[int]) -> list[object]:
    """Return the labels in the form of the metric, with two examples per question or pair."""
    if name in ("f1a+em", "accuracy+parity"):
        return [[label, index // 2] for index, label in enumerate(labels)]
    if name == "f1+em":
        return [[[1.0, 1.0], [0.5, 0.0]][:: 1 - 2 * label] for label in labels]
    return labels


@pytest.mark.parametrize("name", METRICS)
def test_a_system_does_not_differ_from_itself(name: str) -> None:
    truths = build_truths(name, draw_labels(0))
    groups = [index // 2 for index in range(500)]
    comparison = compare(METRICS[name], draw_labels(1), draw_labels(1), truths, groups, 0.5, 1.0)
    assert (comparison.difference.value, comparison.p) == (0, 1)


@pytest.mark.parametrize("name", METRICS)
def test_a_perfect_system_scores_one(name: str) -> None:
    labels = draw_labels(0)
    score = METRICS[name].score(labels, build_truths(name, labels), UNGROUPED)
    assert score.value == pytest.approx(1.0)


def test_groups_widen_the_paired_interval() -> None:
    own, other = flip(draw_labels(0), range(50)), flip(draw_labels(0), range(100))
    groups = [index // 50 for index in range(500)]
    narrow = compare_by("accuracy", own, other, UNGROUPED).difference
    wide = compare_by("accuracy", own, other, groups).difference
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)


def test_floor_margin_is_the_gain_less_a_share_of_the_others_gain() -> None:
    own, other = flip(draw_labels(0), range(50)), flip(draw_labels(0), range(40))
    comparison = compare_by("accuracy", own, other, UNGROUPED, share=0.95)
    assert comparison.floor_margin.value == pytest.approx((0.9 - 0.5) - 0.95 * (0.92 - 0.5))


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=2, max_size=40))
def test_permuted_examples_have_the_same_score(pairs: list[tuple[int, int]]) -> None:
    answers, labels = (list(column) for column in zip(*pairs, strict=True))
    for name, metric in METRICS.items():
        truths = build_truths(name, labels)
        value = metric.value(metric.counts(answers, truths).sum(axis=0))
        reverse = metric.value(metric.counts(answers[::-1], truths[::-1]).sum(axis=0))
        assert value == pytest.approx(reverse)


def test_macro_f1_and_matthews_agree_with_scikit_learn() -> None:
    labels, answers = draw_labels(0, 3), draw_labels(1, 3)
    both = METRICS["accuracy+macro-f1"].score(answers, labels, UNGROUPED)
    assert both.parts["macro-F1"] == pytest.approx(f1_score(labels, answers, average="macro"))
    assert both.value == pytest.approx((both.parts["macro-F1"] + both.parts["accuracy"]) / 2)
    labels, answers = draw_labels(0), draw_labels(2)
    value = METRICS["matthews"].score(answers, labels, UNGROUPED).value
    assert value == pytest.approx(matthews_corrcoef(labels, answers))


@pytest.mark.parametrize("labels", [[0, 0, 1, 1, 0], [0, 0, 0, 0, 0], [2, 2, 1, 1, 0]])
@pytest.mark.parametrize("answers", [[0, 1, 1, 1, 0], [2, 2, 2, 2, 2], [0, 0, 0, 0, 0]])
def test_macro_f1_counts_only_classes_that_occur_or_are_answered(
    labels: list[int], answers: list[int]
) -> None:
    metric = METRICS["macro-f1"]
    if max(answers) > max(labels):
        comparison = compare(metric, answers, labels, labels, [-1] * 5, 0.0, 1.0)
        expected = f1_score(labels, answers, average="macro", zero_division=0) - 1
        assert comparison.difference.value == pytest.approx(expected)
    value = metric.score(answers, labels, [-1] * 5).value
    assert value == pytest.approx(f1_score(labels, answers, average="macro", zero_division=0))


MOST_FREQUENT = {  # in per cent, on the test splits: Wang et al. 2019, SuperGLUE, Table 3
    "boolq": (62.3,),
    "cb": (21.7, 48.4),
    "copa": (50.0,),
    "multirc": (61.1, 0.3),
    "record": (33.4, 32.5),
    "rte": (50.3,),
    "wic": (50.0,),
    "wsc": (65.1,),
}


def test_most_frequent_class_of_cb_scores_as_published() -> None:
    labels = [0] * 121 + [1] * 100 + [2] * 29  # 121 of 250 are 48.4%
    score = METRICS["accuracy+macro-f1"].score([0] * 250, labels, [-1] * 250)
    f1, accuracy = MOST_FREQUENT["cb"]
    assert 100 * score.parts["accuracy"] == pytest.approx(accuracy, abs=0.05)
    assert 100 * score.parts["macro-F1"] == pytest.approx(f1, abs=0.05)


def test_mean_over_tasks_of_the_mean_over_metrics_is_the_published_average() -> None:
    """The published average is 47.1."""
    means = [sum(values) / len(values) for values in MOST_FREQUENT.values()]
    assert round(sum(means) / len(means) + 1e-9, 1) == 47.1
    for name, metric in METRICS.items():
        score = metric.score(draw_labels(1), build_truths(name, draw_labels(0)), UNGROUPED)
        parts = [value for part, value in score.parts.items() if part in metric.parts]
        assert not parts or score.value == pytest.approx(sum(parts) / len(parts))


def test_a_constant_answer_has_gender_parity_and_no_correlation() -> None:
    """As published for the diagnostics: 100.0 / 50.0, and 0.0."""
    pairs = [[number % 2, number // 4] for number in range(0, 400, 2)]
    score = METRICS["accuracy+parity"].score([1] * 200, pairs, [-1] * 200)
    assert score.parts["gender parity"] == 1.0
    assert score.value == score.parts["accuracy"] == 0.0
    assert METRICS["matthews"].score([1] * 500, draw_labels(0), UNGROUPED).value == 0.0


def test_gender_parity_is_the_share_of_pairs_with_one_answer() -> None:
    pairs = [[0, 7], [0, 7], [1, 3], [1, 3], [0, 5], [0, 5]]
    score = METRICS["accuracy+parity"].score([0, 0, 1, 0, 1, 1], pairs, [7, 7, 3, 3, 5, 5])
    assert score.parts == {"accuracy": 3 / 6, "gender parity": pytest.approx(2 / 3)}


def test_multirc_counts_a_question_only_where_all_its_answers_are_right() -> None:
    questions = [9, 9, 9, 4, 4, 9]  # its answers need not be consecutive
    labels, answers = [1, 0, 1, 0, 1, 0], [1, 0, 1, 1, 1, 0]
    truths = [list(truth) for truth in zip(labels, questions, strict=True)]
    score = METRICS["f1a+em"].score(answers, truths, [0] * 3 + [1] * 2 + [0])
    assert score.parts["EM"] == 0.5
    assert score.parts["F1a"] == pytest.approx(f1_score(labels, answers))


@pytest.mark.parametrize(
    ("answer", "golds", "f1", "exact"),
    [
        ("Benazir Bhutto", ["Bhutto", "Benazir Bhutto"], 1, 1),  # the best of several
        ("the U.S.", ["US"], 1, 1),  # article and punctuation
        ("An Apple,  a day!", ["apple day"], 1, 1),  # and spaces
        ("day apple", ["apple day"], 1, 0),  # the same words, not the same answer
        ("Bhutto", ["Benazir Bhutto", "Zardari"], 2 / 3, 0),
        ("theatre", ["atre"], 0, 0),  # an article inside a word stays
        ("new new york", ["new york"], 4 / 5, 0),  # a word counts as often as it occurs
        ("anything", [], 0, 0),
        ("the", ["a"], 0, 1),  # nothing is left of either
    ],
)
def test_record_compares_words(answer: str, golds: list[str], f1: float, exact: float) -> None:
    assert score_overlap(answer, golds) == (pytest.approx(f1), exact)


def test_record_scores_the_chosen_candidate() -> None:
    truths = [[[1.0, 1.0], [0.5, 0.0]], [[0.0, 0.0], [1.0, 1.0], [0.4, 0.0]], [[1.0, 1.0]]]
    score = METRICS["f1+em"].score([1, 2, 1], truths, [0, 0, 1])
    assert score.parts == {"F1": pytest.approx(1.9 / 3), "EM": pytest.approx(1 / 3)}
    assert METRICS["f1+em"].majority_value(truths) == pytest.approx((2.0 / 3 + 2 / 3) / 2)
