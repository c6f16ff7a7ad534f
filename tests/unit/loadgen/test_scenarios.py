"""What is asked, in which order, and how much of it."""

import pytest

from harness.loadgen import scenarios
from harness.tasks.task import Example


def test_labels_never_go_over_the_wire() -> None:
    examples = [Example((("same text",),), label) for label in (0, 1)]
    bodies = scenarios.QuerySamples.of(examples, 2).bodies
    assert bodies == [b'[["same text"]]'] * 2


def test_every_prefix_of_the_order_is_a_fair_sample_of_lengths() -> None:
    examples = [Example((("x" * (5 + number % 300),),), 0) for number in range(2000)]
    questions = scenarios.QuerySamples.of(examples, 2)
    whole = sum(map(len, questions.bodies)) / 2000
    for seed in range(20):
        order = questions.order(seed)
        assert sorted(order) == list(range(2000))
        prefix = order[:50]
        assert sum(len(questions.bodies[row]) for row in prefix) / 50 == pytest.approx(
            whole, rel=0.04
        )
    assert questions.order(1) != questions.order(2)


def test_offline_rows_fill_the_window() -> None:
    order = list(range(1000))
    assert scenarios.offline_rows(order, 100) == order[:150]
    assert len(scenarios.offline_rows(order, 800)) == 2000
    assert len(scenarios.offline_rows(order, 1_000_000)) == 500_000
