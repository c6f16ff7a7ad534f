"""Two systems on the same examples: how they differ, and which is better for whom."""

from collections.abc import Sequence

from tabulate import tabulate

from harness.errors import HarnessError
from harness.leaderboard.formatting import interval, number
from harness.leaderboard.ranking import Section, faster
from harness.leaderboard.row import Row
from harness.tasks.metrics import METRICS, Comparison
from harness.tasks.metrics import compare as compare_answers

SURE = 0.05


def compare_systems(shown: Sequence[Section], one: str, other: str, task: str = "") -> str:
    """A table and a verdict for each machine, configuration, task and scenario that has both.

    shown: of the latest sessions that have both. task: only this one. Raises: HarnessError if none
    has, or they did not answer the same examples.
    """
    if one == other:
        raise HarnessError(f"{one!r} is named twice. Name two systems.")
    parts = []
    for section in shown:
        found = {row.name: row for row in section.rows if row.measured and row.scored}
        if one in found and other in found and task in ("", section.task["name"]):
            head = f"{section.task['name']}, {section.scenario.replace('_', ' ')}"
            place = f"{section.configuration['name']}, {section.machine}"
            parts += [
                f"{head}, {place}, session {section.session}",
                _table(section, found[one], found[other]),
                verdict(found[one], found[other]),
            ]
    if not parts:
        fitting = [each for each in shown if task in ("", each.task["name"])]
        names = sorted({row.name for each in fitting for row in each.rows})
        on = f" on {task}" if task else ""
        raise HarnessError(
            f"no session has both {one!r} and {other!r}{on}, as systems with figures. There are: "
            f"{', '.join(names) or 'none'}. To measure both: wattbench bench --system {one} "
            f"--system {other}"
        )
    return "\n\n".join(parts)


def _table(section: Section, one: Row, other: Row) -> str:
    left, right = one.columns(), other.columns()
    apart = paired(other, one)
    if apart is None or faster(one, other) is None:
        raise HarnessError(
            f"session {section.session}: {one.name} and {other.name} did not answer the same "
            "examples in the same blocks. Measure both again in one session."
        )
    low, high = apart.difference.low, apart.difference.high
    test = f"{apart.difference.value:+.4f} [{low:+.4f}, {high:+.4f}], p {apart.p:.2g}"
    speed = "queries/s" if section.scenario == "server" else "examples/s"
    lines = [
        ("score", f"{left['score']:.4f}", f"{right['score']:.4f}", test),
        (
            speed,
            number(left["throughput"]),
            number(right["throughput"]),
            interval(faster(one, other)),
        ),
    ]
    heads = {
        "p50 ms": "latency_p50_ms",
        "p99 ms": "latency_p99_ms",
        "CPU s/1k": "cpu_seconds_per_1k",
        f"Wh/1k ({str(left['energy_source']).partition(':')[0]})": "energy_wh_per_1k",
        "USD/100M": "usd_per_100m",
        "memory MB": "memory_mb",
        "build CPU s": "build_cpu_seconds",
    }
    for head, name in heads.items():
        pair = left.get(name), right.get(name)
        if None not in pair:
            times = f"{number(pair[1] / pair[0])}x" if pair[0] else "-"
            lines.append((head, number(pair[0]), number(pair[1]), times))
    return tabulate(
        lines, headers=["", one.name, other.name, f"{other.name} against {one.name}"],
        tablefmt="simple", disable_numparse=True,
    )  # fmt: skip


def paired(own: Row, other: Row) -> Comparison | None:
    """The scores of two rows on the same examples; None where they did not answer the same ones."""
    task = own.record.task
    if (task["name"], task["version"]) != (other.record.task["name"], other.record.task["version"]):
        return None
    if not own.scored or not other.scored or own.truths != other.truths:
        return None
    majority = (own.record.score or {})["majority"]
    sides = own.answers, other.answers, own.truths, own.groups
    return compare_answers(METRICS[task["metric"]], *sides, majority, 1.0)


def verdict(one: Row, other: Row) -> str:
    """One sentence: which is better, and for whom."""
    times, apart = faster(one, other), paired(other, one)
    assert times is not None
    assert apart is not None
    if times.value < 1:
        return verdict(other, one)
    quick, slow = other, one
    sure = times.low > 1
    gain = apart.difference.value
    better = apart.p < SURE
    speed = f"{number(times.value)} times as fast"
    if not sure and not better:
        return (
            f"{quick.name} and {slow.name} cannot be told apart, by speed ({interval(times)}) or "
            f"by score (p {apart.p:.2g}); more blocks may tell."
        )
    if not sure:
        winner, loser = (quick, slow) if gain > 0 else (slow, quick)
        return (
            f"{winner.name} is the better choice: its score is {abs(gain):.4f} higher (p "
            f"{apart.p:.2g}), and {loser.name} is not certainly faster ({interval(times)})."
        )
    if not better:
        return (
            f"{quick.name} is the better choice for whoever pays for time or energy: {speed}, and "
            f"the scores cannot be told apart ({gain:+.4f}, p {apart.p:.2g})."
        )
    if gain > 0:
        return f"{quick.name} is better for everyone: {speed}, and its score is {gain:.4f} higher."
    return (
        f"{quick.name} is for whoever pays for time or energy: {speed}{_cheaper(slow, quick)}; "
        f"{slow.name} for whoever needs the {-gain:.4f} of score that it has more "
        f"(p {apart.p:.2g})."
    )


def _cheaper(slow: Row, quick: Row) -> str:
    dear, cheap = (each.columns().get("usd_per_100m") for each in (slow, quick))
    if dear is None or cheap is None:
        return ""
    return f", {number(dear - cheap)} USD less for 100 million requests"
