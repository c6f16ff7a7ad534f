"""Published records against those of another machine: which claims hold."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from tabulate import tabulate

from harness.errors import HarnessError
from harness.leaderboard.formatting import interval
from harness.leaderboard.ranking import Section, faster
from harness.leaderboard.row import Row
from harness.reports.comparison import SURE, paired
from harness.results import statistics
from harness.results.statistics import Interval

NEAR = 4 / 3
"""A speed-up holds where both values are within a third, however narrow the intervals: they know
nothing of how much sessions differ. Of eighty speed-ups of the same code on the same machine
two were a third apart in another session (docs/results.md).
"""


@dataclass(frozen=True)
class Claim:
    """What the published records say, what was found here, and whether it holds: `holds`, `does not
    hold`, or `open` where this session cannot tell. p: of a score, that the two are the same; the
    verdict then comes when all are known.
    """

    text: str
    published: str
    here: str
    verdict: str
    p: float | None = None


def published_systems(
    found: Sequence[Section], task: str, wanted: Sequence[str] | None, known: Sequence[str] | None
) -> tuple[str, list[str]]:
    """The suite and the systems of the latest published session of a task, as far as this checkout
    has them.

    wanted: only these. known: the systems of this checkout; None where none is needed. Raises:
    HarnessError if there is none, or one that is wanted is not among them.
    """
    latest = _offline(found, task)
    names = [
        row.name for row in latest.systems if row.measured and (known is None or row.name in known)
    ]
    absent = [name for name in wanted or () if name not in names]
    names = [name for name in names if not wanted or name in wanted]
    if absent or not names:
        raise HarnessError(
            f"{task}: {' and '.join(absent) or 'every system'} cannot be verified: not published, "
            f"or not in this checkout. Published are "
            f"{', '.join(row.name for row in latest.systems)}. Name those of them with --system "
            "that this checkout has."
        )
    return latest.rows[0].record.suite, names


def _offline(found: Sequence[Section], task: str) -> Section:
    fitting = [
        each
        for each in found
        if each.scenario == "offline" and each.task["name"] == task and each.floor is not None
    ]
    if not fitting:
        names = sorted({str(each.task["name"]) for each in found})
        raise HarnessError(
            f"no published session of {task} has a reference. There are: {', '.join(names) or '-'}"
        )
    return max(fitting, key=lambda each: each.started)


def verification(
    published: Sequence[Section],
    measured: Sequence[Section],
    task: str,
    wanted: Sequence[str] | None,
) -> tuple[str, bool]:
    """Markdown, claim by claim; and whether one does not hold. Of the scores one in twenty sets may
    fail by chance (Holm 1979), not one in twenty scores.
    """
    theirs = _offline(published, task)
    fitting = [
        each
        for each in measured
        if each.task["name"] == task
        and each.configuration["hash"] == theirs.configuration["hash"]
        and each.session != theirs.session
    ]
    if not fitting:
        raise HarnessError(
            f"nothing but {theirs.session} was measured on {task} with configuration "
            f"{theirs.configuration['name']}, so there is nothing to hold against it."
        )
    latest = max(fitting, key=lambda each: each.started)
    ours = {each.scenario: each for each in fitting if each.session == latest.session}
    claims: list[Claim] = []
    for before in published:
        if (before.session, before.task) == (theirs.session, theirs.task) and (
            here := ours.get(before.scenario)
        ):
            claims += _claims(before, here, wanted)
    parts = ["# Verification", _heading("Published", theirs), _heading("Here", latest)]
    claims = _judged(claims)
    counts = {verdict: sum(each.verdict == verdict for each in claims) for verdict in VERDICTS}
    parts.append(", ".join(f"{count} {verdict}" for verdict, count in counts.items()) + ".")
    lines = [(each.text, each.published, each.here, each.verdict) for each in claims]
    heads = ("claim", "published", "here", "verdict")
    parts.append(tabulate(lines, headers=heads, tablefmt="github", disable_numparse=True))
    named = {row.name for row in latest.rows}
    if absent := [
        row.name
        for row in theirs.systems
        if row.name not in named and (not wanted or row.name in wanted)
    ]:
        parts.append(f"Not measured here: {', '.join(absent)}.")
    return "\n\n".join(parts) + "\n", bool(counts["does not hold"])


def _judged(claims: Sequence[Claim]) -> list[Claim]:
    """With the verdicts on the scores."""
    tested = [each for each in claims if each.p is not None]
    adjusted = statistics.holm([each.p or 0.0 for each in tested])
    sure = {each.text: p < SURE for each, p in zip(tested, adjusted, strict=True)}
    return [
        replace(each, verdict="does not hold" if sure[each.text] else "holds")
        if each.p is not None
        else each
        for each in claims
    ]


VERDICTS = ("holds", "does not hold", "open")


def _heading(who: str, section: Section) -> str:
    versions = section.rows[0].record.software
    return (
        f"{who}: session `{section.session}`, {section.machine}, {section.configuration['name']}, "
        f"torch {versions.get('torch')}, onnxruntime {versions.get('onnxruntime')}."
    )


def _claims(before: Section, after: Section, wanted: Sequence[str] | None) -> list[Claim]:
    ours = {row.name: row for row in after.rows}
    scenario = before.scenario.replace("_", " ")
    null = before.rows[0].record.roles["null"]
    pairs = [
        (row, ours.get(row.name))
        for row in before.systems
        if row.measured and row.name != null and (not wanted or row.name in wanted)
    ]
    claims = []
    for then, now in pairs:
        if now is None:
            continue
        if now.record.failure or not now.measured:
            reason = (now.record.failure or {"reason": "no figures"})["reason"]
            claims.append(Claim(f"{then.name} runs", "yes", reason, "does not hold"))
            continue
        if before.scenario == "offline":
            claims += _scores(then, now)
        for what, one, other in (
            ("of the reference", then.speedup, now.speedup),
            ("unpadded", then.unpadded, now.unpadded),
        ):
            if one and other and one.low != one.high:
                name = f"{then.name}, {scenario}: speed-up {what}"
                claims.append(Claim(name, interval(one), interval(other), _same(one, other)))
    return claims + _order(before, ours, pairs)


def _scores(then: Row, now: Row) -> list[Claim]:
    """Of the score itself, and of the floor."""
    one, other = (row.record.score or {} for row in (then, now))
    before, here = (f"{each['value']:.4f} ± {each['se']:.4f}" for each in (one, other))
    apart = paired(now, then)
    here += f", p {apart.p:.2g}" if apart else ", of other examples"
    claims = [Claim(f"{then.name}: score", before, here, "open", apart.p if apart else None)]
    if then.compared and now.compared and then.name != then.record.roles["reference"]:
        same = then.qualified == now.qualified
        state = "holds" if same else "open" if now.near or then.near else "does not hold"
        name = f"{then.name}: the floor"
        claims.append(Claim(name, _side(then), _side(now), state))
    return claims


def _side(row: Row) -> str:
    return ("above" if row.qualified else "below") + ("~" if row.near else "")


def _same(one: Interval, here: Interval) -> str:
    """Whether two speed-ups are near; `open` where this session knows its own to no factor of two
    to each side, or where the values are apart and the intervals still overlap.
    """
    near = max(one.value / here.value, here.value / one.value) <= NEAR
    if near and here.high / here.low <= 4:
        return "holds"
    apart = one.low > here.high or here.low > one.high
    return "does not hold" if apart and not near else "open"


def _order(
    before: Section, ours: dict[str, Row], pairs: Sequence[tuple[Row, Row | None]]
) -> list[Claim]:
    """Of neighbours in the published order of speed, those that were significantly apart."""
    ranked = sorted((then for then, now in pairs if now), key=lambda row: -row.throughput)
    claims = []
    for quick, slow in pairwise(row for row in ranked if ours[row.name].measured):
        then, now = faster(slow, quick), faster(ours[slow.name], ours[quick.name])
        if then and now and then.low > 1:
            state = "holds" if now.low > 1 else "does not hold" if now.high < 1 else "open"
            name = f"{before.scenario.replace('_', ' ')}: {quick.name} is faster than {slow.name}"
            claims.append(Claim(name, interval(then), interval(now), state))
    return claims
