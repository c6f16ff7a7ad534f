"""Whether a submission remembers what it was asked: answers from a cache come sooner.

Caches of words are allowed (RULES.md), so a repeat counts only where it is faster than the first
time and faster than the same words in another order.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from harness.audit import perturbations
from harness.audit.context import PATIENCE, AuditContext, ProbeResult
from harness.loadgen.scenarios import MESSAGE_EXAMPLES, QuerySamples
from harness.results import statistics
from harness.results.statistics import Interval
from harness.tasks.task import Example
from harness.worker.driver import Worker

BATCH, BATCHES = 32, 12
WINDOWS = 5
CACHE_FACTOR = 1.25
"""Repeats that are surely this much faster come out of a cache."""

KNOWN_FACTOR = 1.6
"""The same words in another order that take surely this much longer were not expected; more than
above, since early exits are less sure of them."""


@dataclass
class Times:
    """Seconds of the same examples, a list for each way of asking."""

    repeat: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    reordered: list[float] = field(default_factory=list)

    @property
    def faster(self) -> Interval:
        """How much faster the repeats are than what is nearest to them."""
        found = [
            statistics.ratio(each, self.repeat) for each in (self.first, self.reordered) if each
        ]
        return min(found, key=lambda each: each.low)


def repeats(it: AuditContext) -> ProbeResult:
    """Examples that were asked before are not answered faster, alone, in a batch, twice in one, or
    in windows as `offline` has them; and the reported split not faster than text nobody could know.

    What looks like a cache is asked once more: both times it must.
    """
    probes: dict[str, tuple[Callable[[AuditContext], Times], float]] = {
        "single queries": (_queries, CACHE_FACTOR),
        "batches": (_batches, CACHE_FACTOR),
        "twice in a batch": (_doubled, CACHE_FACTOR),
        "whole windows": (_windows, KNOWN_FACTOR),
        "known text": (_known, KNOWN_FACTOR),
    }
    ratios, caught, few = [], [], False
    for name, (ask, most) in probes.items():
        found = ask(it).faster
        if found.low > most:
            found = ask(it).faster
            caught += [name] if found.low > most else []
        few |= math.isnan(found.low)
        ratios.append(f"{name} {found.value:.2f}x [{found.low:.2f}, {found.high:.2f}]")
    fault = f"; that is a cache ({', '.join(caught)})" if caught else ""
    passed = None if few and not caught else not caught  # one pair of times tells nothing
    return ProbeResult("repeats", passed, f"faster when asked again: {', '.join(ratios)}{fault}")


def _seconds(it: AuditContext, worker: Worker, examples: Sequence[Example]) -> float:
    line = QuerySamples.of(examples, len(it.row.task.labels)).line(0, range(len(examples)))
    started = time.perf_counter()
    worker.ask(line, PATIENCE)
    return time.perf_counter() - started


def _queries(it: AuditContext) -> Times:
    """Each example alone; two queries later it and its words in another order."""
    times, other = Times(), perturbations.shuffled(it.examples, it.seed)
    rows = it.questions.order(seed=it.seed + 3)
    with it.worker("single_stream") as worker:
        started = time.perf_counter()
        first = [_seconds(it, worker, [it.examples[rows[0]]])]
        for number, row in enumerate(rows[1:]):
            first.append(_seconds(it, worker, [it.examples[row]]))
            before = rows[number]
            for kind in sorted(("repeat", "reordered"), reverse=bool(number % 2)):
                example = (it.examples if kind == "repeat" else other)[before]
                getattr(times, kind).append(_seconds(it, worker, [example]))
            if time.perf_counter() - started > it.timing.audit_queries:
                break
    times.first = first[: len(times.repeat)]
    return times


def _batches(it: AuditContext) -> Times:
    """Batches; then once more, and with the words of each text in another order."""
    times = Times()
    with it.worker() as worker:
        for number, part in enumerate(_parts(it, BATCH)):
            times.first.append(_seconds(it, worker, part))
            for kind in sorted(("repeat", "reordered"), reverse=bool(number % 2)):
                batch = part if kind == "repeat" else perturbations.shuffled(part, it.seed)
                getattr(times, kind).append(_seconds(it, worker, batch))
    return times


def _doubled(it: AuditContext) -> Times:
    """Batches that hold half of their examples twice, against different ones, and against a second
    half with its words in another order.
    """
    times = Times()
    with it.worker() as worker:
        for number, part in enumerate(_parts(it, 2 * BATCH)):
            half = [part[2 * (place // 2) + number % 2] for place in range(len(part))]
            mixed = half[::2] + perturbations.shuffled(half[1::2], it.seed)
            kinds = [("first", part), ("repeat", half), ("reordered", mixed)]
            for kind, batch in kinds[number % 3 :] + kinds[: number % 3]:
                getattr(times, kind).append(_seconds(it, worker, batch))
    return times


def _windows(it: AuditContext) -> Times:
    """The set over and over, in messages as large as those of `offline`, against as many texts of
    the same words, none of which comes twice.
    """
    times, count = Times(), len(it.examples)
    size = int(max(1, min(MESSAGE_EXAMPLES, it.rate * it.timing.window)))
    rounds = -(-size // count)
    again = (list(it.examples) * rounds)[:size]
    with it.worker() as worker:
        _seconds(it, worker, again)
        for number in range(WINDOWS):
            seeds = range(number * rounds, (number + 1) * rounds)
            fresh = [
                each for seed in seeds for each in perturbations.shuffled(it.examples, seed + 1)
            ]
            for kind in sorted(("first", "repeat"), reverse=bool(number % 2)):
                batch = again if kind == "repeat" else fresh[:size]
                getattr(times, kind).append(_seconds(it, worker, batch))
    return times


def _known(it: AuditContext) -> Times:
    """The real texts against their words in another order, each alone and for the first time."""
    times, changed = Times(), perturbations.shuffled(it.examples, it.seed)
    with it.worker("single_stream") as worker:
        started = time.perf_counter()
        for number, row in enumerate(it.questions.order(seed=it.seed + 4)):
            for kind in sorted(("first", "repeat"), reverse=bool(number % 2)):
                source = it.examples if kind == "repeat" else changed
                getattr(times, kind).append(_seconds(it, worker, [source[row]]))
            if time.perf_counter() - started > it.timing.audit_queries:
                break
    return times


def _parts(it: AuditContext, size: int) -> list[list[Example]]:
    """Twelve batches of neighbours in length; smaller ones where there are few examples."""
    rows = it.questions.by_length
    size = max(2, min(size, len(rows) // BATCHES // 2 * 2))
    starts = [place * (len(rows) - size) // (BATCHES - 1) for place in range(BATCHES)]
    return [[it.examples[row] for row in rows[start : start + size]] for start in starts]
