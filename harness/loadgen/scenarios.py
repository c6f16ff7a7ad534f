"""Traffic patterns: `single_stream` (the next query when the last is answered) and `offline`
(everything at once).

The driver knows only text and time. Lines are serialised before the clock starts, and it sleeps
while it waits.
"""

import json
import math
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from harness.results.record import Timing
from harness.tasks.task import Example
from harness.telemetry import machine
from harness.telemetry.energy import Energy, Meter
from harness.worker.driver import Worker

PLENTY_QUERIES = 2000
PLENTY_PASSES = 3
MESSAGE_EXAMPLES = 4096
MAX_PASSES = 2000
WARM_UP_SECONDS = 180.0
GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass
class QuerySamples:
    """The examples of a task as they go over the wire.

    bodies: each example's candidates as JSON; choices: how many answers each has.
    by_length: the examples' numbers from the shortest text to the longest.
    """

    bodies: list[bytes]
    choices: list[int]
    by_length: list[int]

    @staticmethod
    def of(examples: Sequence[Example], labels: int) -> "QuerySamples":
        """Only texts go in; the label stays behind."""
        bodies = [
            json.dumps(each.candidates, ensure_ascii=False, separators=(",", ":")).encode()
            for each in examples
        ]
        choices = [
            labels if len(each.candidates) == 1 else len(each.candidates) for each in examples
        ]
        return QuerySamples(
            bodies, choices, sorted(range(len(bodies)), key=lambda row: len(bodies[row]))
        )

    def order(self, seed: int) -> list[int]:
        """A permutation of which every prefix is a fair sample of lengths.

        The shortest to the longest get the keys frac(u + i * golden ratio), which spread evenly
        over 0..1 for any run of i; u comes from the seed. A plain shuffle would make the mean
        length of a short window's examples, and with it the time, vary from system to system.
        """
        start = random.Random(seed).random()
        keys = {row: math.modf(start + rank * GOLDEN)[0] for rank, row in enumerate(self.by_length)}
        return sorted(keys, key=keys.__getitem__)

    def line(self, number: int, rows: Sequence[int]) -> bytes:
        """One query."""
        return b'{"id":%d,"examples":[%s]}\n' % (
            number,
            b",".join([self.bodies[row] for row in rows]),
        )


@dataclass
class Window:
    """What was seen in one timed window.

    cpu_seconds: of the worker's process tree; others, steal: cores that other processes and the
    hypervisor took meanwhile.
    rows: the example asked in each query or slot; answers: what came back, in the same order;
    latencies: seconds of each query (not `offline`). left: examples that left at each stage.
    """

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    driver_cpu_seconds: float = 0.0
    others: float = 0.0
    steal: float = 0.0
    energy: Energy = field(default_factory=Energy)
    rows: list[int] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    left: list[int] | None = None


def warm_up(
    worker: Worker, questions: QuerySamples, queries: int, together: int, timeout: float
) -> None:
    """Ask training text, untimed: single queries, then one message of several examples.

    timeout: seconds that a reply may take.
    """
    rows = list(range(len(questions.bodies)))
    deadline = time.monotonic() + WARM_UP_SECONDS
    for number, part in enumerate([*([row] for row in rows[:queries]), rows[:together]]):
        if part:
            left = min(timeout, deadline - time.monotonic())
            reply = worker.ask(questions.line(number, part), left)
            worker.answers(reply, {number: [questions.choices[row] for row in part]})


def single_stream(
    worker: Worker,
    questions: QuerySamples,
    order: Sequence[int],
    meter: Meter,
    timing: Timing = Timing(),
) -> Window:
    """One query after the other for a window, or a short one where it holds 2,000."""
    window = Window()
    replies: list[bytes] = []
    clock = time.perf_counter
    with timed(worker, meter, window):
        started = clock()
        while True:
            row = order[len(replies) % len(order)]
            line = questions.line(len(replies), (row,))
            sent = clock()
            reply = worker.ask(line, timing.query_timeout)
            now = clock()
            window.latencies.append(now - sent)
            window.rows.append(row)
            replies.append(reply)
            if now - started >= timing.window or (
                now - started >= timing.short_window and len(replies) >= PLENTY_QUERIES
            ):
                break
    for number, (row, reply) in enumerate(zip(window.rows, replies, strict=True)):
        window.answers += worker.answers(reply, {number: [questions.choices[row]]})[1]
    return window


def offline(
    worker: Worker, questions: QuerySamples, rows: Sequence[int], meter: Meter, timeout: float
) -> Window:
    """All rows at once, in messages of up to 4,096 examples, many in flight; the window closes with
    the last answer.
    """
    parts = [
        rows[start : start + MESSAGE_EXAMPLES] for start in range(0, len(rows), MESSAGE_EXAMPLES)
    ]
    lines = [questions.line(number, part) for number, part in enumerate(parts)]
    window = Window()
    with timed(worker, meter, window):
        replies = worker.exchange(lines, timeout)
    pending = {
        number: [questions.choices[row] for row in part] for number, part in enumerate(parts)
    }
    given: dict[int, list[int]] = {}
    for reply in replies:
        number, answers = worker.answers(reply, pending)
        del pending[number]
        given[number] = answers
    for number, part in enumerate(parts):
        window.rows += part
        window.answers += given[number]
    return window


def offline_rows(order: Sequence[int], rate: float, timing: Timing = Timing()) -> list[int]:
    """What to ask so that it fills a window at this rate (examples/s): a prefix of the order, or
    whole passes over it.

    A short window is enough where it holds three passes.
    """
    passes = rate * timing.window / len(order)
    if passes < 1:
        return list(order[: max(1, round(passes * len(order)))])
    if rate * timing.short_window >= PLENTY_PASSES * len(order):
        passes = rate * timing.short_window / len(order)
    return list(order) * min(MAX_PASSES, math.ceil(passes))


@contextmanager
def timed(worker: Worker, meter: Meter, window: Window) -> Iterator[None]:
    """Clock, CPU time of both sides and energy around exactly the block."""
    used, before = worker.cpu_seconds(), machine.ticks()
    with meter.window() as energy:
        driver, started = time.process_time(), time.perf_counter()
        yield
        window.seconds = time.perf_counter() - started
        window.driver_cpu_seconds = time.process_time() - driver
    window.cpu_seconds = worker.cpu_seconds() - used
    worker.keeps_to_its_cores(window.seconds, window.cpu_seconds)
    busy, stolen = np.subtract(machine.ticks(), before) / window.seconds
    own = (window.cpu_seconds + window.driver_cpu_seconds) / window.seconds
    window.others, window.steal = max(0.0, float(busy) - own), float(stolen)
    window.energy = meter.complete(energy, window.cpu_seconds)
    window.left = worker.report() if worker.reports else None
