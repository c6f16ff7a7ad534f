import numpy as np
import pytest
from sklearn.metrics import accuracy_score

from harness.tasks.metrics import accuracy, majority_share


def test_accuracy_agrees_with_scikit_learn_and_its_error_is_binomial() -> None:
    draw = np.random.default_rng(0)
    labels, answers = draw.integers(0, 3, 500), draw.integers(0, 3, 500)
    found = accuracy(answers.tolist(), labels.tolist())
    expected = accuracy_score(labels, answers)
    assert found.value == pytest.approx(expected)
    assert found.se == pytest.approx(np.sqrt(expected * (1 - expected) / 500))


def test_majority_share_is_that_of_the_most_frequent_label() -> None:
    assert majority_share([0, 1, 1, 2]) == 0.5
