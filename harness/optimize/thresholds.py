"""Temperatures and thresholds, chosen on the selection slice: what `calibrate` and `cascade` share.

Temperature scaling: Guo et al. (2017). Thresholds: of those that keep the score, the cheapest; by
playing the slice through with each.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.engines.base import Scores, answers_from_scores
from harness.engines.confidence import NEVER, ExitRule, Rows, compute_confidence, run_stages
from harness.errors import BuildError
from harness.tasks.metrics import METRICS
from harness.tasks.task import Example, Task

PLAYS = 2000
"""Most combinations of thresholds that are tried."""

CURVE = 12
"""Points of the curve that an artifact keeps."""


@dataclass(frozen=True)
class Played:
    """What a rule gives on the selection slice: score, mean cost of an example, and how many left
    at each stage.
    """

    rule: ExitRule
    score: float
    cost: float
    left: list[int]


class Slice:
    """The selection slice, answered by every stage.

    logits: of each stage [candidates, labels]; costs: of an example that leaves there, all stages
    before counted. by_input: whether each candidate leaves by itself (early exit) or an example as
    a whole (cascade).
    """

    def __init__(
        self, task: Task, logits: Sequence[Scores], costs: Sequence[float], by_input: bool
    ) -> None:
        examples: Sequence[Example] = task.examples("selection")
        if not len(examples):
            raise BuildError(f"{task.name} has no selection slice to calibrate on. Check the task.")
        self.metric = METRICS[task.metric]
        self.truths = [each.truth for each in examples]
        self.candidates = [len(each.candidates) for each in examples]
        self.logits, self.costs = logits, costs
        self.counts = [1] * sum(self.candidates) if by_input else self.candidates
        self.owner = np.repeat(np.arange(len(self.counts)), self.counts)
        labels = np.array([label for each in examples for label in each.candidate_labels])
        self.temperatures = tuple(temperature(each, labels) for each in logits)

    def play(self, rule: ExitRule) -> Played:
        """As the engine would, from the logits that are known."""

        def ask(stage: int, rows: Rows) -> Scores:
            return self.logits[stage][np.isin(self.owner, rows)]

        scores, left = run_stages(rule, self.counts, ask)
        counted = self.metric.counts(answers_from_scores(scores, self.candidates), self.truths)
        cost = float(np.dot(left, self.costs[: len(left)])) / len(self.counts)
        left += [0] * (len(self.logits) - len(left))
        return Played(rule, float(self.metric.value(counted.sum(0))), cost, left)

    def sure(self, criterion: str) -> NDArray[np.float64]:
        """Confidences [stages but the last, examples]."""
        return np.array(
            [
                compute_confidence(each / np.float32(scale), self.counts, criterion == "entropy")
                for each, scale in zip(self.logits[:-1], self.temperatures, strict=False)
            ],
            float,
        )

    def choose(self, criterion: str, max_drop: float, cost: float, joint: bool) -> dict[str, Any]:
        """The rule that is cheapest at a score of at least that of all stages less `max_drop`; or,
        where `cost` is given, the best at no more than that share of the full cost.

        joint: each stage has a threshold of its own; else all have the same.
        Returns: what `artifact.json` says of it.
        """
        stages = len(self.logits) - 1
        never = ExitRule(criterion, self.temperatures, (NEVER,) * stages)
        full = self.play(never)
        if criterion == "patience":
            grid = [list(map(float, range(2, stages + 1)))]
        else:
            free = stages if joint else 1
            steps = max(4, int(PLAYS ** (1 / free)) - 1)
            sure = self.sure(criterion) if joint else self.sure(criterion).reshape(1, -1)
            grid = [
                np.unique(np.quantile(each, np.linspace(0, 1, steps))).tolist() for each in sure
            ]
        rules = [
            replace(never, thresholds=each if joint else each * stages)
            for each in product(*([*each, NEVER] for each in grid))
        ]
        played = [self.play(each) for each in rules]
        if cost:
            fitting = [each for each in played if each.cost <= cost * full.cost]
            best = max(fitting, key=lambda each: (each.score, -each.cost), default=full)
        else:
            lowest = full.score - max_drop - 1e-9
            fitting = [each for each in played if each.score >= lowest]
            best = min(fitting, key=lambda each: (each.cost, -each.score), default=full)
        curve = played[:: max(1, len(played) // CURVE)] if not joint or stages == 1 else []
        return {
            "rule": best.rule.to_dict(),
            "selection": {
                **_said(best),
                "left": best.left,
                "full": _said(full),
                "curve": [
                    {"threshold": each.rule.to_dict()["thresholds"][0], **_said(each)}
                    for each in curve
                ],
            },
        }


def _said(played: Played) -> dict[str, float]:
    return {"score": round(played.score, 4), "cost": float(f"{played.cost:.4g}")}


def temperature(logits: Scores, labels: NDArray[np.int64]) -> float:
    """What the logits are divided by so that the labels are most likely, 0.05..20.

    logits: float32 [rows, labels].
    """
    from scipy.optimize import minimize_scalar

    def loss(log: float) -> float:
        scaled = logits.astype(float) / np.exp(log)
        scaled -= scaled.max(1, keepdims=True)
        chances = scaled[np.arange(len(labels)), labels] - np.log(np.exp(scaled).sum(1))
        return -float(chances.mean())

    found: Callable[..., Any] = minimize_scalar
    best = found(loss, bounds=(np.log(0.05), np.log(20)), method="bounded")
    return float(f"{np.exp(best.x):.4g}")
