import math

import pytest
import torch

from harness.optimize.training import losses


def test_soft_cross_entropy_equals_a_calculation_by_hand() -> None:
    student = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    teacher = torch.tensor([[2.0, 0.0], [0.0, 4.0]])
    # T = 2; first row: teacher (e/(e+1), 1/(e+1)); student (sqrt e/(sqrt e+1), ...)
    e, root = math.e, math.exp(0.5)
    first = -(e / (e + 1) * math.log(root / (root + 1)) + 1 / (e + 1) * math.log(1 / (root + 1)))
    second = math.log(2)  # an undecided student, whatever the teacher's logits
    expected = 4 * (first + second) / 2
    assert losses.soft_cross_entropy(student, teacher, 2.0).item() == pytest.approx(expected)


def test_hidden_mse_equals_a_calculation_by_hand_and_ignores_padding() -> None:
    student = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[0.0, 0.0], [9.0, 9.0]]])
    teacher = torch.tensor([[[1.0, 0.0], [3.0, 3.0]], [[2.0, 0.0], [0.0, 0.0]]])
    mask = torch.tensor([[True, True], [True, False]])
    assert losses.hidden_mse(student, teacher, mask).item() == pytest.approx((4 + 1 + 4) / 6)


def test_relation_equals_a_calculation_by_hand() -> None:
    """One head, two tokens of one column: products 1, 2 / 2, 4 against 0, 0 / 0, 0."""
    teacher, student = torch.tensor([[[1.0], [2.0]]]), torch.zeros(1, 2, 1)
    mask = torch.ones(1, 2, dtype=torch.bool)

    def divergence(a: float, b: float) -> float:
        """Return the KL divergence of softmax(a, b) from the uniform distribution."""
        p = math.exp(a) / (math.exp(a) + math.exp(b))
        return p * math.log(2 * p) + (1 - p) * math.log(2 * (1 - p))

    expected = (divergence(1, 2) + divergence(2, 4)) / 2
    loss = losses.relation_loss([student], [teacher], mask, heads=1)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    same = losses.relation_loss([teacher], [teacher], mask, heads=1)
    assert same.item() == pytest.approx(0, abs=1e-6)


def test_relation_ignores_padding() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(1, 3, 4), torch.randn(1, 3, 8)
    mask = torch.ones(1, 3, dtype=torch.bool)
    expected = losses.relation_loss([student], [teacher], mask, heads=2)
    padded_student = torch.cat([student, torch.randn(1, 2, 4)], 1)
    padded_teacher = torch.cat([teacher, torch.randn(1, 2, 8)], 1)
    padded_mask = torch.tensor([[True, True, True, False, False]])
    loss = losses.relation_loss([padded_student], [padded_teacher], padded_mask, heads=2)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_divergence_is_that_of_scipy() -> None:
    from scipy.stats import entropy

    student, teacher = torch.randn(5, 3, generator=torch.manual_seed(0)), torch.randn(5, 3)
    expected = entropy(teacher.softmax(-1), student.softmax(-1), axis=1).mean()
    assert losses.kl_divergence(student, teacher) == pytest.approx(expected, rel=1e-5)
    assert losses.kl_divergence(teacher, teacher) == pytest.approx(0, abs=1e-7)
