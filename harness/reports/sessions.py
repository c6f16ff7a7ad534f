"""Comparison of two sessions of one machine, before and after a change."""

from collections.abc import Sequence
from dataclasses import dataclass

from harness.errors import HarnessError
from harness.leaderboard.formatting import (
    format_interval,
    format_number,
    format_scenario,
    format_table,
)
from harness.leaderboard.ranking import Section
from harness.leaderboard.reading import section_key
from harness.leaderboard.row import Row
from harness.leaderboard.warnings import SMOKE_RUN, compare_measurements
from harness.reports.comparison import SIGNIFICANCE, compare_scores
from harness.results import statistics

REFERENCE_CHANGE = 0.1
"""A change of the reference's own time by this share is reported."""


@dataclass(frozen=True)
class FigureChange:
    """The change of one figure of one system between the sessions.

    Attributes:
        row: the row in the later session.
        figure: `score`, `speed-up` or `memory`.
        values: the figure before, after, and its change, as text.
        p: the p-value that the figure did not change.
        loss: how much worse it became: a share, or points of score; negative if it became better.
    """

    row: Row
    figure: str
    values: str
    p: float
    loss: float

    def judge(self, adjusted_p: float, tolerance: float) -> str:
        """Return `better`, `worse` or `same`."""
        allowed = 0.0 if self.figure == "score" else tolerance
        if adjusted_p >= SIGNIFICANCE or abs(self.loss) <= allowed:
            return "same"
        return "worse" if self.loss > 0 else "better"


def compare_sessions(
    before: Sequence[Section], after: Sequence[Section], tolerance: float, task: str = ""
) -> tuple[str, bool]:
    """Compare speed-ups over the reference, scores on the same examples, and peak memory.

    The p-values are adjusted for all comparisons together (Holm 1979). A record that is missing or
    failed in the later session counts as worse.

    Args:
        before: the sections of the earlier session.
        after: the sections of the later session.
        tolerance: the share of time or memory by which a figure may change.
        task: compare only this task.

    Returns:
        The text, and whether something became significantly worse.

    Raises:
        HarnessError: the sessions have no system in common.
    """
    old, new = _index_rows(before, task), _index_rows(after, task)
    shared = [(old[key], new[key]) for key in sorted(set(old) & set(new))]
    if not shared:
        raise HarnessError(
            "the two sessions have no system in common on the same machine, configuration, task "
            "and scenario. To compare two machines, run: wattbench verify"
        )
    changes = [change for pair in shared for change in _find_changes(*pair)]
    adjusted = statistics.adjust_p_values([change.p for change in changes])
    verdicts = [change.judge(p, tolerance) for change, p in zip(changes, adjusted, strict=True)]
    parts = [
        *_format_changes(changes, adjusted, verdicts),
        f"{len(changes)} comparisons, {verdicts.count('same')} without a significant change.",
    ]
    worse = verdicts.count("worse")
    for old_row, row in shared:
        if row.record.failure and not old_row.record.failure:
            worse += 1
            parts.append(f"{row.name} failed: {row.record.failure['reason']}")
        elif row.name == row.record.roles["reference"]:
            parts += _describe_reference_change(old_row, row)
    for key in sorted(set(old) - set(new)):
        row = old[key]
        worse += 1
        parts.append(f"{row.name} has no record in the later session ({_describe_place(row)}).")
    parts += compare_measurements(before[0], after[0])
    if any(section.is_smoke for section in (*before, *after)):
        parts.append(SMOKE_RUN)
    parts.append(f"{worse or 'Nothing'} became significantly worse.")
    return "\n\n".join(parts), bool(worse)


def _index_rows(sections: Sequence[Section], task: str) -> dict[tuple[str, ...], Row]:
    """The rows of one session by section and name."""
    return {
        (*section_key(row.record), row.name): row
        for section in sections
        if task in ("", section.task["name"])
        for row in section.rows
    }


def _find_changes(old: Row, new: Row) -> list[FigureChange]:
    changes = []
    if new.record.scenario == "offline" and (comparison := compare_scores(new, old)):
        difference = comparison.difference.value
        values = f"{old.score:.4f}, {new.score:.4f}, {difference:+.4f}"
        changes.append(FigureChange(new, "score", values, comparison.p, -difference))
    if not old.measured or not new.measured:
        return changes
    speedups = old.speedups_by_block(), new.speedups_by_block()
    is_reference = new is new.references.get("reference")
    if not is_reference and (change := statistics.estimate_change(*speedups)):
        means = [f"{format_number(statistics.geometric_mean(values))}x" for values in speedups]
        text = f"{', '.join(means)}, {format_interval(change.ratio)}"
        loss = 1 / change.ratio.value - 1
        changes.append(FigureChange(new, "speed-up", text, change.p, loss))
    peaks = [[window.memory_mb for window in row.rounds] for row in (old, new)]
    if change := statistics.estimate_change(*peaks):
        maxima = [f"{format_number(max(values))} MB" for values in peaks]
        text = f"{', '.join(maxima)}, {format_interval(change.ratio)}"
        loss = change.ratio.value - 1
        changes.append(FigureChange(new, "memory", text, change.p, loss))
    return changes


def _format_changes(
    changes: Sequence[FigureChange], adjusted: Sequence[float], verdicts: Sequence[str]
) -> list[str]:
    """A table of the changes that are significant before or after the adjustment, if any."""
    lines = [
        (
            change.row.name,
            _describe_place(change.row),
            change.figure,
            change.values,
            f"{p:.2g}",
            verdict,
        )
        for change, p, verdict in zip(changes, adjusted, verdicts, strict=True)
        if verdict != "same" or change.p < SIGNIFICANCE
    ]
    headings = ("system", "task, scenario", "figure", "before, after, change", "p", "verdict")
    return [format_table(lines, headings=headings)] if lines else []


def _describe_place(row: Row) -> str:
    return f"{row.record.task['name']}, {format_scenario(row.record.scenario)}"


def _describe_reference_change(before: Row, after: Row) -> list[str]:
    """The change of the reference's own time, which no speed-up shows."""
    change = statistics.estimate_change(list(before.seconds.values()), list(after.seconds.values()))
    if not change or change.p >= SIGNIFICANCE:
        return []
    if abs(change.ratio.value - 1) < REFERENCE_CHANGE:
        return []
    return [
        f"The reference {after.name} itself took {format_interval(change.ratio)} the time it took "
        f"before ({format_scenario(after.record.scenario)}): the state of the machine changed, or "
        "something that all systems share. Speed-ups cannot tell which; measure both versions "
        "again, alternately."
    ]
