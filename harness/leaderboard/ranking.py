"""From records to rows: speed-ups within blocks, the floor, ranks."""

import gc
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from harness.errors import RecordError
from harness.leaderboard.row import Row, machine_name
from harness.results import record, statistics
from harness.results.record import Record
from harness.results.statistics import Interval
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
        """A row a system, without its other operating points and seeds."""
        return [row for row in self.rows if row.own]

    @property
    def fingerprint(self) -> dict[str, Any]:
        """The machine."""
        return self.rows[0].record.machine

    @property
    def source(self) -> str:
        """Where the energy figures come from."""
        return "; ".join(sorted({row.record.energy["source"] for row in self.rows}))


def load_rows(
    records: Path, session: str = "*", needs: Sequence[str] = ()
) -> tuple[list[Row], list[str]]:
    """The rows that a board shows: of each machine, configuration, task and scenario those of the
    latest session that holds the systems it `needs` (by default the reference), else of the latest.

    session: only this one. Returns: the rows, and the faults of records that cannot be read: a
    broken one takes nothing else down. Of sessions that are not shown one record is read.
    """
    gc.disable()  # nothing that is read here is garbage, and looking for it takes a quarter longer
    try:
        return _load_rows(records, session, needs)
    finally:
        gc.enable()


def _load_rows(records: Path, session: str, needs: Sequence[str]) -> tuple[list[Row], list[str]]:
    rows, faults = [], []
    places: dict[tuple[str, ...], list[tuple[Record, Path]]] = {}
    for folder in sorted(records.glob(f"{session}/*/*")):
        broken = []
        for path in sorted(folder.glob("*.json")):
            try:
                it = record.read_record(path)
                places.setdefault(place(it), []).append((it, folder))
                break
            except (RecordError, KeyError, TypeError, AttributeError) as error:
                broken.append(_fault(path, error))
        else:
            faults += broken
    for where in sorted(places):
        found: list[Row] = []
        wrong: list[str] = []
        latest_first = sorted(
            places[where], key=lambda each: (each[0].started, each[0].session), reverse=True
        )
        for _, folder in latest_first:
            own, own_faults = _read_folder(folder)
            wanted = set(needs) or {row.record.roles["reference"] for row in own}
            whole = bool(own) and wanted <= {row.name for row in own if row.scored}
            if whole or not found:
                found, wrong = own, own_faults
            if whole:
                break
        rows += found
        faults += wrong
    return rows, faults


def place(it: Record) -> tuple[str, ...]:
    """What a section is of."""
    configuration = f"{it.configuration['name']} {it.configuration['hash']}"
    task = str(it.task["name"]), str(it.task["version"])
    return machine_name(it), configuration, *task, it.scenario


def _read_folder(folder: Path) -> tuple[list[Row], list[str]]:
    rows, faults = [], []
    kept: dict[str, list[Any]] = {}  # what all systems of a folder share is held once
    for path in sorted(folder.glob("*.json")):
        try:
            it = record.read_record(path)
            side = record.read_side(path)
            for name in ("labels", "groups"):
                first = kept.setdefault(name, side[name])
                side[name] = first if first == side[name] else side[name]
            truths, answers = side["labels"], side["answers"]
            if answers and len(answers) != len(truths):
                raise ValueError("it has not one answer for each example")
            seconds = {each.block: each.seconds / each.examples for each in it.rounds}
            if it.scenario == "server":
                seconds = {
                    each.block: 1 / (each.rate or 1) for each in it.rounds if it.counts(each)
                }
            row = Row(it, seconds, answers, truths, side["groups"])
            place(it)
            row.check()
            rows.append(row)
        except (
            *(RecordError, KeyError, TypeError, ValueError, ArithmeticError, AttributeError),
        ) as error:
            faults.append(_fault(path, error))
    return rows, faults


def _fault(path: Path, error: Exception) -> str:
    if isinstance(error, RecordError):
        return str(error)
    return f"{path}: {type(error).__name__}: {error}. Remove it, or measure again."


def load_sections(
    records: Path, session: str = "*", needs: Sequence[str] = ()
) -> tuple[list[Section], list[str]]:
    """As `load_rows`, compared with their references."""
    rows, faults = load_rows(records, session, needs)
    return sections(rows), faults


def sections(rows: Sequence[Row]) -> list[Section]:
    """Rows by machine, configuration, task and scenario, compared with their references."""
    grouped: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        grouped.setdefault(place(row.record), []).append(row)
    found = []
    for where in sorted(grouped):
        members = grouped[where]
        first = members[0].record
        section = Section(
            where[0],
            first.configuration,
            first.task,
            first.scenario,
            first.session,
            first.started,
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
        row.break_even = _break_even(row, unpadded)
    for other in section.rows:
        if other.seed is not None and other.curve in by_name:
            own = by_name[other.curve]
            own.seeds = [*(own.seeds or [own]), other]
    _rank([row for row in good if row.qualified and row.own and not row.caught])
    section.rows.sort(
        key=lambda row: (
            row.rank is None,
            row.rank or 0,
            -(row.throughput if row.measured else 0),
            row.name,
        )
    )


def _rank(rows: Sequence[Row]) -> None:
    """1, and how many of the same division are significantly faster."""
    pace = {row.name: statistics.geometric_mean(list(row.seconds.values())) for row in rows}
    divisions: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: pace[row.name]):
        divisions.setdefault(row.record.system["division"], []).append(row)
    for peers in divisions.values():
        for place, row in enumerate(peers):
            quicker = [
                each
                for number, each in enumerate(peers)
                if number < place or each.seconds.keys() != row.seconds.keys()
            ]
            row.rank = 1 + sum(_significantly_faster(each, row) for each in quicker)


def _break_even(row: Row, reference: Row | None) -> float | None:
    """Building it, beyond what building the reference takes, over what each request saves; infinite
    where it saves nothing.
    """
    if reference is None or row is reference:
        return None
    (building, using), (built, used) = row.saving(), reference.saving()
    saved = (used - using) / 1000
    return max(0.0, building - built) / saved if saved > 0 else math.inf


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
    return statistics.ratio(
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
