"""From records to rows: speed-ups within blocks, the floor, ranks."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from harness import record, stats
from harness.board.cost import usd_per_100m
from harness.errors import RecordError
from harness.record import Record
from harness.stats import Interval

FLOOR = 0.95
"""Share of the reference's gain over the majority class that a ranked system must keep."""


@dataclass
class Row:
    """One line of a table.

    seconds: per example, by block. speedup, unpadded: against the two references. share: of the
    harness in the time, as the null system shows it.
    qualified: above the floor; near: the paired interval crosses the floor. rank: within the
    division; None if not ranked.
    """

    record: Record
    seconds: dict[int, float]
    right: list[bool]
    speedup: Interval | None = None
    unpadded: Interval | None = None
    share: float | None = None
    qualified: bool = False
    near: bool = False
    rank: int | None = None

    @property
    def name(self) -> str:
        """The system's name."""
        return str(self.record.system["name"])

    @property
    def throughput(self) -> float:
        """Examples per second over all rounds."""
        return self.examples / sum(each.seconds for each in self.record.rounds)

    @property
    def examples(self) -> int:
        """Answered in the timed windows."""
        return sum(each.examples for each in self.record.rounds)

    def per_1k(self, values: Sequence[float]) -> float:
        """The sum of the rounds' values for 1,000 examples."""
        return 1000 * sum(values) / self.examples

    def columns(self) -> dict[str, Any]:
        """The row as `leaderboard.csv` has it; None where there is no figure."""
        it = self.record
        base = {
            "system": self.name,
            "division": it.system["division"],
            "machine": machine_name(it),
            "configuration": it.configuration["name"],
            "task": it.task["name"],
            "scenario": it.scenario,
            "score": it.score and it.score["value"],
            "score_se": it.score and it.score["se"],
        }
        if it.failure or not it.rounds:
            return base
        latency = it.latency_ms or {}
        used = [each.energy["cpu_wh"] + (each.energy["ram_wh"] or 0) for each in it.rounds]
        energy = self.per_1k(used)
        return base | {
            "throughput": self.throughput,
            **{f"latency_{name}_ms": latency.get(name) for name in ("p50", "p90", "p99")},
            "speedup": self.speedup and self.speedup.value,
            "speedup_low": self.speedup and self.speedup.low,
            "speedup_high": self.speedup and self.speedup.high,
            "speedup_unpadded": self.unpadded and self.unpadded.value,
            "cpu_seconds_per_1k": self.per_1k([each.cpu_seconds for each in it.rounds]),
            "energy_wh_per_1k": energy,
            "energy_source": it.rounds[0].energy["source"],
            "co2_g_per_1k": energy / 1000 * it.configuration["grams_co2_per_kwh"],
            "usd_per_100m": usd_per_100m(it.configuration["usd_per_hour"], self.throughput)
            if it.scenario == "offline"
            else None,
            "memory_mb": max(each.memory_mb for each in it.rounds),
            "size_mb": it.artifact["size_mb"] if it.artifact else 0.0,
            "rank": self.rank,
            "qualified": self.qualified,
            "near_floor": self.near,
            "harness_share": self.share,
            "rounds": len(it.rounds),
            "session": it.session,
        }


CSV_COLUMNS = (
    *("system", "division", "machine", "configuration", "task", "scenario"),
    *("score", "score_se", "throughput", "latency_p50_ms", "latency_p90_ms", "latency_p99_ms"),
    *("speedup", "speedup_low", "speedup_high", "speedup_unpadded"),
    *("cpu_seconds_per_1k", "energy_wh_per_1k", "energy_source", "co2_g_per_1k", "usd_per_100m"),
    *("memory_mb", "size_mb", "rank", "qualified", "near_floor", "harness_share"),
    *("rounds", "session", "failure"),
)


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
    def fingerprint(self) -> dict[str, Any]:
        """The machine."""
        return self.rows[0].record.machine

    @property
    def source(self) -> str:
        """Where the energy figures come from."""
        sources = {each.energy["source"] for row in self.rows for each in row.record.rounds}
        return "; ".join(sorted(sources))


TELLING_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp")


def machine_name(it: Record) -> str:
    """A short name that tells machines apart."""
    flags = [flag for flag in it.machine["flags"] if flag in TELLING_FLAGS]
    quota = f", quota {it.machine['quota']:g}" if it.machine.get("quota") else ""
    cores = f"{it.machine['cores']} cores{quota}"
    return f"{it.machine['cpu']}, {cores} ({flags[-1] if flags else 'no vector flags'})"


def load_rows(records: Path) -> tuple[list[Row], list[str]]:
    """All records below a folder, and the faults of those that cannot be read: a broken one takes
    nothing else down.
    """
    rows, faults = [], []
    for path in record.paths(records):
        try:
            it = record.read(path)
            side = record.read_side(path)
            labels, answers = side["labels"], side["answers"]
            right = (
                [answer == label for answer, label in zip(answers, labels, strict=True)]
                if answers
                else []
            )
            rows.append(
                Row(it, {each.block: each.seconds / each.examples for each in it.rounds}, right)
            )
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
            if any(
                _measured(each) and each.name == each.record.roles["reference"] for each in members
            )
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


def _measured(row: Row) -> bool:
    return row.record.failure is None and bool(row.record.rounds)


def _compare(section: Section) -> None:
    good = [row for row in section.rows if _measured(row)]
    by_name = {row.name: row for row in good}
    roles = section.rows[0].record.roles
    reference, unpadded, null = (
        by_name.get(roles[role]) for role in ("reference", "unpadded_reference", "null")
    )
    for row in good:
        row.speedup = faster(reference, row)
        row.unpadded = faster(unpadded, row)
        if null is not None:
            row.share = mean(null.seconds.values()) / mean(row.seconds.values())
    if reference is not None:
        section.floor = _apply_floor(good, reference)
    for row in good:
        if row.qualified:
            peers = [
                each
                for each in good
                if each.qualified
                and each.record.system["division"] == row.record.system["division"]
            ]
            row.rank = 1 + sum(_significantly_faster(each, row) for each in peers)
    section.rows.sort(
        key=lambda row: (
            row.rank is None,
            row.rank or 0,
            -(row.speedup.value if row.speedup else 0),
            row.name,
        )
    )


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
    base = np.asarray(reference.right, float)
    for row in rows:
        own = np.asarray(row.right, float)
        kept = stats.mean_interval((own - majority - FLOOR * (base - majority)).tolist())
        row.qualified = kept.value >= 0
        row.near = kept.low < 0 < kept.high
    return float(majority + FLOOR * gain)
