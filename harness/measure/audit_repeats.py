"""Whether a submission remembers what it was asked: answers from a cache come sooner."""

import time
from collections.abc import Sequence

from harness import stats
from harness.measure import altered
from harness.measure.audited import PATIENCE, SINGLE_SECONDS, Audited, Finding
from harness.measure.protocol import Worker
from harness.measure.scenarios import Questions
from harness.tasks.task import Example

BATCH, BATCHES = 32, 12
CACHE_FACTOR = 1.25
"""Repeats that are surely this much faster come out of a cache."""

KNOWN_FACTOR = 1.6
"""Changed text, of as many words, that is surely this much slower was not expected."""


def repeats(it: Audited) -> Finding:
    """Examples that were asked before are not answered faster, alone, in a batch, or twice in one;
    and the reported split is not answered faster than text that nobody could know.
    """
    found = {
        "single queries": (_repeated_queries(it), CACHE_FACTOR),
        "batches": (_repeated_batches(it), CACHE_FACTOR),
        "twice in a batch": (_doubled_batches(it), CACHE_FACTOR),
        "known text": (_known_text(it), KNOWN_FACTOR),
    }
    texts = [
        f"{name} {each.value:.2f}x [{each.low:.2f}, {each.high:.2f}]"
        for name, (each, _) in found.items()
    ]
    caught = [name for name, (each, most) in found.items() if each.low > most]
    said = f"faster when asked again: {', '.join(texts)}"
    return Finding(
        "repeats", not caught, said + (f"; that is a cache ({', '.join(caught)})" if caught else "")
    )


def _seconds(it: Audited, worker: Worker, examples: Sequence[Example]) -> float:
    line = Questions.of(examples, len(it.row.task.labels)).line(0, range(len(examples)))
    started = time.perf_counter()
    worker.ask(line, PATIENCE)
    return time.perf_counter() - started


def _repeated_queries(it: Audited) -> stats.Interval:
    """Each example alone, then once more two queries later."""
    first: dict[int, float] = {}
    again: dict[int, float] = {}
    with it.worker("single_stream") as worker:
        started = time.perf_counter()
        rows = it.questions.order(seed=it.seed + 3)
        for number, row in enumerate(rows):
            first[row] = _seconds(it, worker, [it.examples[row]])
            if number:
                before = rows[number - 1]
                again[before] = _seconds(it, worker, [it.examples[before]])
            if time.perf_counter() - started > SINGLE_SECONDS:
                break
    return stats.ratio([first[row] for row in again], list(again.values()))


def _repeated_batches(it: Audited) -> stats.Interval:
    """Batches, then once more."""
    first, again = [], []
    with it.worker() as worker:
        for part in _batches(it, BATCH):
            first.append(_seconds(it, worker, part))
            again.append(_seconds(it, worker, part))
    return stats.ratio(first, again)


def _doubled_batches(it: Audited) -> stats.Interval:
    """Batches of different examples against batches that hold half of these twice."""
    plain: list[float] = []
    doubled: list[float] = []
    with it.worker() as worker:
        for number, part in enumerate(_batches(it, 2 * BATCH)):
            half = [part[2 * (place // 2) + number % 2] for place in range(len(part))]
            for kind in sorted(("plain", "doubled"), reverse=bool(number // 2 % 2)):
                into, asked = (plain, part) if kind == "plain" else (doubled, half)
                into.append(_seconds(it, worker, asked))
    return stats.ratio(plain, doubled)


def _batches(it: Audited, size: int) -> list[list[Example]]:
    """So many that there are twelve, of neighbours in length; smaller ones where there are few."""
    rows = it.questions.by_length
    size = max(2, min(size, len(rows) // BATCHES // 2 * 2))
    starts = [place * (len(rows) - size) // (BATCHES - 1) for place in range(BATCHES)]
    return [[it.examples[row] for row in rows[start : start + size]] for start in starts]


def _known_text(it: Audited) -> stats.Interval:
    """Lightly changed texts against the real ones, each alone and for the first time."""
    changed = altered.perturbed(it.examples, it.seed)
    real: list[float] = []
    other: list[float] = []
    with it.worker("single_stream") as worker:
        started = time.perf_counter()
        for number, row in enumerate(it.questions.order(seed=it.seed + 4)):
            for kind in sorted(("real", "other"), reverse=bool(number % 2)):
                into, source = (real, it.examples) if kind == "real" else (other, changed)
                into.append(_seconds(it, worker, [source[row]]))
            if time.perf_counter() - started > SINGLE_SECONDS:
                break
    return stats.ratio(other, real)
