"""From records to rows: speed-ups within blocks, the floor, ranks."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any

from harness import record, stats
from harness.board.cost import usd_per_100m
from harness.errors import RecordError
from harness.record import Record, Round
from harness.stats import Interval
from harness.tasks.metrics import METRICS, Comparison, compare

FLOOR = 0.95
"""Share of the reference's gain over the majority class that a ranked system must keep."""


@dataclass
class Row:
    """One line of a table.

    seconds: per example, by block; of `server` one over the rate that the block sustained.
    speedup, unpadded: against the two references. compared: with the reference, on the same
    examples. share: of the harness in the time, as the null system shows it.
    qualified: above the floor; near: the paired interval crosses the floor. rank: within the
    division; None if not ranked.
    """

    record: Record
    seconds: dict[int, float]
    answers: list[int]
    truths: list[Any]
    groups: list[int]
    compared: Comparison | None = None
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
    def point(self) -> str:
        """Which of its operating points this is, or ''; a system and its points are one curve."""
        return str(self.record.system.get("point", ""))

    @property
    def curve(self) -> str:
        """The system that it is, whatever the point."""
        return self.name.removesuffix(f"@{self.point}")

    @property
    def left(self) -> list[float]:
        """The share of the examples that left at each stage; empty where none leaves early."""
        found = [each.left for each in self.rounds if each.left]
        sums = [sum(stage) for stage in zip(*found, strict=True)]
        return [each / sum(sums) for each in sums]

    @property
    def rounds(self) -> list[Round]:
        """The windows that figures are taken from: of `server` those at the sustained rate."""
        return [each for each in self.record.rounds if self.record.counts(each)]

    @property
    def throughput(self) -> float:
        """Examples per second over all rounds; of `server` the geometric mean of the rates that the
        blocks sustained.
        """
        if self.record.scenario == "server":
            return 1 / stats.geometric_mean(list(self.seconds.values()))
        return self.examples / sum(each.seconds for each in self.rounds)

    @property
    def measured(self) -> bool:
        """Whether there are figures to compare: of `server`, where most blocks hold a rate and
        their queries are enough for a p99.
        """
        if self.record.failure or not self.seconds:
            return False
        if self.record.scenario != "server":
            return True
        blocks = (self.record.sustained or {})["rates"]
        enough = (self.record.latency_ms or {}).get("p99") is not None
        return enough and 2 * len(self.seconds) > len(blocks)

    @property
    def capped(self) -> bool:
        """Whether the driver could not send faster than what it sustains."""
        found = self.record.sustained
        if not self.measured or not found or not found["capped"]:
            return False
        return self.throughput > 0.94 * float(found["offline"])

    @property
    def scored(self) -> bool:
        """Whether it went well and has answers, also where it sustains no rate."""
        return self.record.failure is None and bool(self.record.rounds and self.answers)

    @property
    def examples(self) -> int:
        """Answered in the timed windows."""
        return sum(each.examples for each in self.rounds)

    def per_1k(self, values: Iterable[float]) -> float:
        """The sum of the rounds' values for 1,000 examples."""
        return 1000 * sum(values) / self.examples

    def energy_per_1k(self) -> dict[str, float | None]:
        """Watt-hours for 1,000 examples: in all, by component (None where one is not known), and
        above the idle machine (None where that was not measured).
        """
        parts: dict[str, float | None] = {}
        for part in ("cpu", "ram", "gpu"):
            name = f"{part}_wh"
            known = [each.energy[name] for each in self.rounds if name in each.energy]
            whole = len(known) == len(self.rounds)
            parts[f"{name}_per_1k"] = self.per_1k(known) if whole else None
        total = sum(each for each in parts.values() if each)
        idle, above = self.record.energy["idle"], None
        if idle and energy_measured(self.record):
            hours = [each.seconds / 3600 for each in self.rounds]
            above = total - sum(idle.values()) * self.per_1k(hours)
        return {"energy_wh_per_1k": total, "energy_above_idle_wh_per_1k": above, **parts}

    def columns(self) -> dict[str, Any]:
        """The row as `leaderboard.csv` has it; None where there is no figure."""
        it = self.record
        base = {
            "system": self.curve,
            "point": self.point or None,
            "division": it.system["division"],
            "machine": machine_name(it),
            "configuration": it.configuration["name"],
            "task": it.task["name"],
            "scenario": it.scenario,
            "score": it.score and it.score["value"],
            "score_se": it.score and it.score["se"],
        }
        if it.artifact:
            base |= {key: it.artifact[key] for key in ("size_mb", "weights_mb", "parameters")}
            base |= _built(it.artifact.get("recipe", []))
        if self.compared:
            base |= {"score_difference": self.compared.difference.value}
            base |= {"score_p": self.compared.p}
        if not self.measured:
            return base
        latency = it.latency_ms or {}
        energy = self.energy_per_1k()
        whole = energy["energy_wh_per_1k"] or 0.0
        price = it.configuration["usd_per_hour"]
        return base | {
            "throughput": self.throughput,
            **{f"latency_{name}_ms": latency.get(name) for name in ("p50", "p90", "p99")},
            "speedup": self.speedup and self.speedup.value,
            "speedup_low": self.speedup and self.speedup.low,
            "speedup_high": self.speedup and self.speedup.high,
            "speedup_unpadded": self.unpadded and self.unpadded.value,
            "cpu_seconds_per_1k": self.per_1k(each.cpu_seconds for each in self.rounds),
            **energy,
            "energy_source": it.energy["source"],
            "co2_g_per_1k": whole / 1000 * it.configuration["grams_co2_per_kwh"],
            "usd_per_100m": usd_per_100m(price, self.throughput)
            if it.scenario != "single_stream"
            else None,
            "left": "/".join(f"{each:.4f}" for each in self.left) or None,
            "load_seconds": median(each.load_seconds for each in self.rounds),
            "load_wh": median(each.load_wh for each in self.rounds),
            "memory_mb": max(each.memory_mb for each in self.rounds),
            "rank": self.rank,
            "qualified": self.qualified,
            "near_floor": self.near,
            "harness_share": self.share,
            "rounds": len(self.rounds),
            "session": it.session,
        }


CSV_COLUMNS = (
    *("system", "point", "division", "machine", "configuration", "task", "scenario"),
    *(
        "score",
        "score_se",
        "score_difference",
        "score_p",
        "throughput",
        "latency_p50_ms",
        "latency_p90_ms",
        "latency_p99_ms",
    ),
    *("speedup", "speedup_low", "speedup_high", "speedup_unpadded"),
    *("cpu_seconds_per_1k", "energy_wh_per_1k", "energy_above_idle_wh_per_1k", "cpu_wh_per_1k"),
    *("ram_wh_per_1k", "gpu_wh_per_1k", "energy_source", "co2_g_per_1k", "usd_per_100m"),
    *("build_seconds", "build_cpu_seconds", "build_wh"),
    *("load_seconds", "load_wh", "memory_mb"),
    *("size_mb", "weights_mb", "parameters"),
    *("left", "rank", "qualified", "near_floor", "harness_share"),
    *("rounds", "session", "failure"),
)


def _built(recipe: Sequence[dict[str, Any]]) -> dict[str, float]:
    """What all steps took, those of the teacher among them."""
    costs = [each["cost"] for each in recipe if "cost" in each]
    return {
        "build_seconds": sum(each["seconds"] for each in costs),
        "build_cpu_seconds": sum(each["cpu_seconds"] for each in costs),
        "build_wh": sum(
            value or 0.0
            for each in costs
            for name, value in each["energy"].items()
            if name.endswith("_wh")
        ),
    }


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


TELLING_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp")


def machine_name(it: Record) -> str:
    """A short name that tells machines apart."""
    flags = [flag for flag in it.machine["flags"] if flag in TELLING_FLAGS]
    quota = f", quota {it.machine['quota']:g}" if it.machine.get("quota") else ""
    cores = f"{it.machine['cores']} cores{quota}"
    return f"{it.machine['cpu']}, {cores} ({flags[-1] if flags else 'no vector flags'})"


def energy_measured(it: Record) -> bool:
    """Whether all of a record's energy is measured, none modelled."""
    return str(it.energy["source"]).startswith("measured")


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
