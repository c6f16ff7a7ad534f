"""A row of the leaderboard: the figures of one record."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import mean, stdev
from typing import Any
from urllib.parse import quote

from harness.engines.base import ServeConfig
from harness.leaderboard.history import HistoryEntry, NewerRow
from harness.results import statistics
from harness.results.record import Record, Round, count_least_examples
from harness.results.record_parts import DIVISIONS, SCENARIOS
from harness.results.state import NOT_CHECKED, State
from harness.results.statistics import Interval
from harness.tasks.metrics import Comparison

DEFAULT_SEED_MARGIN = 0.015
"""Two standard deviations of a score over training seeds, assumed if only one seed was measured."""


@dataclass
class Row:
    """One record, compared with the references of its section. The record must not change.

    Attributes:
        record: the record.
        seconds: seconds per example, by block; in `server` the inverse of the rate that the block
            sustained.
        answers: the answer to each example of the reported split.
        truths: the label of each example, or what else the task's metric compares answers with.
        groups: the group of each example; -1 for an example without a group.
        comparison: the scores of this system and the reference on the same examples.
        speedup: over the reference.
        unpadded_speedup: over the unpadded reference.
        harness_share: the harness' share of the time, estimated from the null system.
        qualified: whether the score is above the quality floor.
        near_floor: whether the paired confidence interval includes the quality floor.
        rank: the rank within the division; None if the system is not ranked.
        break_even: the number of requests after which the build has paid for itself against the
            unpadded reference; infinite if a request saves nothing.
        seed_rows: the rows of all training seeds, this one first; empty if there is only one seed.
        references: the measured references of its session by role, itself possibly among them.
        floor: the score at the quality floor of its session; None if the reference is not
            significantly above the majority class.
        audit: the verdict on its artifact, as in the records; None if it was not audited.
        state: whether it is what would be built and measured today.
        newer: newer rows of the system that do not replace this one.
        history: the system's rows in this and other sessions, the latest first.
        figures: the values of columns by key, as far as `Column.value` has computed them.
    """

    record: Record
    seconds: dict[int, float]
    answers: list[int]
    truths: list[Any]
    groups: list[int]
    comparison: Comparison | None = None
    speedup: Interval | None = None
    unpadded_speedup: Interval | None = None
    harness_share: float | None = None
    qualified: bool = False
    near_floor: bool = False
    rank: int | None = None
    break_even: float | None = None
    seed_rows: list["Row"] = field(default_factory=list, repr=False)
    references: dict[str, "Row"] = field(default_factory=dict, repr=False, compare=False)
    floor: float | None = None
    audit: dict[str, Any] | None = None
    state: State = NOT_CHECKED
    newer: Sequence[NewerRow] = ()
    history: Sequence[HistoryEntry] = ()
    figures: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.audit is None:
            self.audit = self.record.audit

    @property
    def name(self) -> str:
        """The name of the record: the system's, with its operating point or seed after an `@`."""
        return str(self.record.system["name"])

    @property
    def base_name(self) -> str:
        """The system's name without operating point and seed."""
        return self.name.partition("@")[0]

    @property
    def point(self) -> str:
        """The operating point, or '' for the system's own threshold."""
        return str(self.record.system.get("point", ""))

    @property
    def seed(self) -> int | None:
        """The training seed of an additional seed's row; None in the main row."""
        return self.record.system.get("seed")

    @property
    def is_main(self) -> bool:
        """Whether this is the system's main row: no additional operating point or seed."""
        return not self.point and self.seed is None

    @property
    def record_link(self) -> str:
        """The path of the record relative to the results folder, quoted for a link."""
        record = self.record
        task = record.task["name"]
        return quote(f"records/{record.session}/{task}/{record.scenario}/{self.name}.json")

    @property
    def score(self) -> float:
        """The value of the task's metric, in a row that is scored."""
        return float((self.record.score or {})["value"])

    @property
    def is_control(self) -> bool:
        """Whether the row shows what no model achieves: the null system, or a score that is not
        above the majority class. Tables list such rows last, and plots leave them out.
        """
        score = self.record.score
        is_above_majority = score is None or score["value"] > score["majority"]
        return self.name == self.record.roles["null"] or not is_above_majority

    @property
    def failed_probes(self) -> list[str]:
        """The probes of the audit that the system failed."""
        return list((self.audit or {}).get("failed", []))

    @property
    def above_reference(self) -> bool:
        """Whether the score exceeds the reference's by more than chance (p < 0.01) and training
        seeds (two standard deviations) explain.

        An honest model may do so; so does a model that has seen the reported split.
        """
        if self.comparison is None or self.comparison.p >= 0.01:
            return False
        margin = 2 * self.seed_scores[1] if self.seed_scores else DEFAULT_SEED_MARGIN
        return self.comparison.difference.value > margin

    @property
    def seed_scores(self) -> tuple[float, float] | None:
        """Mean and standard deviation of the score over several training seeds, else None."""
        scores = [row.score for row in self.seed_rows if row.scored]
        return (mean(scores), stdev(scores)) if len(scores) > 1 else None

    @cached_property
    def exit_shares(self) -> list[float]:
        """The share of the examples that exited at each stage; empty without early exits."""
        counts = [window.left for window in self.rounds if window.left]
        sums = [sum(stage) for stage in zip(*counts, strict=True)]
        return [count / (sum(sums) or math.nan) for count in sums]

    @cached_property
    def rounds(self) -> list[Round]:
        """The windows that figures are computed from; in `server` those at the sustained rate."""
        return [window for window in self.record.rounds if self.record.is_reported(window)]

    @cached_property
    def throughput(self) -> float:
        """Examples per second over all rounds; in `server` the geometric mean of the rates that the
        blocks sustained.
        """
        if self.record.scenario == "server":
            return 1 / statistics.geometric_mean(list(self.seconds.values()))
        return self.examples / sum(window.seconds for window in self.rounds)

    @cached_property
    def measured(self) -> bool:
        """Whether there are figures to compare.

        In `server` most blocks must have sustained a rate, with enough queries for a p99.
        """
        if self.record.failure or not self.seconds:
            return False
        if self.record.scenario != "server":
            return True
        blocks = (self.record.sustained or {})["rates"]
        enough_queries = (self.record.latency_ms or {}).get("p99") is not None
        return enough_queries and 2 * len(self.seconds) > len(blocks)

    @property
    def capped(self) -> bool:
        """Whether the sustained rate is limited by the driver's own sending rate."""
        sustained = self.record.sustained
        if not self.measured or not sustained or not sustained["capped"]:
            return False
        return self.throughput > 0.94 * float(sustained["offline"])

    @cached_property
    def scored(self) -> bool:
        """Whether the system answered without failure, even if it sustained no rate."""
        return self.record.failure is None and bool(self.record.rounds and self.answers)

    @cached_property
    def examples(self) -> int:
        """The number of examples answered in the timed windows."""
        return sum(window.examples for window in self.rounds)

    @property
    def least_examples(self) -> int:
        """The least number of examples that a window of `offline` has today."""
        serve = {"batch": 1, "instances": 1} | self.record.system["serve"]
        config = ServeConfig("", batch=serve["batch"], instances=serve["instances"])
        instances = config.count_instances(self.record.configuration["cores"])
        return count_least_examples(config.batch, instances)

    def speedups_by_block(self) -> list[float]:
        """Return the speed-up over the reference in each block that both have."""
        reference = self.references.get("reference")
        if reference is None:
            return []
        blocks = sorted(set(self.seconds) & set(reference.seconds))
        return [reference.seconds[block] / self.seconds[block] for block in blocks]

    def per_1k(self, values: Iterable[float]) -> float:
        """Return the sum of the rounds' values, per 1,000 examples."""
        return 1000 * sum(values) / self.examples

    @cached_property
    def energy_per_1k(self) -> dict[str, float | None]:
        """The energy of 1,000 examples in Wh, by CSV column.

        The columns are the total, the energy above the idle machine (None if not measured), and
        each component (None if not known).
        """
        components: dict[str, float | None] = {}
        for name in ("cpu_wh", "ram_wh", "gpu_wh"):
            values = [window.energy[name] for window in self.rounds if name in window.energy]
            complete = len(values) == len(self.rounds)
            components[f"{name}_per_1k"] = self.per_1k(values) if complete else None
        known = [value for value in components.values() if value is not None]
        total = sum(known) if known else None
        idle, above_idle = self.record.energy["idle"], None
        if idle and total is not None and is_energy_measured(self.record):
            hours = [window.seconds / 3600 for window in self.rounds]
            above_idle = total - sum(idle.values()) * self.per_1k(hours)
        return {
            "energy_wh_per_1k": total,
            "energy_above_idle_wh_per_1k": above_idle,
            **components,
        }

    def full_set_cost(self) -> tuple[float, float]:
        """Return the seconds and the Wh that the whole reported split takes, without loading."""
        examples = float((self.record.score or {})["examples"])
        watt_hours = self.energy_per_1k["energy_wh_per_1k"] or 0.0
        return examples / self.throughput, examples * watt_hours / 1000

    def break_even_terms(self) -> tuple[float, float]:
        """Return the cost of the build and the cost of 1,000 requests.

        In Wh if energy is measured, else in CPU-seconds.
        """
        build = compute_build_cost((self.record.artifact or {}).get("recipe", []))
        if is_energy_measured(self.record):
            return build["build_wh"], self.energy_per_1k["energy_wh_per_1k"] or 0.0
        cpu_seconds = self.per_1k(window.cpu_seconds for window in self.rounds)
        return build["build_cpu_seconds"], cpu_seconds

    def validate(self) -> None:
        """Check everything that figures are computed from, so that no later computation fails.

        Raises:
            ValueError, KeyError, TypeError: a value is missing or impossible.
        """
        record = self.record
        _check_choice("division", record.system["division"], DIVISIONS)
        _check_choice("scenario", record.scenario, SCENARIOS)
        authors = record.system["authors"]
        if not isinstance(authors, list) or not all(isinstance(name, str) for name in authors):
            raise ValueError("system.authors is not a list of strings")
        if not isinstance(record.system["serve"], dict):
            raise ValueError("system.serve is not an object")
        _ = self.least_examples  # fails if a setting that it depends on is not a number
        for window in record.rounds:
            values = [value for value in vars(window).values() if isinstance(value, int | float)]
            if not all(map(math.isfinite, values)) or min(window.seconds, window.examples) <= 0:
                raise ValueError(f"the round of block {window.block} has impossible figures")
        if self.answers and record.rounds and not record.failure:
            score = record.score or {}
            values = [score[name] for name in ("value", "se", "majority", "examples")]
            if not all(map(math.isfinite, values)) or score["examples"] != len(self.answers):
                raise ValueError("the score does not belong to the answers")
        if not all(math.isfinite(share) and share >= 0 for share in self.exit_shares):
            raise ValueError("the numbers of examples that exited at each stage are impossible")
        # the sums fail if a value is missing or not a number
        if record.artifact:
            compute_build_cost(record.artifact.get("recipe", []))
            sum(record.artifact[name] for name in ("size_mb", "weights_mb", "parameters"))
        sum(record.configuration[name] for name in ("usd_per_hour", "grams_co2_per_kwh"))
        if self.measured:
            _ = self.energy_per_1k


def _check_choice(key: str, value: object, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ValueError(f"{key} = {value!r} is not one of {', '.join(choices)}")


def compute_build_cost(recipe: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return the cost of all steps, including the teacher's, by CSV column."""
    costs = [step["cost"] for step in recipe if "cost" in step]
    return {
        "build_seconds": sum(cost["seconds"] for cost in costs),
        "build_cpu_seconds": sum(cost["cpu_seconds"] for cost in costs),
        "build_wh": sum(value for cost in costs for value in get_watt_hours(cost["energy"])),
    }


def get_watt_hours(energy: dict[str, Any]) -> list[float]:
    """Return the Wh of each component of a window's or a step's energy."""
    return [value or 0.0 for name, value in energy.items() if name.endswith("_wh")]


def is_energy_measured(record: Record) -> bool:
    """Return whether the energy of the device that computes is measured: of the GPU where there is
    one (the CPU's may be modelled beside it), otherwise of the CPU.
    """
    return str(record.energy["source"]).startswith("measured")
