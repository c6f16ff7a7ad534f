"""Verification of published records on another machine: which claims hold."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from harness.errors import HarnessError
from harness.leaderboard.formatting import format_interval, format_scenario, format_table
from harness.leaderboard.ranking import Section, compute_speedup
from harness.leaderboard.repeats import SESSION_FACTOR
from harness.leaderboard.row import Row
from harness.leaderboard.template import render_template
from harness.leaderboard.warnings import compare_measurements, find_caveats
from harness.reports.comparison import SIGNIFICANCE, compare_scores
from harness.results import statistics
from harness.results.statistics import Interval

HOLDS, FAILS, OPEN = "holds", "does not hold", "open"
VERDICTS = (HOLDS, FAILS, OPEN)


@dataclass(frozen=True)
class Claim:
    """A statement of the published records about a system.

    Attributes:
        text: the statement.
        published: its published value.
        here: the value of the new session.
        verdict: one of `VERDICTS`; `open` if the new session cannot decide it.
        p: of a score, the p-value that both are equal. The verdict then follows from the p-values
            of all scores.
    """

    text: str
    published: str
    here: str
    verdict: str
    p: float | None = None


def find_published_systems(
    sections: Sequence[Section],
    task: str,
    selected: Sequence[str] | None,
    known: Sequence[str] | None,
) -> tuple[Section, list[str]]:
    """Find what to measure in order to verify the latest published session of a task.

    Args:
        sections: the published sections.
        task: the name of the task.
        selected: only these systems; all if empty.
        known: the systems of this checkout; None to accept every name. Those of a model that was
            measured with --model are known from their records.

    Returns:
        A section of the session, and the names of the systems.

    Raises:
        HarnessError: there is no such session, or a selected system cannot be verified.
    """
    latest = _find_latest(sections, task)
    names = [
        row.name
        for row in latest.system_rows
        if row.measured and (known is None or row.name in known or "model" in row.record.system)
    ]
    absent = [name for name in selected or () if name not in names]
    names = [name for name in names if not selected or name in selected]
    if absent or not names:
        raise HarnessError(
            f"{task}: cannot verify {' and '.join(absent) or 'any system'}: not published, or not "
            f"in this checkout. Published: {', '.join(row.name for row in latest.system_rows)}. "
            "Select with --system those that this checkout has."
        )
    return latest, names


def choose_task(sections: Sequence[Section]) -> str:
    """Return the task whose session is verified if none is named: `sentiment`, or the only one."""
    names = {str(section.task["name"]) for section in sections}
    return names.pop() if len(names) == 1 else "sentiment"


def _find_latest(sections: Sequence[Section], task: str) -> Section:
    """The latest offline section of a task with a quality floor."""
    candidates = [
        section
        for section in sections
        if section.scenario == "offline"
        and section.task["name"] == task
        and section.floor is not None
    ]
    if not candidates:
        names = sorted({str(section.task["name"]) for section in sections})
        raise HarnessError(
            f"no published session of {task} has a reference that is better than always answering "
            f"with the most frequent label. Published tasks: {', '.join(names) or 'none'}. Choose "
            "one with --task."
        )
    return max(candidates, key=lambda section: section.started)


def render_verification(
    published: Sequence[Section],
    measured: Sequence[Section],
    task: str,
    selected: Sequence[str] | None,
) -> tuple[str, bool]:
    """Compare new records with published ones, claim by claim.

    The scores share one level of significance (Holm 1979): one set of scores in twenty may fail by
    chance, not one score in twenty.

    Args:
        published: the published sections.
        measured: the sections of this machine.
        task: the name of the task.
        selected: only these systems; all if empty.

    Returns:
        Markdown, and whether a claim does not hold.

    Raises:
        HarnessError: there is no published or no other session of the task.
    """
    reference = _find_latest(published, task)
    candidates = [
        section
        for section in measured
        if section.task["name"] == task
        and section.configuration["hash"] == reference.configuration["hash"]
        and section.session != reference.session
    ]
    if not candidates:
        raise HarnessError(
            f"only {reference.session} was measured on {task} with configuration "
            f"{reference.configuration['name']}, so there is no session to compare it with. "
            "Run `wattbench verify` without --against to measure one."
        )
    latest = max(candidates, key=lambda section: section.started)
    here = {
        section.scenario: section for section in candidates if section.session == latest.session
    }
    claims: list[Claim] = []
    for section in published:
        same_session = (section.session, section.task) == (reference.session, reference.task)
        if same_session and section.scenario in here:
            claims += _compare_sections(section, here[section.scenario], selected)
    claims = _judge_scores(claims)
    verdicts = [claim.verdict for claim in claims]
    lines = [(claim.text, claim.published, claim.here, claim.verdict) for claim in claims]
    measured_names = {row.name for row in latest.rows}
    absent = [
        row.name
        for row in reference.system_rows
        if row.name not in measured_names and (not selected or row.name in selected)
    ]
    text = render_template(
        "reports/verification.md.j2",
        published=reference,
        here=latest,
        counts={verdict: verdicts.count(verdict) for verdict in VERDICTS},
        table=format_table(lines, headings=("claim", "published", "here", "verdict")),
        absent=absent,
        caveats=dict.fromkeys(
            [
                *find_caveats(reference),
                *find_caveats(latest),
                *compare_measurements(reference, latest),
            ]
        ),
    )
    return text, FAILS in verdicts


def _compare_sections(
    published: Section, here: Section, selected: Sequence[str] | None
) -> list[Claim]:
    own_rows = {row.name: row for row in here.rows}
    null = published.roles["null"]
    pairs = [
        (row, own_rows[row.name])
        for row in published.system_rows
        if row.measured
        and row.name in own_rows
        and row.name != null
        and (not selected or row.name in selected)
    ]
    claims = []
    for row, remeasured in pairs:
        if remeasured.record.failure or not remeasured.measured:
            reason = (remeasured.record.failure or {"reason": "no figures"})["reason"]
            claims.append(Claim(f"{row.name} runs", "yes", reason, FAILS))
            continue
        if published.scenario == "offline":
            claims += _compare_quality(row, remeasured)
        claims += _compare_speedups(row, remeasured)
    return claims + _compare_order(pairs)


def _compare_quality(row: Row, remeasured: Row) -> list[Claim]:
    """The claims about the score and about the quality floor."""
    comparison = compare_scores(remeasured, row)
    before, here = (
        f"{score['value']:.4f} ± {score['se']:.4f}"
        for score in (row.record.score or {}, remeasured.record.score or {})
    )
    here += f", p {comparison.p:.2g}" if comparison else ", different examples"
    p = comparison.p if comparison else None
    claims = [Claim(f"{row.name}: score", before, here, OPEN, p)]
    if row.comparison and remeasured.comparison and row.name != row.record.roles["reference"]:
        undecided = row.near_floor or remeasured.near_floor
        verdict = OPEN if undecided else FAILS
        if row.qualified == remeasured.qualified:
            verdict = HOLDS
        text = f"{row.name}: side of the quality floor"
        claims.append(Claim(text, _side_of_floor(row), _side_of_floor(remeasured), verdict))
    return claims


def _side_of_floor(row: Row) -> str:
    return ("above" if row.qualified else "below") + ("~" if row.near_floor else "")


def _compare_speedups(row: Row, remeasured: Row) -> list[Claim]:
    """The claims about both speed-ups, without those of a reference over itself."""
    claims = []
    for baseline, before, here in (
        ("the reference", row.speedup, remeasured.speedup),
        ("the unpadded reference", row.unpadded_speedup, remeasured.unpadded_speedup),
    ):
        if before and here and before.low != before.high:
            scenario = format_scenario(row.record.scenario)
            text = f"{row.name}, {scenario}: speed-up over {baseline}"
            values = format_interval(before), format_interval(here)
            claims.append(Claim(text, *values, _judge_speedup(before, here)))
    return claims


def _judge_speedup(published: Interval, here: Interval) -> str:
    """Judge whether two speed-ups are close.

    `open` if the interval here is not known or wide, or if the values are not close but the
    intervals overlap.
    """
    ratio = max(published.value / here.value, here.value / published.value)
    if ratio <= SESSION_FACTOR:
        return OPEN if here.is_wide else HOLDS
    disjoint = published.low > here.high or here.low > published.high
    return FAILS if disjoint else OPEN


def _compare_order(pairs: Sequence[tuple[Row, Row]]) -> list[Claim]:
    """The claims that one system is faster than the next one in the published order of speed."""
    by_speed = sorted(pairs, key=lambda pair: -pair[0].throughput)
    measured = [(row, remeasured) for row, remeasured in by_speed if remeasured.measured]
    claims = []
    for (fast, own_fast), (slow, own_slow) in pairwise(measured):
        before, here = compute_speedup(slow, fast), compute_speedup(own_slow, own_fast)
        if before is None or here is None or not before.low > 1:  # nan: not known
            continue
        verdict = HOLDS if here.low > 1 else FAILS if here.high < 1 else OPEN
        text = f"{format_scenario(fast.record.scenario)}: {fast.name} is faster than {slow.name}"
        claims.append(Claim(text, format_interval(before), format_interval(here), verdict))
    return claims


def _judge_scores(claims: Sequence[Claim]) -> list[Claim]:
    """Replace the verdicts on the scores by those of the adjusted p-values."""
    adjusted = iter(
        statistics.adjust_p_values([claim.p for claim in claims if claim.p is not None])
    )
    judged = []
    for claim in claims:
        if claim.p is not None:
            claim = replace(claim, verdict=FAILS if next(adjusted) < SIGNIFICANCE else HOLDS)
        judged.append(claim)
    return judged
