"""Two sessions of one machine, before and after a change: what became worse beyond noise."""

from collections.abc import Sequence
from dataclasses import dataclass

from tabulate import tabulate

from harness.errors import HarnessError
from harness.leaderboard.formatting import interval, number
from harness.leaderboard.ranking import Section, place
from harness.leaderboard.row import Row
from harness.reports.comparison import SURE, paired
from harness.results import statistics

REFERENCE_MOVED = 0.1


@dataclass(frozen=True)
class Test:
    """One figure of one row in both sessions. p: that it did not change. loss: by how much it is
    worse, a share, or points of score.
    """

    row: Row
    figure: str
    change: str
    p: float
    loss: float


def compare_sessions(
    before: Sequence[Section], after: Sequence[Section], tolerance: float, task: str = ""
) -> tuple[str, bool]:
    """System by system: the speed-up over the reference, the score on the same examples, the peak
    of memory. tolerance: a share of time or memory that does not count. task: only this one.

    Returns: the text, and whether something became worse beyond noise: p-values are adjusted for
    all comparisons together (Holm 1979); what is there no longer, or fails now, is worse. Raises:
    HarnessError if they have nothing in common.
    """
    old, new = _by_place(before, task), _by_place(after, task)
    shared = [(old[key], new[key]) for key in sorted(set(old) & set(new))]
    if not shared:
        raise HarnessError(
            "the two sessions have no system in common on one machine, configuration, task and "
            "scenario. For two machines there is: wattbench verify"
        )
    tests = [test for pair in shared for test in _tests(*pair)]
    lines, worse, same = [], 0, 0
    for test, p in zip(tests, statistics.holm([each.p for each in tests]), strict=True):
        sure = p < SURE and abs(test.loss) > (0.0 if test.figure == "score" else tolerance)
        verdict = ("worse" if test.loss > 0 else "better") if sure else "same"
        worse += verdict == "worse"
        same += verdict == "same"
        if verdict == "same" and test.p >= SURE:
            continue
        it = test.row.record
        where = f"{it.task['name']}, {it.scenario.replace('_', ' ')}"
        lines.append((test.row.name, where, test.figure, test.change, f"{p:.2g}", verdict))
    heads = ("system", "where", "figure", "before, after, change", "p", "verdict")
    parts = [tabulate(lines, headers=heads, tablefmt="simple", disable_numparse=True)]
    parts = parts if lines else []
    parts.append(f"{len(tests)} comparisons, {same} of them the same within noise.")
    for (_, then), (_, now) in shared:
        if now.record.failure and not then.record.failure:
            worse += 1
            parts.append(f"{now.name} failed: {now.record.failure['reason']}")
        elif now.name == now.record.roles["reference"]:
            parts += _course(then, now)
    for key in sorted(set(old) - set(new)):
        _, then = old[key]
        worse += 1
        place_of = f"{then.record.task['name']}, {then.record.scenario.replace('_', ' ')}"
        parts.append(f"{then.name} has no record any more ({place_of}).")
    parts.append(f"{worse or 'Nothing'} became worse beyond noise.")
    return "\n\n".join(parts), bool(worse)


Pair = tuple[Row | None, Row]
"""A row, and the reference of its section before it."""


def _by_place(shown: Sequence[Section], task: str) -> dict[tuple[str, ...], Pair]:
    """The rows of one session by their place and name."""
    found: dict[tuple[str, ...], Pair] = {}
    for section in shown:
        if task not in ("", section.task["name"]):
            continue
        by_name = {row.name: row for row in section.rows if row.measured}
        reference = by_name.get(section.rows[0].record.roles["reference"])
        found |= {(*place(row.record), row.name): (reference, row) for row in section.rows}
    return found


def _tests(before: Pair, after: Pair) -> list[Test]:
    (old_reference, then), (new_reference, now) = before, after
    found = []
    if now.record.scenario == "offline" and (apart := paired(now, then)):
        scores = [(row.record.score or {})["value"] for row in (then, now)]
        text = f"{scores[0]:.4f}, {scores[1]:.4f}, {apart.difference.value:+.4f}"
        found.append(Test(now, "score", text, apart.p, -apart.difference.value))
    if not then.measured or not now.measured:
        return found
    ratios = _ratios(old_reference, then), _ratios(new_reference, now)
    if now is not new_reference and (moved := statistics.change(*ratios)):
        shown = [f"{number(statistics.geometric_mean(each))}x" for each in ratios]
        text = f"{', '.join(shown)}, {interval(moved.ratio)}"
        found.append(Test(now, "speed-up", text, moved.p, 1 / moved.ratio.value - 1))
    peaks = [[each.memory_mb for each in row.rounds] for row in (then, now)]
    if moved := statistics.change(*peaks):
        shown = [f"{number(max(each))} MB" for each in peaks]
        text = f"{', '.join(shown)}, {interval(moved.ratio)}"
        found.append(Test(now, "memory", text, moved.p, moved.ratio.value - 1))
    return found


def _ratios(reference: Row | None, row: Row) -> Sequence[float]:
    """How many times faster than the reference, block by block."""
    shared = sorted(set(row.seconds) & set(reference.seconds)) if reference else []
    return [reference.seconds[block] / row.seconds[block] for block in shared if reference]


def _course(then: Row, now: Row) -> list[str]:
    """The reference's own time, which no speed-up shows."""
    moved = statistics.change(list(then.seconds.values()), list(now.seconds.values()))
    if not moved or abs(moved.ratio.value - 1) < REFERENCE_MOVED or moved.p >= SURE:
        return []
    return [
        f"{now.name} itself took {interval(moved.ratio)} the time it took before "
        f"({now.record.scenario.replace('_', ' ')}): the machine was in another state, or "
        "something changed that all systems share. Speed-ups do not show which; measure both "
        "again in turns."
    ]
