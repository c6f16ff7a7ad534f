"""How confident an answer is, and whether to stop at it: what early exit and cascades share.

Needs NumPy alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.models.answers import Scores, answers_from_scores

CRITERIA = ("probability", "entropy", "patience")

NEVER = float("inf")
"""A threshold that no confidence reaches."""

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class ExitRule:
    """When an example exits.

    Attributes:
        criterion: `probability` of the best answer, `entropy` (1 minus the entropy as a share of
            the largest possible one), or `patience`: how many consecutive stages gave the same
            answer (PABEE: Zhou et al. 2020).
        temperatures: for each stage the number that its logits are divided by (temperature scaling:
            Guo et al. 2017).
        thresholds: for each stage but the last the confidence from which an example exits.
    """

    criterion: str
    temperatures: tuple[float, ...]
    thresholds: tuple[float, ...]

    @staticmethod
    def from_dict(rule: dict[str, Any] | None, stages: int, threshold: float | str) -> "ExitRule":
        """Return the rule of an artifact.

        Args:
            rule: `rule` in `artifact.json`; without it every example goes through all stages.
            stages: number of stages.
            threshold: of the manifest's `[serve]`: `chosen` keeps those of the rule; `never`, or a
                number for all stages.
        """
        rule = rule or {"criterion": CRITERIA[0], "temperatures": [1.0] * stages}
        thresholds = rule.get("thresholds") or [None] * (stages - 1)
        if threshold != "chosen":
            thresholds = [None if threshold == "never" else threshold] * (stages - 1)
        return ExitRule(
            rule["criterion"],
            tuple(rule["temperatures"]),
            tuple(NEVER if value is None else float(value) for value in thresholds),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the rule as `artifact.json` holds it; a threshold of `NEVER` is null."""
        return {
            "criterion": self.criterion,
            "temperatures": list(self.temperatures),
            "thresholds": [None if value == NEVER else value for value in self.thresholds],
        }


def run_stages(
    rule: ExitRule, counts: Sequence[int], score: Callable[[int, Rows], Scores]
) -> tuple[Scores, list[int]]:
    """Send examples from stage to stage until each of them has exited.

    Args:
        rule: when an example exits.
        counts: number of candidates of each example.
        score: from a stage and the numbers of examples to the logits [candidates, labels] of these
            examples, in this order; it is called with the remaining examples only.

    Returns:
        float32 [candidates, labels], divided by the temperature of the stage that answered, so that
        candidates which exited at different stages compare; and how many examples exited at each
        stage.
    """
    rows, sizes = np.arange(len(counts)), np.asarray(counts)
    owner = np.repeat(rows, sizes)
    answers, agreed = np.full(len(sizes), -1), np.zeros(len(sizes), np.int64)
    result: Scores = np.empty((0, 0), np.float32)
    exit_counts = []
    for stage, temperature in enumerate(rule.temperatures):
        scores = score(stage, rows) / np.float32(temperature)
        if not stage:
            result = np.empty((len(owner), scores.shape[1]), np.float32)
        threshold = rule.thresholds[stage] if stage < len(rule.thresholds) else -NEVER
        if threshold in (NEVER, -NEVER):
            exits = np.full(len(rows), threshold < 0)
        elif rule.criterion == "patience":
            new = np.array(answers_from_scores(scores, sizes[rows].tolist()))
            agreed[rows] = np.where(new == answers[rows], agreed[rows] + 1, 1)
            answers[rows] = new
            exits = agreed[rows] >= threshold
        else:
            confidence = compute_confidence(scores, sizes[rows], rule.criterion == "entropy")
            exits = confidence >= threshold
        exiting_candidates = np.repeat(exits, sizes[rows])
        result[np.flatnonzero(np.isin(owner, rows[exits]))] = scores[exiting_candidates]
        exit_counts.append(int(exits.sum()))
        rows = rows[~exits]
        if not len(rows):
            break
    return result, exit_counts


def compute_confidence(
    scores: Scores, counts: Sequence[int] | Rows, entropy: bool = False
) -> Scores:
    """Return the confidence of the answer to each example, float32 [examples], 0..1.

    If an example has several candidates, the distribution is the one over its candidates.

    Args:
        scores: logits [candidates, labels], divided by their temperature.
        counts: number of candidates of each example.
        entropy: 1 minus the normalized entropy instead of the largest probability.
    """
    if len(scores) == len(counts):
        return _confidence(scores, entropy)
    margins, ends = scores[:, 1] - scores[:, 0], np.cumsum(counts)
    logits = [
        scores[end - 1] if count == 1 else margins[end - count : end]
        for end, count in zip(ends, counts, strict=True)
    ]
    return np.array([_confidence(row[None], entropy)[0] for row in logits], np.float32)


def _confidence(logits: Scores, entropy: bool) -> Scores:
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    probabilities: Scores = shifted / shifted.sum(1, keepdims=True)
    if not entropy:
        best: Scores = probabilities.max(1)
        return best
    nats = -(probabilities * np.log(np.maximum(probabilities, 1e-12))).sum(1)
    confidence: Scores = (1 - nats / np.log(logits.shape[1])).astype(np.float32)
    return confidence
