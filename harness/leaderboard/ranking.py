"""From records to sections of comparable rows: speed-ups, quality floor, ranks."""

import gc
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from harness.errors import RecordError
from harness.leaderboard.column import Column
from harness.leaderboard.formatting import format_machine
from harness.leaderboard.row import Row, is_energy_measured
from harness.results import record, statistics
from harness.results.record import Record
from harness.results.record_parts import ConfigurationPart, MachinePart, RolesPart, TaskPart
from harness.results.statistics import Interval
from harness.tasks.metrics import ACCURACY, METRICS, Answers, Truths, compare

QUALITY_FLOOR = 0.95
"""Share of the reference's gain over the majority class that a ranked system must keep."""


@dataclass
class Section:
    """The rows of one machine, configuration, task and scenario, all from one session.

    Attributes:
        machine: the short name of the machine.
        configuration: the configuration, as in the records.
        task: the task, as in the records.
        scenario: the scenario.
        session: the name of the session.
        started: the time at which the session started (ISO 8601).
        rows: ranked rows first, then by throughput, controls last.
        floor: the score at the quality floor; None if the reference is not significantly above the
            majority class.
    """

    machine: str
    configuration: ConfigurationPart
    task: TaskPart
    scenario: str
    session: str
    started: str
    rows: list[Row]
    floor: float | None

    @property
    def system_rows(self) -> list[Row]:
        """The main row of each system, without additional operating points and seeds."""
        return [row for row in self.rows if row.is_main]

    @property
    def measured_rows(self) -> dict[str, Row]:
        """The rows with figures to compare, by name."""
        return {row.name: row for row in self.rows if row.measured}

    @property
    def roles(self) -> RolesPart:
        """The names of the systems that are `reference`, `unpadded_reference` and `null`."""
        return self.rows[0].record.roles

    @property
    def fingerprint(self) -> MachinePart:
        """The machine, as in the records."""
        return self.rows[0].record.machine

    @property
    def is_smoke(self) -> bool:
        """Whether a row was measured with the short windows of a smoke run."""
        return any(row.record.smoke for row in self.rows)

    @property
    def on_gpu(self) -> bool:
        """Whether it was measured under a GPU configuration."""
        return "gpu" in self.fingerprint

    @property
    def energy_measured(self) -> bool:
        """Whether the energy of all rows is measured."""
        return all(is_energy_measured(row.record) for row in self.rows)

    def get_headings(self, columns: Iterable[Column]) -> dict[str, Column]:
        """Return columns by their headings in the section's tables."""
        record, measured = self.rows[0].record, self.energy_measured
        return {column.heading(record, measured): column for column in columns}

    @property
    def energy_source(self) -> str:
        """The origin of the energy figures."""
        return "; ".join(sorted({row.record.energy["source"] for row in self.rows}))


def load_rows(
    records: Path, session: str = "*", needs: Sequence[str] = ()
) -> tuple[list[Row], list[str]]:
    """Read the rows that a leaderboard shows.

    For each machine, configuration, task and scenario these are the rows of the latest session
    that includes the needed systems, or of the latest session if none does. Only one record is
    read of a session that is not shown.

    Args:
        records: the folder of all records.
        session: a glob pattern for the names of the sessions.
        needs: the names of the needed systems; by default the reference.

    Returns:
        The rows, and a message for each record that cannot be read.
    """
    gc.disable()  # nothing that is read becomes garbage, and collecting costs a quarter more time
    try:
        return _load_rows(records, session, needs)
    finally:
        gc.enable()


def _load_rows(records: Path, session: str, needs: Sequence[str]) -> tuple[list[Row], list[str]]:
    folders, faults = _find_folders(records, session)
    rows: list[Row] = []
    for key in sorted(folders):
        latest_first = sorted(
            folders[key], key=lambda pair: (pair[0].started, pair[0].session), reverse=True
        )
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
            except (RecordError, KeyError, TypeError, AttributeError) as error:
                folder_faults.append(_describe_fault(path, error))
        else:
            faults += folder_faults
    return folders, faults


def section_key(record: Record) -> tuple[str, ...]:
    """Return what the rows of a section share: machine, configuration, task, scenario."""
    configuration = f"{record.configuration['name']} {record.configuration['hash']}"
    task = str(record.task["name"]), str(record.task["version"])
    return format_machine(record), configuration, *task, record.scenario


def _read_folder(folder: Path) -> tuple[list[Row], list[str]]:
    rows, faults = [], []
    shared: dict[str, list[Any]] = {}  # labels and groups of all systems of a folder, held once
    for path in sorted(folder.glob("*.json")):
        try:
            rows.append(_read_row(path, shared))
        except (
            *(RecordError, KeyError, TypeError, ValueError, ArithmeticError, AttributeError),
        ) as error:
            faults.append(_describe_fault(path, error))
    return rows, faults


def _read_row(path: Path, shared: dict[str, list[Any]]) -> Row:
    row_record = record.read_record(path)
    side = record.read_side_file(path)
    for name in ("labels", "groups"):
        first = shared.setdefault(name, side[name])
        side[name] = first if first == side[name] else side[name]
    truths, answers = side["labels"], side["answers"]
    if answers and len(answers) != len(truths):
        raise ValueError(f"{len(answers)} answers to {len(truths)} examples")
    rounds = row_record.rounds
    seconds = {window.block: window.seconds / window.examples for window in rounds}
    if row_record.scenario == "server":
        sustained = [window for window in rounds if row_record.is_reported(window)]
        seconds = {window.block: 1 / (window.rate or 1) for window in sustained}
    row = Row(row_record, seconds, answers, truths, side["groups"])
    section_key(row_record)  # fails here rather than for the whole board
    row.validate()
    return row


def _describe_fault(path: Path, error: Exception) -> str:
    if isinstance(error, RecordError):
        return str(error)
    return f"{path}: {type(error).__name__}: {error}. Remove it, or measure again."


def load_sections(
    records: Path, session: str = "*", needs: Sequence[str] = ()
) -> tuple[list[Section], list[str]]:
    """Read rows like `load_rows` and return them as sections, with the same messages."""
    rows, faults = load_rows(records, session, needs)
    return group_sections(rows), faults


def group_sections(rows: Sequence[Row]) -> list[Section]:
    """Group rows by machine, configuration, task and scenario, and compare them within each."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(section_key(row.record), []).append(row)
    sections = []
    for key in sorted(groups):
        first = groups[key][0].record
        section = Section(
            machine=format_machine(first),
            configuration=first.configuration,
            task=first.task,
            scenario=first.scenario,
            session=first.session,
            started=first.started,
            rows=groups[key],
            floor=None,
        )
        _compare_rows(section)
        sections.append(section)
    return sections


def _compare_rows(section: Section) -> None:
    measured = [row for row in section.rows if row.measured]
    scored = [row for row in section.rows if row.scored]
    by_name, roles = section.measured_rows, section.roles
    reference, unpadded, null = (
        by_name.get(roles[role]) for role in ("reference", "unpadded_reference", "null")
    )
    for row in measured:
        row.speedup = compute_speedup(reference, row)
        row.unpadded_speedup = compute_speedup(unpadded, row)
        if null is not None:
            row.harness_share = _seconds_per_example(null) / _seconds_per_example(row)
    # a reference that sustains no rate in `server` still has a score
    scored_reference = next((row for row in scored if row.name == roles["reference"]), None)
    if scored_reference is not None:
        section.floor = _apply_floor(scored, scored_reference)
    for row in measured:
        row.break_even = _compute_break_even(row, unpadded)
    for row in section.rows:
        if row.seed is not None and row.base_name in by_name:
            main = by_name[row.base_name]
            main.seed_rows = [*(main.seed_rows or [main]), row]
    _rank([row for row in measured if row.qualified and row.is_main and not row.failed_probes])
    section.rows.sort(
        key=lambda row: (
            row.is_control,
            row.rank is None,
            row.rank or 0,
            -(row.throughput if row.measured else 0),
            row.name,
        )
    )


def _rank(rows: Sequence[Row]) -> None:
    """Rank each row by the number of rows of its division that are significantly faster."""
    pace = {row.name: statistics.geometric_mean(list(row.seconds.values())) for row in rows}
    divisions: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: pace[row.name]):
        divisions.setdefault(row.record.system["division"], []).append(row)
    for peers in divisions.values():
        for index, row in enumerate(peers):
            # in the same blocks, a row that is slower on average is never significantly faster
            candidates = [
                peer
                for peer_index, peer in enumerate(peers)
                if peer_index < index or peer.seconds.keys() != row.seconds.keys()
            ]
            row.rank = 1 + sum(_is_significantly_faster(peer, row) for peer in candidates)


def _compute_break_even(row: Row, reference: Row | None) -> float | None:
    """Return the extra cost of the build over what each request saves.

    Infinite if a request saves nothing; None without a reference, and for the reference itself.
    """
    if reference is None or row is reference:
        return None
    build, requests_1k = row.break_even_terms()
    reference_build, reference_1k = reference.break_even_terms()
    saved = (reference_1k - requests_1k) / 1000
    return max(0.0, build - reference_build) / saved if saved > 0 else math.inf


def _seconds_per_example(row: Row) -> float:
    """In `server` this is the median latency."""
    if row.record.scenario == "server":
        return float((row.record.latency_ms or {})["p50"]) / 1000
    return fmean(row.seconds.values())


def compute_speedup(slow: Row | None, fast: Row) -> Interval | None:
    """Return how many times as fast one row is as another, within the blocks that both have.

    None if they share no block, or the other row is None.
    """
    if slow is None:
        return None
    if slow is fast and fast.seconds:
        return Interval(1.0, 1.0, 1.0)
    return ratio_within_blocks(slow.seconds, fast.seconds)


def ratio_within_blocks(slow: Mapping[int, float], fast: Mapping[int, float]) -> Interval | None:
    """Return the geometric mean of slow / fast over the blocks of both; None if there is none.

    Args:
        slow: a positive value (seconds, energy) by block.
        fast: the same for the system that is expected to need less.
    """
    blocks = sorted(set(slow) & set(fast))
    if not blocks:
        return None
    return statistics.estimate_ratio(
        [slow[block] for block in blocks], [fast[block] for block in blocks]
    )


def _is_significantly_faster(row: Row, other: Row) -> bool:
    speedup = compute_speedup(other, row)
    return row is not other and speedup is not None and speedup.low > 1


def _apply_floor(rows: Sequence[Row], reference: Row) -> float | None:
    """Compare each row with the quality floor.

    Returns:
        The floor as a score; None if the reference is not significantly above the majority class.
    """
    score = reference.record.score
    if not score:
        return None
    majority, gain = score["majority"], score["value"] - score["majority"]
    if gain <= 1.645 * score["se"]:
        return None
    metric = METRICS[reference.record.task["metric"]]
    other: Answers = np.asarray(reference.answers)  # once for all rows
    accuracy = metric is ACCURACY
    truths: Truths = np.asarray(reference.truths) if accuracy else reference.truths
    for row in rows:
        same = row.truths is reference.truths
        row.comparison = compare(
            metric,
            row.answers,
            other,
            truths if same else row.truths,
            row.groups,
            majority,
            QUALITY_FLOOR,
        )
        margin = row.comparison.floor_margin
        row.qualified = margin.value >= 0
        row.near_floor = margin.low < 0 < margin.high
    return float(majority + QUALITY_FLOOR * gain)
