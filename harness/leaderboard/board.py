"""The board: each system's latest comparable row, whatever session it is from.

No figure combines rounds of two sessions: ratios, floor, paired tests, the harness' share, points
and seeds of a row come from the row's own session.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.leaderboard.history import (
    Choice,
    HistoryEntry,
    choose_record,
    get_start,
    has_figures,
    seconds_by_block,
    trace_history,
)
from harness.leaderboard.ranking import (
    Section,
    compare_rows,
    group_sections,
    is_of_one_session,
    rank_rows,
)
from harness.leaderboard.reading import StoredRecord, read_records, read_rows, section_key
from harness.leaderboard.repeats import (
    NOT_ESTIMATED,
    Repeat,
    SessionVariation,
    estimate_session_variation,
)
from harness.leaderboard.row import Row
from harness.results.record import Record
from harness.results.state import FindState, leave_unchecked
from harness.store.cache import digest

HISTORY_SESSIONS = 20
"""Sessions of a system that the page shows; `wattbench board --history` shows all."""

Verdicts = dict[tuple[str, ...], Record]
"""The latest audited record of an artifact or of custom code; also by the name of the system."""


@dataclass
class SectionRecords:
    """All records of a section.

    Attributes:
        by_session: the records of each session, by the name of the system.
    """

    by_session: dict[str, dict[str, StoredRecord]]

    @staticmethod
    def group(stored: Iterable[StoredRecord]) -> "dict[tuple[str, ...], SectionRecords]":
        """Group records by section."""
        groups: dict[tuple[str, ...], SectionRecords] = {}
        for item in stored:
            record = item.record
            section = groups.setdefault(section_key(record), SectionRecords({}))
            session = section.by_session.setdefault(record.session, {})
            session[str(record.system["name"])] = item
        return groups

    @cached_property
    def by_system(self) -> dict[str, list[Record]]:
        """The records of each system, without its operating points and further seeds."""
        systems: dict[str, list[Record]] = {}
        for records in self.by_session.values():
            for name, item in records.items():
                if "@" not in name:
                    systems.setdefault(name, []).append(item.record)
        return systems

    @cached_property
    def choices(self) -> dict[str, Choice]:
        """Which row of each system is shown."""
        return {
            name: choose_record(records, self._has_reference)
            for name, records in self.by_system.items()
        }

    def get_references(self, record: Record) -> dict[str, Record]:
        """Return the references of a record's session by role."""
        records = self.by_session[record.session]
        roles = {role: str(name) for role, name in record.roles.items()}
        return {role: records[name].record for role, name in roles.items() if name in records}

    def _has_reference(self, record: Record) -> bool:
        reference = self.get_references(record).get("reference")
        return reference is not None and has_figures(reference)

    def select(self, session: str) -> list[StoredRecord]:
        """Return what is read of a session: the rows that are shown, and its references."""
        records = self.by_session[session]
        shown = {name for name, choice in self.choices.items() if choice.shown.session == session}
        roles = {str(name) for item in records.values() for name in item.record.roles.values()}
        return [
            item
            for name, item in records.items()
            if name.partition("@")[0] in shown or name in roles
        ]

    def trace(self, name: str, most: int | None = None) -> list[HistoryEntry]:
        """Return a system's figures in all sessions, the latest first."""
        choice = self.choices[name]
        return trace_history(self.by_system[name], choice, self.get_references, most)

    def estimate_variation(self) -> SessionVariation:
        """Estimate how much speed-ups of the same code differ between sessions."""
        repeats = []
        for name, records in self.by_system.items():
            for record in records if len(records) > 1 else ():
                reference = self.get_references(record).get("reference")
                if reference is None or record.failure or record.smoke:
                    continue
                if name in (record.roles["reference"], record.roles["null"]):
                    continue  # the one is 1 always, the other is as noisy as the harness
                before, after = seconds_by_block(reference), seconds_by_block(record)
                speedups = [before[block] / after[block] for block in before.keys() & after.keys()]
                if speedups:
                    code = _identify_code(record)
                    system = digest([name, code, record.system["serve"], record.measurement])
                    repeats.append(Repeat(system, record.session, speedups))
        return estimate_session_variation(repeats)


def load_board(
    records: Path, find_state: FindState = leave_unchecked
) -> tuple[list[Section], list[str]]:
    """Read the rows that the board shows.

    Args:
        records: the folder of all records.
        find_state: tells stale records (default: none is checked).

    Returns:
        The sections, and a message for each record that cannot be read.
    """
    stored, faults = read_records(records)
    sections, row_faults = build_board(stored, find_state)
    return sections, [*faults, *row_faults]


def build_board(
    stored: Sequence[StoredRecord], find_state: FindState
) -> tuple[list[Section], list[str]]:
    """Choose and compare the rows that the board shows; see `load_board`."""
    verdicts = _find_verdicts(item.record for item in stored)
    groups = SectionRecords.group(stored)
    sections, faults = [], []
    for key in sorted(groups):
        section, section_faults = _build_section(groups[key], find_state, verdicts)
        faults += section_faults
        if section:
            sections.append(section)
    return sections, faults


def find_complete_sections(stored: Sequence[StoredRecord], systems: Sequence[str]) -> list[Section]:
    """Return the latest session of each section that has figures of all these systems.

    Args:
        stored: the records.
        systems: the names of the systems, at least one.
    """
    sections = []
    groups = SectionRecords.group(stored)
    for key in sorted(groups):
        by_session = groups[key].by_session
        complete = [
            records
            for records in by_session.values()
            if all(name in records and has_figures(records[name].record) for name in systems)
        ]
        latest = max(
            complete, key=lambda records: get_start(records[systems[0]].record), default=None
        )
        if latest:
            roles = set(latest[systems[0]].record.roles.values())
            names = [name for name in latest if name in systems or name in roles]
            rows, faults = read_rows([latest[name] for name in names])
            sections += [] if faults else group_sections(rows)
    return sections


def load_histories(
    records: Path, system: str
) -> tuple[list[tuple[Record, list[HistoryEntry]]], set[str], list[str]]:
    """Read all measurements of a system.

    Args:
        records: the folder of all records.
        system: the name of the system.

    Returns:
        For each section that has the system its latest record and its history; the names of all
        systems; and a message for each record that cannot be read.
    """
    stored, faults = read_records(records)
    groups = SectionRecords.group(stored)
    histories = [
        groups[key].trace(system) for key in sorted(groups) if system in groups[key].by_system
    ]
    names = set().union(*(group.by_system for group in groups.values()))
    return [(entries[0].record, entries) for entries in histories], names, faults


def _build_section(
    group: SectionRecords, find_state: FindState, verdicts: Verdicts
) -> tuple[Section | None, list[str]]:
    """Choose, read, compare and rank the rows of a section.

    A record whose side file cannot be read is left out, so that an older row may take its place.
    """
    faults: list[str] = []
    while True:
        by_session: dict[str, list[Row]] = {}
        damaged: dict[Path, str] = {}
        for session in sorted({choice.shown.session for choice in group.choices.values()}):
            by_session[session], session_faults = read_rows(group.select(session))
            damaged |= session_faults
        if not damaged:
            break
        faults += damaged.values()
        group = SectionRecords(
            {
                session: {name: item for name, item in records.items() if item.path not in damaged}
                for session, records in group.by_session.items()
            }
        )
    shown = [row for rows in by_session.values() for row in _select_shown(rows, group.choices)]
    if not shown:
        return None, faults
    for row in shown:
        choice = group.choices.get(row.base_name)
        row.state = find_state(row.record)
        if choice and row.is_main:
            row.newer = choice.newer
            if len(group.by_system[row.name]) > 1:
                row.history = group.trace(row.name, HISTORY_SESSIONS)
        row.audit = _get_verdict(row.record, verdicts)
    is_one = is_of_one_session(shown)
    section = Section(shown, NOT_ESTIMATED if is_one else group.estimate_variation())
    rank_rows(section)
    return section, faults


def _select_shown(rows: Sequence[Row], choices: Mapping[str, Choice]) -> list[Row]:
    """Compare the rows of a session, and return those that are shown."""
    if not rows:
        return []
    compare_rows(rows)
    return [
        row
        for row in rows
        if row.base_name in choices and choices[row.base_name].shown.session == row.record.session
    ]


def _find_verdicts(records: Iterable[Record]) -> Verdicts:
    """Return the latest verdict on each artifact and each custom code."""
    verdicts: Verdicts = {}
    for record in records:
        if record.audit and (identity := _identify_code(record)):
            for key in ((identity,), (identity, str(record.system["name"]))):
                if key not in verdicts or verdicts[key].started <= record.started:
                    verdicts[key] = record
    return verdicts


def _get_verdict(record: Record, verdicts: Verdicts) -> dict[str, Any] | None:
    """Return the verdict on what a record measured: that on the system of this name, if any."""
    identity = _identify_code(record)
    audited = verdicts.get((identity, str(record.system["name"]))) or verdicts.get((identity,))
    return audited.audit if audited else record.audit


def _identify_code(record: Record) -> str:
    """Return the digest of custom code, or else the key of the artifact; '' if there is neither."""
    return str(record.system.get("code") or (record.artifact or {}).get("key", ""))
