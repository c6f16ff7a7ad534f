"""A row: what one record says, as figures."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import mean, median, stdev
from typing import Any

from harness.leaderboard.cost import usd_per_100m
from harness.results import statistics
from harness.results.record import DIVISIONS, SCENARIOS, Record, Round
from harness.results.statistics import Interval
from harness.tasks.metrics import Comparison

UNKNOWN_SPREAD = 0.015
"""Two standard deviations of a score over training seeds, where there is but one seed."""


@dataclass
class Row:
    """One line of a table.

    seconds: per example, by block; of `server` one over the rate that the block sustained.
    speedup, unpadded: against the two references. compared: with the reference, on the same
    examples. share: of the harness in the time, as the null system shows it.
    qualified: above the floor; near: the paired interval crosses the floor. rank: within the
    division; None if not ranked. break_even: requests after which building it has paid for itself
    against the unpadded reference; infinite where a request saves nothing. seeds: the same system
    with each training seed, itself first, where there are several.
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
    break_even: float | None = None
    seeds: list["Row"] = field(default_factory=list)
    _columns: dict[str, Any] | None = field(default=None, init=False, repr=False)

    @property
    def name(self) -> str:
        """The system's name."""
        return str(self.record.system["name"])

    @property
    def point(self) -> str:
        """Which of its operating points this is, or ''; a system and its points are one curve."""
        return str(self.record.system.get("point", ""))

    @property
    def seed(self) -> int | None:
        """The training seed, where it is not the one that the system's own row has."""
        found: int | None = self.record.system.get("seed")
        return found

    @property
    def curve(self) -> str:
        """The system that it is, whatever the point and the seed."""
        return self.name.partition("@")[0]

    @property
    def caught(self) -> list[str]:
        """The probes of an audit that it did not pass."""
        return list((self.record.audit or {}).get("failed", []))

    @property
    def above(self) -> bool:
        """Whether the score is above the reference's by more than chance and training seeds
        explain: p < 0.01, and two standard deviations over the seeds. Nothing is wrong with it, but
        a split that was learned by heart looks so, too.
        """
        if self.compared is None or self.compared.p >= 0.01:
            return False
        spread = 2 * self.seed_scores[1] if self.seed_scores else UNKNOWN_SPREAD
        return self.compared.difference.value > spread

    @property
    def own(self) -> bool:
        """Whether it is the system's own row: no other operating point, no other seed."""
        return not self.point and self.seed is None

    @property
    def seed_scores(self) -> tuple[float, float] | None:
        """Mean and standard deviation of the score over the training seeds, where there are
        several.
        """
        found = [float((each.record.score or {})["value"]) for each in self.seeds if each.scored]
        return (mean(found), stdev(found)) if len(found) > 1 else None

    @property
    def left(self) -> list[float]:
        """The share of the examples that left at each stage; empty where none leaves early."""
        found = [each.left for each in self.rounds if each.left]
        sums = [sum(stage) for stage in zip(*found, strict=True)]
        return [each / (sum(sums) or math.nan) for each in sums]

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
            return 1 / statistics.geometric_mean(list(self.seconds.values()))
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
        found = [each for each in parts.values() if each is not None]
        total = sum(found) if found else None
        idle, above = self.record.energy["idle"], None
        if idle and total is not None and energy_measured(self.record):
            hours = [each.seconds / 3600 for each in self.rounds]
            above = total - sum(idle.values()) * self.per_1k(hours)
        return {"energy_wh_per_1k": total, "energy_above_idle_wh_per_1k": above, **parts}

    def whole_set(self) -> tuple[float, float]:
        """Seconds and watt-hours to answer the whole evaluation set, without loading."""
        count = float((self.record.score or {})["examples"])
        used = self.energy_per_1k()["energy_wh_per_1k"] or 0.0
        return count / self.throughput, count * used / 1000

    def saving(self) -> tuple[float, float]:
        """What breaking even is reckoned in: of building, and of 1,000 requests. Watt-hours where
        energy is measured, else CPU-seconds.
        """
        built = _built((self.record.artifact or {}).get("recipe", []))
        if energy_measured(self.record):
            return built["build_wh"], self.energy_per_1k()["energy_wh_per_1k"] or 0.0
        return built["build_cpu_seconds"], self.per_1k(each.cpu_seconds for each in self.rounds)

    def check(self) -> None:
        """Raises: ValueError, KeyError or TypeError where the record holds what no figure can be
        made of; nothing that is drawn later may fail for one row.
        """
        it = self.record
        for what, value, known in (
            ("division", it.system["division"], DIVISIONS),
            ("scenario", it.scenario, SCENARIOS),
        ):
            if value not in known:
                raise ValueError(f"{what} {value!r} is none of {', '.join(known)}")
        texts = it.system["authors"]
        if not isinstance(texts, list) or not all(isinstance(each, str) for each in texts):
            raise ValueError("authors are no list of texts")
        if not isinstance(it.system["serve"], dict):
            raise ValueError("serve is no object")
        for each in it.rounds:
            numbers = [value for value in vars(each).values() if isinstance(value, int | float)]
            if not all(map(math.isfinite, numbers)) or min(each.seconds, each.examples) <= 0:
                raise ValueError(f"the window of block {each.block} has impossible figures")
        if self.answers and it.rounds and not it.failure:
            score = it.score or {}
            figures = [score[name] for name in ("value", "se", "majority", "examples")]
            if not all(map(math.isfinite, figures)) or score["examples"] != len(self.answers):
                raise ValueError("its score is not of its answers")
        if not all(math.isfinite(each) and each >= 0 for each in self.left):
            raise ValueError("its examples left at no stage")
        if it.artifact:
            _built(it.artifact.get("recipe", []))
            sum(it.artifact[name] for name in ("size_mb", "weights_mb", "parameters"))
        sum(it.configuration[name] for name in ("usd_per_hour", "grams_co2_per_kwh"))
        if self.measured:
            self.energy_per_1k()

    def columns(self) -> dict[str, Any]:
        """The row as `leaderboard.csv` has it; None where there is no figure. To be asked once the
        row has been compared.
        """
        if self._columns is None:
            self._columns = self._figures()
        return self._columns

    def _figures(self) -> dict[str, Any]:
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
            "command": again(self),
            "energy_source": it.energy["source"],
            "rounds": len(self.rounds) if self.measured else None,
            "session": it.session,
        }
        if it.artifact:
            base |= {key: it.artifact[key] for key in ("size_mb", "weights_mb", "parameters")}
            base |= _built(it.artifact.get("recipe", []))
            base |= {"seed": it.artifact.get("seed")}
        if spread := self.seed_scores:
            base |= {
                "seeds": len(self.seeds),
                "seeds_score": spread[0],
                "seeds_score_sd": spread[1],
            }
        if self.compared:
            base |= {"score_difference": self.compared.difference.value}
            base |= {"score_p": self.compared.p}
        if not self.measured:
            return base
        latency = it.latency_ms or {}
        energy = self.energy_per_1k()
        whole = energy["energy_wh_per_1k"]
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
            "co2_g_per_1k": None
            if whole is None
            else whole / 1000 * it.configuration["grams_co2_per_kwh"],
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
            "above_reference": self.above,
            "harness_share": self.share,
            "break_even_requests": self.break_even if self.break_even != math.inf else None,
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
    *("build_seconds", "build_cpu_seconds", "build_wh", "break_even_requests"),
    *("load_seconds", "load_wh", "memory_mb"),
    *("size_mb", "weights_mb", "parameters"),
    *("left", "rank", "qualified", "near_floor", "above_reference", "harness_share"),
    *("seed", "seeds", "seeds_score", "seeds_score_sd"),
    *("rounds", "session", "command", "failure"),
)


def again(row: Row) -> str:
    """The command that builds and measures a row again, beside the references."""
    it = row.record
    parts = ["wattbench bench"]
    if it.system["folder"].startswith("models/"):
        parts.append("--model MODEL")
    else:
        parts += [f"--suite {it.suite}", f"--system {row.curve}"]
    parts += [f"--task {it.task['name']}", f"--configuration {it.configuration['name']}"]
    if it.scenario == "server":
        parts.append("--scenario server")
    if row.seed is not None or row.seeds:
        parts.append(f"--seeds {len(row.seeds) or (row.seed or 0) + 1}")
    return " ".join(parts)


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
