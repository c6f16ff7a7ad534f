"""Sections of comparable rows: speed-ups, quality floor, ranks."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

import numpy as np

from harness.leaderboard.column import Column
from harness.leaderboard.formatting import format_machine
from harness.leaderboard.history import get_start
from harness.leaderboard.reading import load_rows, section_key
from harness.leaderboard.repeats import NOT_ESTIMATED, SessionVariation
from harness.leaderboard.row import Row, is_energy_measured
from harness.results import statistics
from harness.results.record_parts import ConfigurationPart, MachinePart, RolesPart, TaskPart
from harness.results.statistics import Interval
from harness.tasks.metrics import ACCURACY, METRICS, Answers, Truths, compare

QUALITY_FLOOR = 0.95
"""Share of the reference's gain over the majority class that a ranked system must keep."""


@dataclass
class Section:
    """The rows of one machine, configuration, task, scenario and reference.

    All figures of a row come from the row's own session. On the board the rows may come from
    several sessions, elsewhere all are from one.

    Attributes:
        rows: ranked rows first, then by speed, controls last.
        variation: how much speed-ups of the same code differ between sessions.
    """

    rows: list[Row]
    variation: SessionVariation = NOT_ESTIMATED

    @property
    def latest(self) -> Row:
        """The first row of the latest session."""
        return max(self.rows, key=lambda row: get_start(row.record))

    @property
    def machine(self) -> str:
        """The short name of the machine."""
        return format_machine(self.rows[0].record)

    @property
    def configuration(self) -> ConfigurationPart:
        """The configuration, as in the records."""
        return self.latest.record.configuration

    @property
    def task(self) -> TaskPart:
        """The task, as in the records."""
        return self.latest.record.task

    @property
    def scenario(self) -> str:
        """The scenario."""
        return self.rows[0].record.scenario

    @property
    def place(self) -> tuple[str, ...]:
        """What sections of several scenarios share: machine, configuration, task, reference."""
        *place, _, reference = section_key(self.rows[0].record)
        return *place, reference

    @property
    def session(self) -> str:
        """The name of the latest session."""
        return self.latest.record.session

    @property
    def started(self) -> str:
        """The time at which the latest session started (ISO 8601)."""
        return self.latest.record.started

    @property
    def floor(self) -> float | None:
        """The score at the quality floor of the latest session that has one; None if no reference
        is significantly above the majority class.
        """
        with_floor = [row for row in self.rows if row.floor is not None]
        latest = max(with_floor, key=lambda row: row.record.started, default=None)
        return latest.floor if latest else None

    @property
    def floors(self) -> list[float]:
        """The floors of all sessions, each value once."""
        return sorted({row.floor for row in self.rows if row.floor is not None})

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
        return self.latest.record.roles

    @property
    def fingerprint(self) -> MachinePart:
        """The machine, as in the records."""
        return self.latest.record.machine

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
        record, measured = self.latest.record, self.energy_measured
        return {column.heading(record, measured): column for column in columns}

    @property
    def energy_source(self) -> str:
        """The origin of the energy figures."""
        return "; ".join(sorted({row.record.energy["source"] for row in self.rows}))

    @property
    def sessions(self) -> dict[str, list[Row]]:
        """The rows of each session, the latest session first."""
        by_name: dict[str, list[Row]] = {}
        for row in self.rows:
            by_name.setdefault(row.record.session, []).append(row)
        latest_first = sorted(
            by_name, key=lambda name: get_start(by_name[name][0].record), reverse=True
        )
        return {name: by_name[name] for name in latest_first}

    def split_sessions(self) -> "list[Section]":
        """Return one section for each session, the latest first.

        Each also has the references of its session, of which the board may show newer rows.
        """
        sections = []
        for rows in self.sessions.values():
            names = {row.name for row in rows}
            references = {row.name: row for row in rows[0].references.values()}
            further = [row for name, row in references.items() if name not in names]
            sections.append(replace(self, rows=[*rows, *further]))
        return sections


def load_sections(
    records: Path, session: str = "*", needs: Sequence[str] = ()
) -> tuple[list[Section], list[str]]:
    """Read rows like `load_rows`, each section from one session, with the same messages."""
    rows, faults = load_rows(records, session, needs)
    return group_sections(rows), faults


def group_sections(rows: Sequence[Row]) -> list[Section]:
    """Group rows, those of a group being of one session, and compare them within each group."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(section_key(row.record), []).append(row)
    sections = []
    for key in sorted(groups):
        compare_rows(groups[key])
        sections.append(Section(groups[key]))
        rank_rows(sections[-1])
    return sections


def compare_rows(rows: Sequence[Row]) -> None:
    """Compare rows of one session with the references among them."""
    measured = [row for row in rows if row.measured]
    scored = [row for row in rows if row.scored]
    by_name, roles = {row.name: row for row in measured}, rows[0].record.roles
    reference, unpadded, null = (
        by_name.get(roles[role]) for role in ("reference", "unpadded_reference", "null")
    )
    references = {"reference": reference, "unpadded_reference": unpadded, "null": null}
    for row in rows:
        row.references = {role: other for role, other in references.items() if other}
    for row in measured:
        row.speedup = compute_speedup(reference, row)
        row.unpadded_speedup = compute_speedup(unpadded, row)
        if null is not None:
            row.harness_share = _seconds_per_example(null) / _seconds_per_example(row)
    # a reference that sustains no rate in `server` still has a score
    scored_reference = next((row for row in scored if row.name == roles["reference"]), None)
    if scored_reference is not None:
        floor = _apply_floor(scored, scored_reference)
        for row in rows:
            row.floor = floor
    for row in measured:
        row.break_even = _compute_break_even(row, unpadded)
    for row in rows:
        if row.seed is not None and row.base_name in by_name:
            main = by_name[row.base_name]
            main.seed_rows = [*(main.seed_rows or [main]), row]


def rank_rows(section: Section) -> None:
    """Rank the rows that may be ranked, and sort all."""
    _rank(
        [
            row
            for row in section.rows
            if row.measured and row.qualified and row.is_main and not row.failed_probes
        ],
        section.variation,
    )
    pace = get_pace(section.rows)
    section.rows.sort(
        key=lambda row: (
            row.is_control,
            row.rank is None,
            row.rank or 0,
            pace(row),
            row.name,
        )
    )


def get_pace(rows: Sequence[Row]) -> Callable[[Row], float]:
    """Return a function that is lower for faster rows, to order these rows by.

    Within one session it is the time of an example over all rounds. Rows of several sessions are
    ordered by their speed-ups instead, because the state of the machine changes between sessions.
    """
    if is_of_one_session(rows):
        return lambda row: 1 / row.throughput if row.measured else math.inf
    return lambda row: 1 / row.speedup.value if row.speedup else math.inf


def is_of_one_session(rows: Sequence[Row]) -> bool:
    """Return whether all rows were measured in the same session."""
    return len({row.record.session for row in rows}) < 2


def _rank(rows: Sequence[Row], variation: SessionVariation) -> None:
    """Rank each row by the number of rows of its division that are significantly faster."""
    pace = get_pace(rows)
    if is_of_one_session(rows):
        means = {id(row): statistics.geometric_mean(list(row.seconds.values())) for row in rows}
        pace = lambda row: means[id(row)]  # noqa: E731
    divisions: dict[str, list[Row]] = {}
    for row in sorted(rows, key=pace):
        divisions.setdefault(row.record.system["division"], []).append(row)
    for peers in divisions.values():
        for index, row in enumerate(peers):
            # in the same blocks, a row that is slower on average is never significantly faster
            candidates = [
                peer
                for peer_index, peer in enumerate(peers)
                if peer_index < index or peer.seconds.keys() != row.seconds.keys()
            ]
            row.rank = 1 + sum(is_significantly_faster(peer, row, variation) for peer in candidates)


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

    None if they share no block, are of different sessions, or the other row is None.
    """
    if slow is None or slow.record.session != fast.record.session:
        return None
    if slow is fast and fast.seconds:
        return Interval(1.0, 1.0, 1.0)
    return ratio_within_blocks(slow.seconds, fast.seconds)


def compare_speed(slow: Row, fast: Row) -> Interval | None:
    """Return how many times as fast one row is as another, which may be of another session.

    Within a session as `compute_speedup`. Across sessions it is the ratio of the speed-ups of both
    over the reference, each within its own session, with the interval of Welch's t test on the
    logarithms. None if that is not known.
    """
    if slow.record.session == fast.record.session:
        return compute_speedup(slow, fast)
    change = statistics.estimate_change(slow.speedups_by_block(), fast.speedups_by_block())
    return change.ratio if change else None


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


def is_significantly_faster(row: Row, other: Row, variation: SessionVariation) -> bool:
    """Return whether a row is faster by more than chance and, across sessions, by more than
    sessions of the same code differ by.
    """
    ratio = None if row is other else compare_speed(other, row)
    if ratio is None or not ratio.low > 1:
        return False
    return row.record.session == other.record.session or ratio.value > variation.factor


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
