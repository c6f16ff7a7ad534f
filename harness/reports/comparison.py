"""Comparison of two systems on the same examples in the same blocks."""

from collections.abc import Sequence

from harness.errors import HarnessError
from harness.leaderboard.columns import find_columns, get_column
from harness.leaderboard.commands import resume_command
from harness.leaderboard.formatting import (
    format_interval,
    format_number,
    format_scenario,
    format_table,
)
from harness.leaderboard.ranking import Section, compute_speedup
from harness.leaderboard.row import Row
from harness.leaderboard.warnings import SMOKE_RUN, advise_more_blocks
from harness.results.statistics import Interval
from harness.tasks.metrics import METRICS, Comparison
from harness.tasks.metrics import compare as compare_answers

SIGNIFICANCE = 0.05


def compare_systems(sections: Sequence[Section], first: str, second: str, task: str = "") -> str:
    """Return a table and a conclusion for each section that has both systems.

    Args:
        sections: the sections of the latest sessions that have both.
        first: the name of a system.
        second: the name of another.
        task: show only this task.

    Raises:
        HarnessError: no section has both, or they did not answer the same examples.
    """
    if first == second:
        raise HarnessError(f"{first!r} is named twice. Name two systems.")
    sections = [section for section in sections if task in ("", section.task["name"])]
    parts = []
    for section in sections:
        rows = {row.name: row for row in section.rows if row.measured and row.scored}
        if first in rows and second in rows:
            parts += [
                f"{section.task['name']}, {format_scenario(section.scenario)}, "
                f"{section.configuration['name']}, {section.machine}, session {section.session}",
                *_compare_rows(section, rows[first], rows[second]),
            ]
    if not parts:
        names = sorted({row.name for section in sections for row in section.rows})
        on_task = f" on {task}" if task else ""
        raise HarnessError(
            f"no session has figures of both {first!r} and {second!r}{on_task}. Available systems: "
            f"{', '.join(names) or 'none'}. To measure both: wattbench bench --system {first} "
            f"--system {second}"
        )
    return "\n\n".join(parts)


def _compare_rows(section: Section, first: Row, second: Row) -> list[str]:
    comparison, speedup = compare_scores(second, first), compute_speedup(first, second)
    if comparison is None or speedup is None:
        raise HarnessError(
            f"session {section.session}: {first.name} and {second.name} did not answer the same "
            "examples in the same blocks. Measure both again in one session."
        )
    return [
        _format_figures(section, first, second, comparison, speedup),
        _conclude(section, first, second),
    ]


def _format_figures(
    section: Section, first: Row, second: Row, comparison: Comparison, speedup: Interval
) -> str:
    value, low, high = (getattr(comparison.difference, name) for name in ("value", "low", "high"))
    difference = f"{value:+.4f} [{low:+.4f}, {high:+.4f}], p {comparison.p:.2g}"
    rates = [format_number(row.throughput) for row in (first, second)]
    lines = [
        ("score", f"{first.score:.4f}", f"{second.score:.4f}", difference),
        (*section.get_headings([get_column("throughput")]), *rates, format_interval(speedup)),
    ]
    columns = section.get_headings(find_columns("comparison", [first, second]))
    for heading, column in columns.items():
        before, after = (column.value(row) for row in (first, second))
        if before is None or after is None:
            continue
        ratio = f"{format_number(after / before)}x" if before else "-"
        lines.append((heading, column.text(first), column.text(second), ratio))
    headings = ["", first.name, second.name, f"{second.name} / {first.name}"]
    return format_table(lines, headings=headings)


def compare_scores(row: Row, second: Row) -> Comparison | None:
    """Return the comparison of two rows' scores; None if they did not answer the same examples."""
    task, other_task = row.record.task, second.record.task
    if (task["name"], task["version"]) != (other_task["name"], other_task["version"]):
        return None
    if not row.scored or not second.scored or row.truths != second.truths:
        return None
    return compare_answers(
        METRICS[task["metric"]],
        row.answers,
        second.answers,
        row.truths,
        row.groups,
        majority=(row.record.score or {})["majority"],
        share=1.0,
    )


def _conclude(section: Section, first: Row, second: Row) -> str:
    """One or two sentences: which system is better, and for whom."""
    if section.is_smoke:
        return SMOKE_RUN
    speedup, comparison = compute_speedup(first, second), compare_scores(second, first)
    assert speedup is not None
    assert comparison is not None
    if speedup.value < 1:
        return _conclude(section, second, first)
    slow, fast = first, second
    faster, scores_differ = speedup.low > 1, comparison.p < SIGNIFICANCE
    gain, p = comparison.difference.value, f"p {comparison.p:.2g}"
    winner, loser = (fast, slow) if gain > 0 else (slow, fast)
    interval = format_interval(speedup)
    if not speedup.is_known:
        scores = f"The scores do not differ significantly ({gain:+.4f}, {p})."
        if scores_differ:
            scores = f"The score of {winner.name} is {abs(gain):.4f} higher ({p})."
        command = resume_command(section.rows, "--rounds", "5")
        return f"{scores} One block cannot say which is faster. Measure more: `{command}`."
    if not faster and not scores_differ:
        return (
            f"{fast.name} and {slow.name} do not differ significantly in speed ({interval}) or "
            f"score ({p}); more blocks may show a difference."
        )
    if not faster:
        return (
            f"{winner.name} is the better choice: its score is {abs(gain):.4f} higher ({p}), and "
            f"{loser.name} is not significantly faster ({interval})."
        )
    speed, advice = f"{format_number(speedup.value)} times as fast", ""
    if speedup.is_wide:
        ends = f"{format_number(speedup.low)} and {format_number(speedup.high)}"
        speed = f"between {ends} times as fast"
        advice = f" The interval is wide; {advise_more_blocks(section, is_wide=True)}."
    if not scores_differ:
        return (
            f"{fast.name} is the better choice if time or energy matters: it is {speed}, and the "
            f"scores do not differ significantly ({gain:+.4f}, {p}).{advice}"
        )
    if gain > 0:
        better = f"{fast.name} is better in both: it is {speed}, and its score is {gain:.4f} higher"
        return f"{better}.{advice}"
    savings = "" if speedup.is_wide else _describe_savings(slow, fast)
    return (
        f"Choose {fast.name} if time or energy matters: it is {speed}{savings}. Choose "
        f"{slow.name} if the score matters: it is {-gain:.4f} higher ({p}).{advice}"
    )


def _describe_savings(slow: Row, fast: Row) -> str:
    slow_price, fast_price = (get_column("usd_per_100m").value(row) for row in (slow, fast))
    if slow_price is None or fast_price is None:
        return ""
    saved = format_number(slow_price - fast_price)
    return f" and costs {saved} USD less per 100 million requests"
