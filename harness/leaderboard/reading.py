"""From files of records to rows."""

import gc
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import RecordError
from harness.leaderboard.formatting import format_machine
from harness.leaderboard.history import get_start, seconds_by_block
from harness.leaderboard.row import Row
from harness.results import record
from harness.results.record import Record

FAULTS = (RecordError, KeyError, TypeError, ValueError, ArithmeticError, AttributeError)
"""What reading a damaged record raises."""


@dataclass(frozen=True)
class StoredRecord:
    """A record and its file."""

    path: Path
    record: Record


def section_key(record: Record) -> tuple[str, ...]:
    """Return what the rows of a section share: machine, configuration, task with version, scenario,
    reference.
    """
    configuration = f"{record.configuration['name']} {record.configuration['hash']}"
    task = str(record.task["name"]), str(record.task["version"])
    reference = str(record.roles["reference"])
    return format_machine(record), configuration, *task, record.scenario, reference


def read_records(records: Path) -> tuple[list[StoredRecord], list[str]]:
    """Read all records without their side files.

    Args:
        records: the folder of the sessions.

    Returns:
        The records in order of their paths, and a message for each that cannot be read.
    """
    stored, faults = [], []
    with _collecting_no_garbage():
        for path in record.find_record_paths(records):
            try:
                item = StoredRecord(path, record.read_record(path))
                _validate(item.record)
                stored.append(item)
            except FAULTS as error:
                faults.append(describe_fault(path, error))
    return stored, faults


def _validate(record: Record) -> None:
    """Check what is read of records that are not shown; `Row.validate` checks the others.

    Raises:
        ValueError, KeyError, ArithmeticError: a value is missing or impossible.
    """
    section_key(record)
    if not all(0 < seconds < math.inf for seconds in seconds_by_block(record).values()):
        raise ValueError("a round has impossible figures")
    if record.failure:
        _ = record.failure["reason"]
    if record.score:
        _ = record.score["value"], record.score["se"]


def read_rows(stored: Sequence[StoredRecord]) -> tuple[list[Row], dict[Path, str]]:
    """Read the side files of a section's records of one session.

    Returns:
        A row for each record, and a message for each whose row cannot be made, by path.
    """
    rows, faults = [], {}
    shared: dict[str, list[Any]] = {}  # labels and groups of all systems of a session, held once
    with _collecting_no_garbage():
        for item in stored:
            try:
                rows.append(_make_row(item, shared))
            except FAULTS as error:
                faults[item.path] = describe_fault(item.path, error)
    return rows, faults


def load_rows(
    records: Path, session: str = "*", needs: Sequence[str] = ()
) -> tuple[list[Row], list[str]]:
    """Read the rows of one session for each section.

    These are the rows of the latest session that includes the needed systems, or of the latest
    session if none does. Only one record is read of a session that is not returned.

    Args:
        records: the folder of all records.
        session: a glob pattern for the names of the sessions.
        needs: the names of the needed systems; by default the reference.

    Returns:
        The rows, and a message for each record that cannot be read.
    """
    folders, faults = _find_folders(records, session)
    rows: list[Row] = []
    for key in sorted(folders):
        latest_first = sorted(folders[key], key=lambda pair: get_start(pair[0]), reverse=True)
        latest: tuple[list[Row], list[str]] = ([], [])
        for _, folder in latest_first:
            folder_rows, folder_faults = _read_folder(folder)
            needed = set(needs) or {row.record.roles["reference"] for row in folder_rows}
            scored = {row.name for row in folder_rows if row.scored}
            complete = bool(folder_rows) and needed <= scored
            if complete or not latest[0]:
                latest = folder_rows, folder_faults
            if complete:
                break
        rows += latest[0]
        faults += latest[1]
    return rows, faults


def _find_folders(
    records: Path, session: str
) -> tuple[dict[tuple[str, ...], list[tuple[Record, Path]]], list[str]]:
    """Return the folders of each section with the first readable record of each."""
    folders: dict[tuple[str, ...], list[tuple[Record, Path]]] = {}
    faults = []
    for folder in sorted(records.glob(f"{session}/*/*")):
        folder_faults = []
        for path in sorted(folder.glob("*.json")):
            try:
                first = record.read_record(path)
                folders.setdefault(section_key(first), []).append((first, folder))
                break
            except FAULTS as error:
                folder_faults.append(describe_fault(path, error))
        else:
            faults += folder_faults
    return folders, faults


def _read_folder(folder: Path) -> tuple[list[Row], list[str]]:
    stored, faults = [], []
    for path in sorted(folder.glob("*.json")):
        try:
            stored.append(StoredRecord(path, record.read_record(path)))
        except RecordError as error:
            faults.append(describe_fault(path, error))
    rows, row_faults = read_rows(stored)
    return rows, [*faults, *row_faults.values()]


def _make_row(stored: StoredRecord, shared: dict[str, list[Any]]) -> Row:
    row_record, side = stored.record, record.read_side_file(stored.path)
    for name in ("labels", "groups"):
        first = shared.setdefault(name, side[name])
        side[name] = first if first == side[name] else side[name]
    truths, answers = side["labels"], side["answers"]
    if answers and len(answers) != len(truths):
        raise ValueError(f"{len(answers)} answers to {len(truths)} examples")
    row = Row(row_record, seconds_by_block(row_record), answers, truths, side["groups"])
    section_key(row_record)  # fails here rather than for the whole board
    row.validate()
    return row


def describe_fault(path: Path, error: Exception) -> str:
    """Return what is wrong with a record, and what to do."""
    if isinstance(error, RecordError):
        return str(error)
    return f"{path}: {type(error).__name__}: {error}. Remove it, or measure again."


@contextmanager
def _collecting_no_garbage() -> Iterator[None]:
    """Switch garbage collection off: nothing that is read becomes garbage, and collecting takes a
    quarter more time.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
