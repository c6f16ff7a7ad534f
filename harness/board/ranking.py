"""From records to rows: speed-ups within blocks, the floor, ranks."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from harness import record, stats
from harness.board.row import Row, machine_name
from harness.errors import RecordError
from harness.stats import Interval
from harness.tasks.metrics import METRICS, compare

FLOOR = 0.95
"""Share of the reference's gain over the majority class that a ranked system must keep."""


@dataclass
class Section:
    """The rows of one machine, configuration, task and scenario, all out of one session."""

    machine: str
    configuration: dict[str, Any]
    task: dict[str, Any]
    scenario: str
    session: str
    started: str
    rows: list[Row]
    floor: float | None

    @property
    def systems(self) -> list[Row]:
        """A row a system, without its other operating points."""
        return [row for row in self.rows if not row.point]

    @property
    def fingerprint(self) -> dict[str, Any]:
        """The machine."""
        return self.rows[0].record.machine

    @property
    def source(self) -> str:
        """Where the energy figures come from."""
        return "; ".join(sorted({row.record.energy["source"] for row in self.rows}))


def load_rows(records: Path) -> tuple[list[Row], list[str]]:
    """All records below a folder, and the faults of those that cannot be read: a broken one takes
    nothing else down.
    """
    rows, faults = [], []
    for path in record.paths(records):
        try:
            it = record.read(path)
            side = record.read_side(path)
            truths, answers = side["labels"], side["answers"]
            if answers and len(answers) != len(truths):
                raise ValueError("it has not one answer for each example")
            seconds = {each.block: each.seconds / each.examples for each in it.rounds}
            if it.scenario == "server":
                seconds = {
                    each.block: 1 / (each.rate or 1) for each in it.rounds if it.counts(each)
                }
            rows.append(Row(it, seconds, answers, truths, side["groups"]))
        except RecordError as error:
            faults.append(str(error))
        except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
            faults.append(f"{path}: {type(error).__name__}: {error}. Remove it, or measure again.")
    return rows, faults


def sections(rows: Sequence[Row]) -> list[Section]:
    """Rows by machine, configuration, task and scenario; of several sessions the latest that holds
    the reference.
    """
    grouped: dict[tuple[str, ...], dict[tuple[str, str], list[Row]]] = {}
    for row in rows:
        it = row.record
        place: tuple[str, ...] = (
            machine_name(it),
            f"{it.configuration['name']} {it.configuration['hash']}",
            str(it.task["name"]),
            str(it.task["version"]),
            it.scenario,
        )
        grouped.setdefault(place, {}).setdefault((it.started, it.session), []).append(row)
    found = []
    for place in sorted(grouped):
        sessions = grouped[place]
        whole = [
            key
            for key, members in sessions.items()
            if any(each.scored and each.name == each.record.roles["reference"] for each in members)
        ]
        started, session = max(whole or sessions)
        members = sessions[started, session]
        first = members[0].record
        section = Section(
            place[0],
            first.configuration,
            first.task,
            first.scenario,
            session,
            started,
            members,
            None,
        )
        _compare(section)
        found.append(section)
    return found


def _compare(section: Section) -> None:
    good = [row for row in section.rows if row.measured]
    by_name = {row.name: row for row in good}
    roles = section.rows[0].record.roles
    reference, unpadded, null = (
        by_name.get(roles[role]) for role in ("reference", "unpadded_reference", "null")
    )
    for row in good:
        row.speedup = faster(reference, row)
        row.unpadded = faster(unpadded, row)
        if null is not None:
            row.share = _time(null) / _time(row)
    scored = [row for row in section.rows if row.scored]
    standard = next((row for row in scored if row.name == roles["reference"]), None)
    if standard is not None:
        section.floor = _apply_floor(scored, standard)
    for row in good:
        if row.qualified and not row.point:
            peers = [
                each
                for each in good
                if each.qualified
                and not each.point
                and each.record.system["division"] == row.record.system["division"]
            ]
            row.rank = 1 + sum(_significantly_faster(each, row) for each in peers)
    section.rows.sort(
        key=lambda row: (
            row.rank is None,
            row.rank or 0,
            -(row.throughput if row.measured else 0),
            row.name,
        )
    )


def _time(row: Row) -> float:
    """Seconds an example; in `server` the median latency."""
    if row.record.scenario == "server":
        return float((row.record.latency_ms or {})["p50"]) / 1000
    return mean(row.seconds.values())


def faster(slow: Row | None, fast: Row) -> Interval | None:
    """How many times faster, over the blocks that both have."""
    shared = sorted(set(slow.seconds) & set(fast.seconds)) if slow else []
    if not slow or not shared:
        return None
    if slow is fast:
        return Interval(1.0, 1.0, 1.0)
    return stats.ratio(
        [slow.seconds[block] for block in shared], [fast.seconds[block] for block in shared]
    )


def _significantly_faster(one: Row, other: Row) -> bool:
    found = faster(other, one)
    return one is not other and found is not None and found.low > 1


def _apply_floor(rows: Sequence[Row], reference: Row) -> float | None:
    """Mark who is above the floor.

    Returns: the floor as a score; None where the reference is not significantly above the majority
    class.
    """
    score = reference.record.score
    if not score:
        return None
    majority, gain = score["majority"], score["value"] - score["majority"]
    if gain <= 1.645 * score["se"]:
        return None
    metric = METRICS[reference.record.task["metric"]]
    for row in rows:
        row.compared = compare(
            metric, row.answers, reference.answers, row.truths, row.groups, majority, FLOOR
        )
        kept = row.compared.kept
        row.qualified = kept.value >= 0
        row.near = kept.low < 0 < kept.high
    return float(majority + FLOOR * gain)
