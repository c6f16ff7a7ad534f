"""Which examples are sent, in which order, and how many."""

import pytest

from harness.loadgen import scenarios
from harness.tasks.task import Example


def test_labels_are_never_sent() -> None:
    examples = [Example((("same text",),), label) for label in (0, 1)]
    bodies = scenarios.QuerySamples.from_examples(examples, 2).bodies
    assert bodies == [b'[["same text"]]'] * 2


def test_every_prefix_of_the_order_is_a_fair_sample_of_lengths() -> None:
    examples = [Example((("x" * (5 + number % 300),),), 0) for number in range(2000)]
    samples = scenarios.QuerySamples.from_examples(examples, 2)
    whole = sum(map(len, samples.bodies)) / 2000
    for seed in range(20):
        order = samples.order(seed)
        assert sorted(order) == list(range(2000))
        prefix = order[:50]
        assert sum(len(samples.bodies[row]) for row in prefix) / 50 == pytest.approx(
            whole, rel=0.04
        )
    assert samples.order(1) != samples.order(2)


def test_offline_rows_fill_the_window() -> None:
    order = list(range(1000))
    assert scenarios.choose_offline_rows(order, 100) == order[:150]
    assert len(scenarios.choose_offline_rows(order, 800)) == 2000
    assert len(scenarios.choose_offline_rows(order, 1_000_000)) == 500_000
