"""The scenario `server`: queries arrive at random times, whether the last one is answered or not.

After MLPerf inference (Reddi et al. 2020): Poisson arrivals, latency from the *scheduled* arrival,
and the metric is the highest rate at which the 99th percentile stays within the task's bound.
"""

import math
import random
import select
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from harness.loadgen.scenarios import QuerySamples, Window, timed
from harness.results import statistics
from harness.results.record import Timing
from harness.telemetry.energy import EnergyMeter
from harness.worker.driver import Worker

FIRST_SHARES = (0.5, 0.7, 0.8, 0.9)
"""Shares of the session's offline rate that are probed first."""

RESOLUTION = 0.05
"""Width of the bracket, relative to its upper end, at which a search ends."""

LOWEST_SHARE = 1 / 16
DRAIN_SECONDS = 180.0
"""Time after the last query of a probe in which all answers must arrive."""

MAX_PROBES = 10
MAX_DRIVER_RATE = 5000.0
"""Queries per second that the driver can send on schedule; faster systems are probed up to it."""

HOPELESS_SHARE = 0.03
"""Share of late queries at which a probe ends before its time; the bound allows 0.01."""

BLOCKS_FOR_P99 = 5


@dataclass
class RateSearch:
    """Finds the highest rate that meets the bound, in one round.

    Attributes:
        offline: the rate (queries/s) that shares refer to, of the whole session.
        start: the share that met the bound in the round before, to begin with.
        results: whether each probed share meets the bound.
    """

    offline: float
    start: float | None = None
    results: dict[float, bool] = field(default_factory=dict)

    def rate(self, share: float) -> float:
        """Return a share as queries per second."""
        return round(share * self.offline, 4)

    @property
    def bracket(self) -> tuple[float | None, float | None]:
        """The highest share that meets the bound, and above it the lowest that does not; None if
        unknown.
        """
        failing = min((share for share, met in self.results.items() if not met), default=None)
        below = [share for share in self.results if failing is None or share < failing]
        return max(below, default=None), failing

    def next_share(self) -> float | None:
        """Return the share to probe next; None once the bracket is closed to 5%, or if no share
        meets the bound.
        """
        low, high = self.bracket
        if not self.results:
            return self.start or FIRST_SHARES[0]
        if low is None:
            assert high is not None
            # the rate of the round before failed: continue below it
            below = [share for share in FIRST_SHARES if share < high == self.start]
            lower = below[-1] if below else max(high / 2, LOWEST_SHARE)
            return lower if high > LOWEST_SHARE else None
        top = high or 1.0
        if top - low <= RESOLUTION * top * (1 + 1e-9):
            return None
        # the rate of the round before met the bound: try the next one above it
        if low == self.start and high is None and low / (1 - RESOLUTION) < 1:
            return round(low / (1 - RESOLUTION), 6)
        between = [share for share in FIRST_SHARES if low < share < top]
        return between[0] if between else round((low + top) / 2, 6)


def meets_bound(queries: int, late: int) -> bool:
    """Return whether the 99th percentile is within the bound, however it is interpolated.

    Args:
        queries: the number of queries.
        late: how many of them came after the bound.
    """
    return late <= 0.01 * (queries - 1)


def queries_per_rate(blocks: int | None) -> int:
    """Return how many queries a rate should get in a round, so that a p99 can be stated at the end.

    Args:
        blocks: the number of blocks of the session; None if it is not known.
    """
    needed = statistics.count_needed_queries(0.99)
    return math.ceil(needed / min(blocks or BLOCKS_FOR_P99, BLOCKS_FOR_P99))


def probe_seconds(rate: float, queries: int, timing: Timing = Timing()) -> float:
    """Return how long a rate is probed: long enough for some queries, within the limits of
    `timing`.

    Args:
        rate: queries per second.
        queries: how many there should be.
        timing: the shortest and the longest probe.
    """
    return min(max(timing.probe, queries / rate), timing.longest_probe)


def poisson(
    worker: Worker,
    samples: QuerySamples,
    order: Sequence[int],
    rate: float,
    count: int,
    seed: int,
    bound: float,
    meter: EnergyMeter,
    timeout: float = Timing.query_timeout,
) -> Window:
    """Send queries on a random schedule; the window ends with the last answer.

    Never blocks while writing, and sleeps until the next arrival or answer. Stops sending once
    three in a hundred of all queries were answered later than the bound, judged in the order in
    which answers arrive.

    Args:
        worker: a loaded worker.
        samples: the examples.
        order: the examples to send, from the beginning again after the last.
        rate: queries per second.
        count: the number of queries.
        seed: fixes the schedule.
        bound: seconds after which an answer is late.
        meter: measures the energy of the window.
        timeout: seconds without any answer after which the worker counts as hung.

    Returns:
        The window, with latencies in seconds from the scheduled arrival.
    """
    chance = random.Random(seed)
    due = list(accumulate(chance.expovariate(rate) for _ in range(count)))
    rows = [order[number % len(order)] for number in range(count)]
    lines = [samples.query(number, (row,)) for number, row in enumerate(rows)]
    window = Window()
    arrived: list[tuple[float, bytes]] = []
    outgoing = bytearray()
    sent = late = 0
    clock = time.perf_counter
    with timed(worker, meter, window):
        started = last_reply = clock()
        while sent < count or len(arrived) < sent:
            now = clock() - started
            while sent < count and due[sent] <= now:
                outgoing += lines[sent]
                sent += 1
            if outgoing:
                del outgoing[: worker.write_available(outgoing)]
            wait = due[sent] - (clock() - started) if sent < count else timeout
            ready, _, _ = select.select(
                [worker.output_fd], [worker.input_fd] if outgoing else [], [], max(0.0, wait)
            )
            replies = worker.read_replies() if ready else []
            if replies:
                last_reply = clock()
                arrival = last_reply - started
                answered = due[len(arrived) : len(arrived) + len(replies)]
                late += sum(arrival - scheduled > bound for scheduled in answered)
                arrived += [(arrival, reply) for reply in replies]
            elif len(arrived) < sent and clock() - last_reply > timeout:
                raise worker.make_error(f"it gave no answer within {timeout:g} s")
            elif sent == count and clock() - started > due[sent - 1] + DRAIN_SECONDS:
                raise worker.make_error(
                    f"it gave no answer to {sent - len(arrived)} of {sent} queries within "
                    f"{DRAIN_SECONDS:g} s after the last one was due"
                )
            if late > max(HOPELESS_SHARE * len(due), 5):
                count = sent
    worker.check_surplus(len(arrived) - sent)
    pending = {number: [samples.choices[row]] for number, row in enumerate(rows[:sent])}
    answers, latencies = [0] * sent, [0.0] * sent
    for arrival, reply in arrived:
        number, (answer,) = worker.parse_answers(reply, pending)
        del pending[number]
        answers[number], latencies[number] = answer, arrival - due[number]
    window.rows, window.answers, window.latencies = rows[:sent], answers, latencies
    return window
