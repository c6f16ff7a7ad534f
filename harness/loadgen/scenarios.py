"""The scenarios `single_stream` (the next query when the last is answered) and `offline`
(everything at once), and what all scenarios share.

The driver knows only texts and times. Queries are serialised before the clock starts, and the
driver sleeps while it waits.
"""

import json
import math
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle

import numpy as np

from harness.results.record import Timing
from harness.tasks.task import Example
from harness.telemetry import kernel
from harness.telemetry.energy import Energy, EnergyMeter
from harness.worker.driver import Worker

PLENTY_QUERIES = 2000
"""Queries from which on a short window of `single_stream` is enough."""

PLENTY_PASSES = 3
"""Passes over the split from which on a short window of `offline` is enough."""

MESSAGE_EXAMPLES = 4096
MAX_PASSES = 2000

WARM_UP_SECONDS, WARM_UP_LEAST, WARM_UP_MOST = 10.0, 4, 16
"""A warm-up lasts at most this long, but has at least so many queries; and the most single ones."""

GOLDEN_RATIO = (math.sqrt(5) - 1) / 2


@dataclass
class QuerySamples:
    """The examples of a task as they are sent to a worker.

    Attributes:
        bodies: the candidates of each example as JSON.
        choices: how many answers each example has.
        by_length: the numbers of the examples, from the shortest text to the longest.
    """

    bodies: list[bytes]
    choices: list[int]
    by_length: list[int]

    @staticmethod
    def from_examples(examples: Sequence[Example], labels: int) -> "QuerySamples":
        """Serialise examples without their labels.

        Args:
            examples: the examples.
            labels: the number of labels of the task.
        """
        bodies = [
            json.dumps(example.candidates, ensure_ascii=False, separators=(",", ":")).encode()
            for example in examples
        ]
        choices = [
            labels if len(example.candidates) == 1 else len(example.candidates)
            for example in examples
        ]
        by_length = sorted(range(len(bodies)), key=lambda row: len(bodies[row]))
        return QuerySamples(bodies, choices, by_length)

    def order(self, seed: int) -> list[int]:
        """Return a permutation of which every prefix is a fair sample of lengths.

        The shortest to the longest get the keys frac(u + i * golden ratio), which are evenly
        distributed over 0..1 for any range of i; u comes from the seed. A plain shuffle would make
        the mean length of a short window's examples, and with it the time, vary from system to
        system.
        """
        start = random.Random(seed).random()
        keys = {
            row: math.modf(start + rank * GOLDEN_RATIO)[0]
            for rank, row in enumerate(self.by_length)
        }
        return sorted(keys, key=keys.__getitem__)

    def query(self, number: int, rows: Sequence[int]) -> bytes:
        """Return the line of a query: its id and some examples."""
        bodies = b",".join([self.bodies[row] for row in rows])
        return b'{"id":%d,"examples":[%s]}\n' % (number, bodies)


class QueryBatch:
    """Queries that are sent all at once, and the answers to them in the order of the examples.

    Args:
        samples: the examples.
        rows: which examples, in which order; one may come several times.
        sizes: the number of examples of each query, repeated as often as needed.
    """

    def __init__(
        self,
        samples: QuerySamples,
        rows: Sequence[int],
        sizes: Sequence[int] = (MESSAGE_EXAMPLES,),
    ) -> None:
        parts: list[Sequence[int]] = []
        start = 0
        for size in cycle(sizes):
            if start >= len(rows):
                break
            parts.append(rows[start : start + size])
            start += size
        self.lines = [samples.query(number, part) for number, part in enumerate(parts)]
        self._choices = {
            number: [samples.choices[row] for row in part] for number, part in enumerate(parts)
        }

    def read_answers(self, worker: Worker, replies: Sequence[bytes]) -> list[int]:
        """Return the answers, one for each row.

        Raises:
            WorkerError: a reply violates the protocol, or a query is answered twice.
        """
        pending = dict(self._choices)
        answers: dict[int, list[int]] = {}
        for reply in replies:
            number, answers_of_query = worker.parse_answers(reply, pending)
            del pending[number]
            answers[number] = answers_of_query
        return [answer for number in sorted(answers) for answer in answers[number]]


@dataclass
class Window:
    """What was measured in one timed window.

    Attributes:
        seconds: its duration.
        cpu_seconds: CPU time of the worker's process tree.
        driver_cpu_seconds: CPU time of the driver.
        others: cores that other processes used meanwhile.
        steal: cores that the hypervisor took meanwhile.
        throttled: share of the periods in which the control group's CPU limit paused its processes;
            None without a limit.
        energy: of the machine.
        rows: the example of each query (`offline`: of each slot).
        answers: in the same order.
        latencies: seconds of each query; empty for `offline`.
        left: examples that left at each stage; None of systems without stages.
    """

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    driver_cpu_seconds: float = 0.0
    others: float = 0.0
    steal: float = 0.0
    throttled: float | None = None
    energy: Energy = field(default_factory=Energy)
    rows: list[int] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    left: list[int] | None = None


def warm_up(worker: Worker, samples: QuerySamples, batch: int, timeout: float) -> None:
    """Send training text, untimed: single queries, then one query of several examples.

    It lasts at most 10 s, unless the first four queries take longer. The last query has only as
    many examples as then fit, if each takes as long as the fastest single query.

    Args:
        worker: a loaded worker.
        samples: the training text.
        batch: the largest number of examples of the last query; 0 for single queries alone.
        timeout: seconds that a reply may take.
    """
    clock = time.monotonic
    started = clock()
    seconds: list[float] = []
    for row in range(min(WARM_UP_MOST, len(samples.bodies))):
        if row >= WARM_UP_LEAST and clock() - started > WARM_UP_SECONDS:
            break
        sent = clock()
        reply = worker.ask(samples.query(row, [row]), timeout)
        seconds.append(clock() - sent)
        worker.parse_answers(reply, {row: [samples.choices[row]]})
    left = WARM_UP_SECONDS - (clock() - started)
    fitting = int(left / max(min(seconds, default=1.0), 1e-6))
    if rows := range(min(batch, fitting, len(samples.bodies))):
        reply = worker.ask(samples.query(0, rows), timeout)
        worker.parse_answers(reply, {0: [samples.choices[row] for row in rows]})


def single_stream(
    worker: Worker,
    samples: QuerySamples,
    order: Sequence[int],
    meter: EnergyMeter,
    timing: Timing = Timing(),
) -> Window:
    """Send one query after the other for a window, or for a short one if it holds 2,000.

    Args:
        worker: a loaded worker.
        samples: the examples.
        order: the examples to send, from the beginning again after the last.
        meter: measures the energy of the window.
        timing: lengths of the windows, and the timeout of a query.
    """
    window = Window()
    replies: list[bytes] = []
    clock = time.perf_counter
    with timed(worker, meter, window):
        started = clock()
        while True:
            row = order[len(replies) % len(order)]
            line = samples.query(len(replies), (row,))
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
        window.answers += worker.parse_answers(reply, {number: [samples.choices[row]]})[1]
    return window


def offline(
    worker: Worker, samples: QuerySamples, rows: Sequence[int], meter: EnergyMeter, timeout: float
) -> Window:
    """Send all rows at once, in queries of up to 4,096 examples; the window ends with the last
    answer.

    Args:
        worker: a loaded worker.
        samples: the examples.
        rows: which of them, in which order.
        meter: measures the energy of the window.
        timeout: seconds that all of it may take.
    """
    batch = QueryBatch(samples, rows)
    window = Window(rows=list(rows))
    with timed(worker, meter, window):
        replies = worker.exchange(batch.lines, timeout)
    window.answers = batch.read_answers(worker, replies)
    return window


def choose_offline_rows(
    order: Sequence[int], rate: float, timing: Timing = Timing(), least: int = 1
) -> list[int]:
    """Return the rows that fill a window: a prefix of the order, or whole passes over it.

    A short window is enough if it holds three passes.

    Args:
        order: all examples of the split.
        rate: examples per second.
        timing: lengths of the windows.
        least: the least number of examples, whatever the rate is.
    """
    examples = max(rate * timing.window, least)
    if examples < len(order):
        return list(order[: max(1, round(examples))])
    if rate * timing.short_window >= PLENTY_PASSES * len(order):
        examples = max(rate * timing.short_window, least)
    return list(order) * min(MAX_PASSES, math.ceil(examples / len(order)))


@contextmanager
def timed(worker: Worker, meter: EnergyMeter, window: Window) -> Iterator[None]:
    """Measure time, CPU time of both sides and energy of exactly the block, into a window."""
    cpu_before, periods_before = worker.cpu_seconds(), kernel.read_throttling()
    with meter.measure_window() as energy:
        machine_before = kernel.read_cpu_seconds()
        driver, started = time.process_time(), time.perf_counter()
        yield
        window.seconds = time.perf_counter() - started
        window.driver_cpu_seconds = time.process_time() - driver
        machine_after = kernel.read_cpu_seconds()
    window.cpu_seconds = worker.cpu_seconds() - cpu_before
    window.throttled = kernel.compute_throttled_share(periods_before, kernel.read_throttling())
    worker.check_cores(window.seconds, window.cpu_seconds)
    busy, stolen = np.subtract(machine_after, machine_before) / window.seconds
    used = (window.cpu_seconds + window.driver_cpu_seconds) / window.seconds
    window.others, window.steal = max(0.0, float(busy) - used), float(stolen)
    window.energy = meter.complete(energy, window.cpu_seconds)
    window.left = worker.read_stage_counts() if worker.has_stages else None
