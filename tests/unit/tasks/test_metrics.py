import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from harness.tasks.metrics import ACCURACY, METRICS, compare, overlap

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


def truths(name: str, labels: list[int]) -> list[object]:
    """The labels in the form that the metric wants: two examples a question or a pair."""
    if name in ("f1a+em", "accuracy+parity"):
        return [[label, place // 2] for place, label in enumerate(labels)]
    if name == "f1+em":
        return [[[1.0, 1.0], [0.5, 0.0]][:: 1 - 2 * label] for label in labels]
    return labels


@pytest.mark.parametrize("name", METRICS)
def test_a_system_does_not_differ_from_itself(name: str) -> None:
    asked = truths(name, drawn(0))
    groups = [place // 2 for place in range(500)]
    found = compare(METRICS[name], drawn(1), drawn(1), asked, groups, 0.5, 1.0)
    assert (found.difference.value, found.p) == (0, 1)


@pytest.mark.parametrize("name", METRICS)
def test_a_perfect_system_scores_one(name: str) -> None:
    labels = drawn(0)
    assert METRICS[name].score(labels, truths(name, labels), ALONE).value == pytest.approx(1.0)


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
    answers, labels = (list(each) for each in zip(*pairs, strict=True))
    for name, metric in METRICS.items():
        asked = truths(name, labels)
        one = metric.value(metric.counts(answers, asked).sum(axis=0))
        other = metric.value(metric.counts(answers[::-1], asked[::-1]).sum(axis=0))
        assert one == pytest.approx(other)


def test_macro_f1_and_matthews_agree_with_scikit_learn() -> None:
    labels, answers = drawn(0, 3), drawn(1, 3)
    both = METRICS["accuracy+macro-f1"].score(answers, labels, ALONE)
    assert both.parts["macro-F1"] == pytest.approx(f1_score(labels, answers, average="macro"))
    assert both.value == pytest.approx((both.parts["macro-F1"] + both.parts["accuracy"]) / 2)
    labels, answers = drawn(0), drawn(2)
    found = METRICS["matthews"].score(answers, labels, ALONE).value
    assert found == pytest.approx(matthews_corrcoef(labels, answers))


@pytest.mark.parametrize("labels", [[0, 0, 1, 1, 0], [0, 0, 0, 0, 0], [2, 2, 1, 1, 0]])
@pytest.mark.parametrize("answers", [[0, 1, 1, 1, 0], [2, 2, 2, 2, 2], [0, 0, 0, 0, 0]])
def test_macro_f1_counts_only_classes_that_occur_or_are_answered(
    labels: list[int], answers: list[int]
) -> None:
    metric = METRICS["macro-f1"]
    if max(answers) > max(labels):
        pad = compare(metric, answers, labels, labels, [-1] * 5, 0.0, 1.0)
        expected = f1_score(labels, answers, average="macro", zero_division=0) - 1
        assert pad.difference.value == pytest.approx(expected)
    found = metric.score(answers, labels, [-1] * 5).value
    assert found == pytest.approx(f1_score(labels, answers, average="macro", zero_division=0))


MOST_FREQUENT = {  # of the test splits: Wang et al. 2019, SuperGLUE, Table 3, per cent
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
    found = METRICS["accuracy+macro-f1"].score([0] * 250, labels, [-1] * 250)
    f1, accuracy = MOST_FREQUENT["cb"]
    assert 100 * found.parts["accuracy"] == pytest.approx(accuracy, abs=0.05)
    assert 100 * found.parts["macro-F1"] == pytest.approx(f1, abs=0.05)


def test_mean_over_tasks_of_the_mean_over_metrics_is_the_published_average() -> None:
    """47.1, as the score of each task is the mean of its metrics here too."""
    tasks = [sum(each) / len(each) for each in MOST_FREQUENT.values()]
    assert round(sum(tasks) / len(tasks) + 1e-9, 1) == 47.1
    for name, metric in METRICS.items():
        score = metric.score(drawn(1), truths(name, drawn(0)), ALONE)
        counted = [value for part, value in score.parts.items() if part in metric.parts]
        assert not counted or score.value == pytest.approx(sum(counted) / len(counted))


def test_a_constant_answer_has_gender_parity_and_no_correlation() -> None:
    """As published for the diagnostics: 100.0 / 50.0, and 0.0."""
    pairs = [[number % 2, number // 4] for number in range(0, 400, 2)]
    found = METRICS["accuracy+parity"].score([1] * 200, pairs, [-1] * 200)
    assert found.parts["gender parity"] == 1.0
    assert found.value == found.parts["accuracy"] == 0.0
    assert METRICS["matthews"].score([1] * 500, drawn(0), ALONE).value == 0.0


def test_gender_parity_is_the_share_of_pairs_with_one_answer() -> None:
    pairs = [[0, 7], [0, 7], [1, 3], [1, 3], [0, 5], [0, 5]]
    found = METRICS["accuracy+parity"].score([0, 0, 1, 0, 1, 1], pairs, [7, 7, 3, 3, 5, 5])
    assert found.parts == {"accuracy": 3 / 6, "gender parity": pytest.approx(2 / 3)}


def test_multirc_counts_a_question_only_where_all_its_answers_are_right() -> None:
    questions = [9, 9, 9, 4, 4, 9]  # also where they do not stand together
    labels, answers = [1, 0, 1, 0, 1, 0], [1, 0, 1, 1, 1, 0]
    asked = [list(each) for each in zip(labels, questions, strict=True)]
    found = METRICS["f1a+em"].score(answers, asked, [0] * 3 + [1] * 2 + [0])
    assert found.parts["EM"] == 0.5
    assert found.parts["F1a"] == pytest.approx(f1_score(labels, answers))


@pytest.mark.parametrize(
    ("answer", "golds", "f1", "exact"),
    [
        ("Benazir Bhutto", ["Bhutto", "Benazir Bhutto"], 1, 1),  # the best of several
        ("the U.S.", ["US"], 1, 1),  # article and punctuation
        ("An Apple,  a day!", ["apple day"], 1, 1),  # and spaces
        ("day apple", ["apple day"], 1, 0),  # the same words, not the same answer
        ("Bhutto", ["Benazir Bhutto", "Zardari"], 2 / 3, 0),
        ("theatre", ["atre"], 0, 0),  # an article inside a word stays
        ("new new york", ["new york"], 4 / 5, 0),  # a word counts as often as it is there
        ("anything", [], 0, 0),
        ("the", ["a"], 0, 1),  # nothing is left of either
    ],
)
def test_record_compares_words(answer: str, golds: list[str], f1: float, exact: float) -> None:
    assert overlap(answer, golds) == (pytest.approx(f1), exact)


def test_record_scores_the_chosen_candidate() -> None:
    asked = [[[1.0, 1.0], [0.5, 0.0]], [[0.0, 0.0], [1.0, 1.0], [0.4, 0.0]], [[1.0, 1.0]]]
    found = METRICS["f1+em"].score([1, 2, 1], asked, [0, 0, 1])
    assert found.parts == {"F1": pytest.approx(1.9 / 3), "EM": pytest.approx(1 / 3)}
    assert METRICS["f1+em"].majority(asked) == pytest.approx((2.0 / 3 + 2 / 3) / 2)
