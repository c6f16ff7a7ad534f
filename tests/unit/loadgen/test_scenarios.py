"""Which examples are sent, in which order, and how many."""

import json
from typing import Any

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


def test_slow_system_gets_its_batches_however_long_they_take() -> None:
    order = list(range(100))
    assert scenarios.choose_offline_rows(order, 5, least=80) == order[:80]
    assert scenarios.choose_offline_rows(order, 5, least=128) == order * 2
    assert len(scenarios.choose_offline_rows(order, 600, least=128)) == 300, "three passes"
    assert len(scenarios.choose_offline_rows(order, 1000, least=512)) == 600


class SlowWorker:
    """Takes some seconds for each example, on a clock of its own."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.now = seconds, 0.0
        self.sizes: list[int] = []

    def ask(self, line: bytes, timeout: float) -> bytes:
        self.sizes.append(len(json.loads(line)["examples"]))
        self.now += self.seconds * self.sizes[-1]
        return b""

    def parse_answers(self, reply: bytes, choices: dict[int, list[int]]) -> tuple[int, list[int]]:
        (number,) = choices
        return number, [0] * len(choices[number])


@pytest.mark.parametrize(
    ("seconds", "batch", "sizes"),
    [
        (0.001, 0, [1] * 16),
        (0.001, 32, [*[1] * 16, 32]),
        (0.5, 32, [*[1] * 16, 4]),  # eight seconds of single queries leave two
        (2.0, 32, [1] * 6),
        (40.0, 32, [1] * 4),
    ],
)
def test_warm_up_takes_at_most_ten_seconds_or_four_queries(
    seconds: float, batch: int, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    worker: Any = SlowWorker(seconds)
    monkeypatch.setattr(scenarios.time, "monotonic", lambda: worker.now)
    examples = [Example((("text",),), 0)] * 64
    samples = scenarios.QuerySamples.from_examples(examples, 2)
    scenarios.warm_up(worker, samples, batch, timeout=60.0)
    assert worker.sizes == sizes
    assert worker.now <= max(scenarios.WARM_UP_SECONDS + seconds, 4 * seconds)
