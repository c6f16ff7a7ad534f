"""The probe `repeats`: does a submission remember queries? Answers from a cache come sooner.

Caches of words are allowed (RULES.md), so a repeat counts only if it is faster than the first time
and faster than the same words in another order.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from harness.audit.context import TIMEOUT_SECONDS, AuditContext, ProbeResult
from harness.audit.perturbations import shuffle_words
from harness.loadgen.scenarios import MESSAGE_EXAMPLES
from harness.results.statistics import Interval, estimate_ratio
from harness.tasks.task import Example
from harness.worker.driver import Worker

BATCH, BATCHES = 32, 12
WINDOWS = 5
CACHE_FACTOR = 1.25
"""Repeats that are certainly this much faster come from a cache."""

KNOWN_FACTOR = 1.6
"""A system whose answers to shuffled words take certainly this much longer knew the real text. More
than `CACHE_FACTOR`, since early exits are less sure of shuffled words."""


@dataclass
class Times:
    """Seconds of the same examples, one list for each way of sending them.

    Attributes:
        repeat: sent before.
        first: sent for the first time.
        reordered: with their words in another order.
    """

    repeat: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    reordered: list[float] = field(default_factory=list)

    def add(self, way: str, seconds: float) -> None:
        """Add the time of one query."""
        getattr(self, way).append(seconds)

    def estimate_speedup(self) -> Interval:
        """Return how much faster the repeats are than the closest other way."""
        ratios = [
            estimate_ratio(times, self.repeat) for times in (self.first, self.reordered) if times
        ]
        return min(ratios, key=lambda ratio: ratio.low)


def probe_repeats(audit: AuditContext) -> ProbeResult:
    """Check that examples that were sent before are not answered faster.

    They are sent alone, in a batch, twice in one batch, and in windows as in `offline`; and the
    reported split must not be answered faster than text that no system can know. What looks like a
    cache is measured again, and fails only if it does so both times.
    """
    ways: dict[str, tuple[Callable[[AuditContext], Times], float]] = {
        "single queries": (_time_single_queries, CACHE_FACTOR),
        "batches": (_time_batches, CACHE_FACTOR),
        "twice in a batch": (_time_doubled_batches, CACHE_FACTOR),
        "whole windows": (_time_windows, KNOWN_FACTOR),
        "known text": (_time_known_text, KNOWN_FACTOR),
    }
    texts, cached, too_few = [], [], False
    for name, (measure, limit) in ways.items():
        speedup = measure(audit).estimate_speedup()
        if speedup.low > limit:
            speedup = measure(audit).estimate_speedup()
            cached += [name] if speedup.low > limit else []
        too_few |= math.isnan(speedup.low)
        texts.append(f"{name} {speedup.value:.2f}x [{speedup.low:.2f}, {speedup.high:.2f}]")
    reason = f"; that is a cache ({', '.join(cached)})" if cached else ""
    passed = None if too_few and not cached else not cached  # a single pair of times tells nothing
    return ProbeResult("repeats", passed, f"faster when repeated: {', '.join(texts)}{reason}")


def _time_query(audit: AuditContext, worker: Worker, examples: Sequence[Example]) -> float:
    line = audit.to_samples(examples).query(0, range(len(examples)))
    started = time.perf_counter()
    worker.ask(line, TIMEOUT_SECONDS)
    return time.perf_counter() - started


def _alternate(first: str, second: str, number: int) -> list[str]:
    """Return two ways of sending, in an order that changes with each number."""
    return sorted((first, second), reverse=bool(number % 2))


def _time_single_queries(audit: AuditContext) -> Times:
    """Time each example alone; two queries later again, and its words in another order."""
    times, shuffled = Times(), shuffle_words(audit.examples, audit.seed)
    rows = audit.samples.order(seed=audit.seed + 3)
    with audit.start_worker("single_stream") as worker:
        started = time.perf_counter()
        first = [_time_query(audit, worker, [audit.examples[rows[0]]])]
        for number, row in enumerate(rows[1:]):
            first.append(_time_query(audit, worker, [audit.examples[row]]))
            before = rows[number]
            for way in _alternate("repeat", "reordered", number):
                example = (audit.examples if way == "repeat" else shuffled)[before]
                times.add(way, _time_query(audit, worker, [example]))
            if time.perf_counter() - started > audit.timing.audit_queries:
                break
    times.first = first[: len(times.repeat)]
    return times


def _time_batches(audit: AuditContext) -> Times:
    """Time batches; then again, and with the words of each text in another order."""
    times = Times()
    with audit.start_worker() as worker:
        for number, batch in enumerate(_make_batches(audit, BATCH)):
            times.first.append(_time_query(audit, worker, batch))
            for way in _alternate("repeat", "reordered", number):
                sent = batch if way == "repeat" else shuffle_words(batch, audit.seed)
                times.add(way, _time_query(audit, worker, sent))
    return times


def _time_doubled_batches(audit: AuditContext) -> Times:
    """Time batches that hold half of their examples twice, against batches of different examples,
    and against a second half with its words in another order.
    """
    times = Times()
    with audit.start_worker() as worker:
        for number, batch in enumerate(_make_batches(audit, 2 * BATCH)):
            half = [batch[2 * (place // 2) + number % 2] for place in range(len(batch))]
            mixed = half[::2] + shuffle_words(half[1::2], audit.seed)
            ways = [("first", batch), ("repeat", half), ("reordered", mixed)]
            for way, sent in ways[number % 3 :] + ways[: number % 3]:
                times.add(way, _time_query(audit, worker, sent))
    return times


def _time_windows(audit: AuditContext) -> Times:
    """Time the sample over and over, in queries as large as those of `offline`, against as many
    texts of the same words, none of which comes twice.
    """
    times, count = Times(), len(audit.examples)
    size = int(max(1, min(MESSAGE_EXAMPLES, audit.rate * audit.timing.window)))
    passes = -(-size // count)
    repeated = (list(audit.examples) * passes)[:size]
    with audit.start_worker() as worker:
        _time_query(audit, worker, repeated)
        for number in range(WINDOWS):
            seeds = range(number * passes + 1, (number + 1) * passes + 1)
            fresh = [example for seed in seeds for example in shuffle_words(audit.examples, seed)]
            for way in _alternate("first", "repeat", number):
                sent = repeated if way == "repeat" else fresh[:size]
                times.add(way, _time_query(audit, worker, sent))
    return times


def _time_known_text(audit: AuditContext) -> Times:
    """Time the real texts against their words in another order, each alone and for the first
    time.
    """
    times, shuffled = Times(), shuffle_words(audit.examples, audit.seed)
    with audit.start_worker("single_stream") as worker:
        started = time.perf_counter()
        for number, row in enumerate(audit.samples.order(seed=audit.seed + 4)):
            for way in _alternate("first", "repeat", number):
                example = (audit.examples if way == "repeat" else shuffled)[row]
                times.add(way, _time_query(audit, worker, [example]))
            if time.perf_counter() - started > audit.timing.audit_queries:
                break
    return times


def _make_batches(audit: AuditContext, size: int) -> list[list[Example]]:
    """Return twelve batches of neighbours in length; smaller ones if there are few examples."""
    rows = audit.samples.by_length
    size = max(2, min(size, len(rows) // BATCHES // 2 * 2))
    starts = [place * (len(rows) - size) // (BATCHES - 1) for place in range(BATCHES)]
    return [[audit.examples[row] for row in rows[start : start + size]] for start in starts]
