import math

import pytest
import torch

from harness.optimize.training import losses


def test_soft_cross_entropy_equals_a_calculation_by_hand() -> None:
    student, teacher = (
        torch.tensor([[1.0, 0.0], [0.0, 0.0]]),
        torch.tensor([[2.0, 0.0], [0.0, 4.0]]),
    )
    # T = 2; first row: teacher (e/(e+1), 1/(e+1)); student (sqrt e/(sqrt e+1), ...)
    e, root = math.e, math.exp(0.5)
    first = -(e / (e + 1) * math.log(root / (root + 1)) + 1 / (e + 1) * math.log(1 / (root + 1)))
    second = math.log(2)  # a student that is undecided, whatever the teacher says
    expected = 4 * (first + second) / 2
    assert losses.soft_cross_entropy(student, teacher, 2.0).item() == pytest.approx(expected)


def test_hidden_mse_equals_a_calculation_by_hand_and_leaves_padding_aside() -> None:
    student = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[0.0, 0.0], [9.0, 9.0]]])
    teacher = torch.tensor([[[1.0, 0.0], [3.0, 3.0]], [[2.0, 0.0], [0.0, 0.0]]])
    mask = torch.tensor([[True, True], [True, False]])
    assert losses.hidden_mse(student, teacher, mask).item() == pytest.approx((4 + 1 + 4) / 6)


def test_relation_equals_a_calculation_by_hand() -> None:
    """One head, two tokens of one column: products 1, 2 / 2, 4 against 0, 0 / 0, 0."""
    teacher, student = torch.tensor([[[1.0], [2.0]]]), torch.zeros(1, 2, 1)
    mask = torch.ones(1, 2, dtype=torch.bool)

    def apart(a: float, b: float) -> float:
        p = math.exp(a) / (math.exp(a) + math.exp(b))
        return p * math.log(2 * p) + (1 - p) * math.log(2 * (1 - p))

    expected = (apart(1, 2) + apart(2, 4)) / 2
    found = losses.relation([student], [teacher], mask, heads=1)
    assert found.item() == pytest.approx(expected, rel=1e-5)
    assert losses.relation([teacher], [teacher], mask, heads=1).item() == pytest.approx(0, abs=1e-6)


def test_relation_does_not_see_padding() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(1, 3, 4), torch.randn(1, 3, 8)
    short = losses.relation([student], [teacher], torch.ones(1, 3, dtype=torch.bool), heads=2)
    longer = [
        torch.cat([each, torch.randn(1, 2, each.shape[-1])], 1) for each in (student, teacher)
    ]
    mask = torch.tensor([[True, True, True, False, False]])
    found = losses.relation([longer[0]], [longer[1]], mask, heads=2)
    assert found.item() == pytest.approx(short.item(), rel=1e-5)
