"""Temperatures and thresholds, chosen on the selection slice; shared by `calibrate` and `cascade`.

Temperature scaling: Guo et al. (2017). Of the rules that keep the score, the cheapest one is
chosen, by applying every rule to the slice; a margin of one standard error: Breiman et al. (1984).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.engines.confidence import NEVER, ExitRule, Rows, compute_confidence, run_stages
from harness.models.answers import Scores, answers_from_scores
from harness.optimize.base import get_selection
from harness.tasks.metrics import METRICS, estimate_difference_error
from harness.tasks.task import Task

MAX_RULES = 2000
"""Most combinations of thresholds that are tried."""

CURVE_POINTS = 12
"""Points of the curve that an artifact states."""


@dataclass(frozen=True)
class RuleResult:
    """What a rule gives on the selection slice.

    Attributes:
        rule: the rule.
        score: the value of the task's metric.
        cost: the mean cost of an example.
        left: how many candidates or examples left at each stage.
    """

    rule: ExitRule
    score: float
    cost: float
    left: list[int]


class SelectionSlice:
    """The selection slice of a task, with the logits of every stage.

    Args:
        task: the task.
        logits: for each stage float32 [candidates, labels].
        costs: the cost of an example that leaves at each stage, with all stages before it.
        per_candidate: whether each candidate leaves on its own (early exit), or an example with all
            its candidates (cascade).

    Raises:
        BuildError: the selection slice is empty.
    """

    def __init__(
        self, task: Task, logits: Sequence[Scores], costs: Sequence[float], per_candidate: bool
    ) -> None:
        examples = get_selection(task)
        self._metric = METRICS[task.metric]
        self._truths = [example.truth for example in examples]
        self._groups = [example.group for example in examples]
        self._candidates = [len(example.candidates) for example in examples]
        self._logits, self._costs = logits, costs
        self._counts = [1] * sum(self._candidates) if per_candidate else self._candidates
        self._owners = np.repeat(np.arange(len(self._counts)), self._counts)
        labels = np.array([label for example in examples for label in example.candidate_labels])
        self.temperatures = tuple(fit_temperature(stage_logits, labels) for stage_logits in logits)

    def apply_rule(self, rule: ExitRule) -> RuleResult:
        """Return the result of a rule, as the engine would apply it."""
        answers, left = self._answer(rule)
        counts = self._metric.counts(answers, self._truths)
        cost = float(np.dot(left, self._costs[: len(left)])) / len(self._counts)
        left += [0] * (len(self._logits) - len(left))
        return RuleResult(rule, float(self._metric.value(counts.sum(0))), cost, left)

    def _answer(self, rule: ExitRule) -> tuple[list[int], list[int]]:
        """Return the answers, and how many left at each stage that a rule needs."""

        def score_rows(stage: int, rows: Rows) -> Scores:
            return self._logits[stage][np.isin(self._owners, rows)]

        scores, left = run_stages(rule, self._counts, score_rows)
        return answers_from_scores(scores, self._candidates), left

    def estimate_error(self, rule: ExitRule, other: ExitRule) -> float:
        """Return the standard error of the difference between the scores of two rules."""
        (answers, _), (other_answers, _) = self._answer(rule), self._answer(other)
        return estimate_difference_error(
            self._metric, answers, other_answers, self._truths, self._groups
        )

    def choose_rule(
        self, criterion: str, max_drop: float, max_cost: float, per_stage: bool
    ) -> dict[str, Any]:
        """Choose the cheapest rule whose score is at most `max_drop` below that of all stages, with
        one standard error of the paired difference as a margin; or, with `max_cost`, the best rule
        of at most that cost.

        Without the margin the cheapest of many rules is one that is lucky on the slice, and mostly
        loses more elsewhere (docs/methodology/adaptive.md).

        Args:
            criterion: one of `confidence.CRITERIA`.
            max_drop: the score that may be lost.
            max_cost: the allowed cost as a share of that of all stages; 0 to use `max_drop`.
            per_stage: whether each stage has its own threshold, instead of one for all.

        Returns:
            The metadata for `artifact.json`: `rule`, and under `selection` what it gives.
        """
        exits = len(self._logits) - 1  # nothing leaves before the end of the last stage
        never = ExitRule(criterion, self.temperatures, (NEVER,) * exits)
        full = self.apply_rule(never)
        grid = self._make_grid(criterion, per_stage)
        results = [
            self.apply_rule(replace(never, thresholds=point if per_stage else point * exits))
            for point in product(*([*thresholds, NEVER] for thresholds in grid))
        ]
        if max_cost:
            allowed = [result for result in results if result.cost <= max_cost * full.cost]
            best = max(allowed, key=lambda result: (result.score, -result.cost), default=full)
        else:
            lowest = full.score - max_drop - 1e-9
            by_cost = sorted(results, key=lambda result: (result.cost, -result.score))
            keeping = (
                result
                for result in by_cost
                if result.score >= lowest
                and result.score - self.estimate_error(result.rule, never) >= lowest
            )
            best = next(keeping, full)
        has_curve = not per_stage or exits == 1
        curve = results[:: max(1, len(results) // CURVE_POINTS)] if has_curve else []
        return {
            "rule": best.rule.to_dict(),
            "selection": {
                **_summarize(best),
                "left": best.left,
                "full": _summarize(full),
                "curve": [
                    {"threshold": result.rule.to_dict()["thresholds"][0], **_summarize(result)}
                    for result in curve
                ],
            },
        }

    def _make_grid(self, criterion: str, per_stage: bool) -> list[list[float]]:
        """Return the thresholds to try, for each stage if `per_stage`, else once."""
        exits = len(self._logits) - 1
        if criterion == "patience":
            return [list(map(float, range(2, exits + 1)))]
        steps = max(4, int(MAX_RULES ** (1 / (exits if per_stage else 1))) - 1)
        confidences = self._compute_confidences(criterion)
        groups = confidences if per_stage else confidences.reshape(1, -1)
        return [
            np.unique(np.quantile(group, np.linspace(0, 1, steps))).tolist() for group in groups
        ]

    def _compute_confidences(self, criterion: str) -> NDArray[np.float64]:
        """Return float64 [stages but the last, examples]."""
        return np.array(
            [
                compute_confidence(
                    logits / np.float32(temperature), self._counts, criterion == "entropy"
                )
                for logits, temperature in zip(self._logits[:-1], self.temperatures, strict=False)
            ],
            float,
        )


def _summarize(result: RuleResult) -> dict[str, float]:
    return {"score": round(result.score, 4), "cost": float(f"{result.cost:.4g}")}


def fit_temperature(logits: Scores, labels: NDArray[np.int64]) -> float:
    """Return the divisor of the logits, 0.05..20, that makes the labels most likely.

    Args:
        logits: float32 [rows, labels].
        labels: int64 [rows].
    """
    from scipy.optimize import minimize_scalar

    def loss(log_temperature: float) -> float:
        scaled = logits.astype(float) / np.exp(log_temperature)
        scaled -= scaled.max(1, keepdims=True)
        log_likelihood = scaled[np.arange(len(labels)), labels] - np.log(np.exp(scaled).sum(1))
        return -float(log_likelihood.mean())

    minimize: Callable[..., Any] = minimize_scalar
    best = minimize(loss, bounds=(np.log(0.05), np.log(20)), method="bounded")
    return float(f"{np.exp(best.x):.4g}")
