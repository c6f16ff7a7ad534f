"""The measurements of one system over several sessions: which one is shown, and all of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from harness.results import statistics
from harness.results.record import Record
from harness.results.statistics import Interval

ENOUGH_BLOCKS = 5
"""A newer row with so many blocks replaces an older one that has more."""

UNISOLATED = "process"
"""The isolation that is weaker than the others."""


@dataclass(frozen=True)
class NewerRow:
    """A newer measurement of a system that does not replace the row that is shown.

    Attributes:
        record: the newer record.
        reason: why it does not.
    """

    record: Record
    reason: str

    def __str__(self) -> str:
        kind = "newer, but failed" if self.record.failure else "newer, not comparable"
        return f"{kind} (session {self.record.session}): {self.reason}"


@dataclass(frozen=True)
class HistoryEntry:
    """A system's figures in one session.

    Attributes:
        record: the record of that session.
        speedup: over the reference, within that session.
        unpadded_speedup: over the unpadded reference, within that session.
        note: `shown`, or why another row is shown.
    """

    record: Record
    speedup: Interval | None
    unpadded_speedup: Interval | None
    note: str


@dataclass(frozen=True)
class Choice:
    """The row that the board shows of a system.

    Attributes:
        shown: its record.
        newer: newer rows that do not replace it, the latest first.
    """

    shown: Record
    newer: tuple[NewerRow, ...]


def choose_record(records: Sequence[Record], has_reference: Callable[[Record], bool]) -> Choice:
    """Choose the latest comparable row of a system.

    A newer row replaces an older one if it has at least five blocks (or as many as it), if its
    custom code was isolated no worse, if it is not a smoke run, and if its session has the
    reference, which speed-ups and floor need. A failed one replaces no row with figures.

    Args:
        records: of one system in one section, one for each session.
        has_reference: whether the reference of a record's session has figures.
    """
    oldest_first = sorted(records, key=get_start)
    shown, newer = oldest_first[0], []
    for record in oldest_first[1:]:
        if reason := _find_objection(record, shown, has_reference):
            newer.append(NewerRow(record, reason))
        else:
            shown, newer = record, []
    return Choice(shown, tuple(reversed(newer)))


def _find_objection(new: Record, old: Record, has_reference: Callable[[Record], bool]) -> str:
    """Return why a newer row does not replace an older one; '' if it does."""
    if not has_figures(old):
        return ""
    if new.failure:
        return new.failure["reason"]
    if new.smoke and not old.smoke:
        return "it is of a smoke run"
    if has_reference(old) and not has_reference(new):
        return f"its session has no figures of {new.roles['reference']}"
    blocks, old_blocks = count_blocks(new), count_blocks(old)
    if blocks < min(ENOUGH_BLOCKS, old_blocks):
        return f"it has {blocks} block{'s' * (blocks != 1)}, the row that is shown {old_blocks}"
    isolations = [record.machine["isolation"] for record in (old, new)]
    if "code" in new.system and isolations[1] == UNISOLATED != isolations[0]:
        return (
            f"its custom code ran with isolation {isolations[1]}, in the row that is shown with "
            f"{isolations[0]}"
        )
    return ""


def get_start(record: Record) -> tuple[str, str]:
    """Return what orders records by the start of their sessions."""
    return record.started, record.session


def has_figures(record: Record) -> bool:
    """Return whether a system was measured without failure."""
    return bool(record.rounds) and record.failure is None


def count_blocks(record: Record) -> int:
    """Return the number of blocks in which a system was measured."""
    return len({window.block for window in record.rounds})


def trace_history(
    records: Sequence[Record],
    choice: Choice,
    get_references: Callable[[Record], Mapping[str, Record]],
    most: int | None = None,
) -> list[HistoryEntry]:
    """Return a system's figures in all sessions, the latest first.

    Args:
        records: of one system in one section, one for each session.
        choice: which of them is shown.
        get_references: returns the records of a session's references by role.
        most: how many sessions; all by default.
    """
    latest_first = sorted(records, key=get_start, reverse=True)
    notes = {newer.record.session: str(newer).partition(" (")[0] for newer in choice.newer}
    notes[choice.shown.session] = "shown"
    entries = []
    for record in latest_first[:most]:
        references = get_references(record)
        padded, unpadded = (
            _compute_speedup(references.get(role), record)
            for role in ("reference", "unpadded_reference")
        )
        note = notes.get(record.session, "failed" if record.failure else "older")
        entries.append(HistoryEntry(record, padded, unpadded, note))
    return entries


def _compute_speedup(slow: Record | None, fast: Record) -> Interval | None:
    if slow is None or slow.failure or fast.failure:
        return None
    before, after = seconds_by_block(slow), seconds_by_block(fast)
    blocks = sorted(set(before) & set(after))
    if not blocks:
        return None
    if slow is fast:
        return Interval(1.0, 1.0, 1.0)
    return statistics.estimate_ratio(
        [before[block] for block in blocks], [after[block] for block in blocks]
    )


def seconds_by_block(record: Record) -> dict[int, float]:
    """Return the seconds per example of each block; in `server` the inverse of the rate that the
    block sustained.
    """
    if record.scenario == "server":
        sustained = [window for window in record.rounds if record.is_reported(window)]
        return {window.block: 1 / (window.rate or 1) for window in sustained}
    return {window.block: window.seconds / window.examples for window in record.rounds}
