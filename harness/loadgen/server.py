"""The `server` scenario: queries come at random times, whether the last one is answered or not.

After MLPerf inference (Reddi et al. 2020): Poisson arrivals, latency from the *scheduled* arrival,
and the metric is the highest rate at which the 99th percentile stays within the task's bound.
"""

import random
import select
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from harness.loadgen.scenarios import QuerySamples, Window, timed
from harness.results import statistics
from harness.results.record import Timing
from harness.telemetry.energy import Meter
from harness.worker.driver import Worker

STARTING = (0.5, 0.7, 0.8, 0.9)
"""Shares of the session's offline rate that are probed first."""

RESOLUTION = 0.05
LOWEST = 1 / 16
DRAIN_SECONDS = 180.0
"""After the last query of a probe; an honest worker is at most as late as the probe is long."""

PROBES = 10
DRIVER_RATE = 5000.0
"""Queries a second that the driver can send on schedule; faster systems are probed up to it."""

HOPELESS = 0.03
"""Share of late queries at which a probe ends before its time; the bound allows 0.01."""

BLOCKS_FOR_P99 = 5


@dataclass
class Search:
    """Looks for the highest rate that holds the bound, in one round.

    offline: the rate (queries/s) that shares refer to, of the whole session. start: the share that
    held in the round before, to begin with. seen: whether each share that was probed holds.
    """

    offline: float
    start: float | None = None
    seen: dict[float, bool] = field(default_factory=dict)

    def rate(self, share: float) -> float:
        """Queries a second."""
        return round(share * self.offline, 4)

    @property
    def bracket(self) -> tuple[float | None, float | None]:
        """The highest share that holds, and above it the lowest that does not; None: unknown."""
        failing = min((share for share, held in self.seen.items() if not held), default=None)
        below = [each for each in self.seen if failing is None or each < failing]
        return max(below, default=None), failing

    def following(self) -> float | None:
        """The share to probe next; None when the bracket is closed to 5%, or nothing holds."""
        low, high = self.bracket
        if not self.seen:
            return self.start or STARTING[0]
        if low is None:
            assert high is not None
            below = [each for each in STARTING if each < high == self.start]
            return (below[-1] if below else max(high / 2, LOWEST)) if high > LOWEST else None
        top = high or 1.0
        if top - low <= RESOLUTION * top * (1 + 1e-9):
            return None
        if low == self.start and high is None and low / (1 - RESOLUTION) < 1:
            return round(low / (1 - RESOLUTION), 6)
        between = [each for each in STARTING if low < each < top]
        return between[0] if between else round((low + top) / 2, 6)


def holds(queries: int, late: int) -> bool:
    """Whether the 99th percentile is within the bound, however it is interpolated."""
    return late <= 0.01 * (queries - 1)


def queries_a_round(blocks: int | None) -> int:
    """How many queries a rate should get in a round, so that a p99 may be claimed after `blocks` of
    them (None: it is not known how many there will be).
    """
    return -(-statistics.queries_needed(0.99) // min(blocks or BLOCKS_FOR_P99, BLOCKS_FOR_P99))


def probe_seconds(rate: float, queries: int, timing: Timing = Timing()) -> float:
    """How long a rate is probed: long enough for so many queries, within the bounds of `timing`."""
    return min(max(timing.probe, queries / rate), timing.longest_probe)


def poisson(
    worker: Worker,
    questions: QuerySamples,
    order: Sequence[int],
    rate: float,
    count: int,
    seed: int,
    bound: float,
    meter: Meter,
    timeout: float = Timing.query_timeout,
) -> Window:
    """Queries at a rate (1/s) on a schedule that the seed fixes; the window closes with the last
    answer. Latencies are in seconds from the scheduled arrival.

    Stops sending once three in a hundred of all queries came later than the bound (s), as seen in
    the order of their coming. Never blocks in writing, and sleeps until the next arrival or answer.
    timeout: seconds without any answer after which the worker counts as hung.
    """
    chance = random.Random(seed)
    due = list(accumulate(chance.expovariate(rate) for _ in range(count)))
    slots = [order[number % len(order)] for number in range(count)]
    lines = [questions.line(number, (row,)) for number, row in enumerate(slots)]
    window = Window()
    came: list[tuple[float, bytes]] = []
    outgoing = bytearray()
    sent = late = 0
    clock = time.perf_counter
    with timed(worker, meter, window):
        started = moved = clock()
        while sent < count or len(came) < sent:
            now = clock() - started
            while sent < count and due[sent] <= now:
                outgoing += lines[sent]
                sent += 1
            if outgoing:
                del outgoing[: worker.push(outgoing)]
            left = due[sent] - (clock() - started) if sent < count else timeout
            ready, _, _ = select.select(
                [worker.back], [worker.to] if outgoing else [], [], max(0.0, left)
            )
            replies = worker.replies() if ready else []
            if replies:
                moved = clock()
                late += sum(
                    moved - started - at > bound for at in due[len(came) : len(came) + len(replies)]
                )
                came += [(moved - started, each) for each in replies]
            elif len(came) < sent and clock() - moved > timeout:
                raise worker.fault(f"it gave no answer for {timeout:.0f} seconds")
            elif sent == count and clock() - started > due[sent - 1] + DRAIN_SECONDS:
                raise worker.fault(
                    f"it was {DRAIN_SECONDS:.0f} seconds behind with {sent - len(came)} queries"
                )
            if late > max(HOPELESS * len(due), 5):
                count = sent
    worker.settled(len(came) - sent)
    sizes = {number: [questions.choices[row]] for number, row in enumerate(slots[:sent])}
    answers, latencies = [0] * sent, [0.0] * sent
    for at, reply in came:
        number, given = worker.answers(reply, sizes)
        del sizes[number]
        answers[number], latencies[number] = given[0], at - due[number]
    window.rows, window.answers, window.latencies = slots[:sent], answers, latencies
    return window
