"""How sure an answer is, and whether that is enough to stop at it: what early exit and cascades
share. NumPy alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.engines.base import Scores, answers_from_scores

CRITERIA = ("probability", "entropy", "patience")
NEVER = float("inf")

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Rule:
    """When an example leaves.

    criterion: `probability` of the best answer, `entropy` (1 less its share of the largest), or
    `patience`: how many stages in a row gave the same answer (PABEE: Zhou et al. 2020).
    temperatures: of each stage; its logits are divided by it (temperature scaling: Guo et al.
    2017). thresholds: of each stage but the last; an example whose confidence is at least that
    leaves.
    """

    criterion: str
    temperatures: tuple[float, ...]
    thresholds: tuple[float, ...]

    @staticmethod
    def read(described: dict[str, Any] | None, stages: int, threshold: float | str) -> "Rule":
        """Out of an artifact's `rule`, without which every example goes through all stages.

        threshold: of the manifest's `[serve]`: `chosen`, `never`, or a number for all stages.
        """
        known = described or {"criterion": CRITERIA[0], "temperatures": [1.0] * stages}
        chosen = known.get("thresholds") or [None] * (stages - 1)
        if threshold != "chosen":
            chosen = [None if threshold == "never" else threshold] * (stages - 1)
        thresholds = tuple(NEVER if each is None else float(each) for each in chosen)
        return Rule(known["criterion"], tuple(known["temperatures"]), thresholds)

    def described(self) -> dict[str, Any]:
        """As `artifact.json` holds it; a threshold that nothing reaches is null."""
        thresholds = [None if each == NEVER else each for each in self.thresholds]
        return {
            "criterion": self.criterion,
            "temperatures": list(self.temperatures),
            "thresholds": thresholds,
        }


def pass_through(
    rule: Rule, counts: Sequence[int], ask: Callable[[int, Rows], Scores]
) -> tuple[Scores, list[int]]:
    """Send examples from stage to stage until each has left.

    counts: candidates of each example. ask: the logits [candidates, labels] that a stage gives for
    the examples of these numbers, in their order; it is asked for no others.

    Returns: float32 [candidates, labels], divided by the temperature of the stage that answered, so
    that candidates which left at different stages compare; and how many examples left at each.
    """
    rows, sizes = np.arange(len(counts)), np.asarray(counts)
    owner = np.repeat(rows, sizes)
    said, agreed = np.full(len(sizes), -1), np.zeros(len(sizes), np.int64)
    found: Scores = np.empty((0, 0), np.float32)
    left = []
    for stage, temperature in enumerate(rule.temperatures):
        scores = ask(stage, rows) / np.float32(temperature)
        if not stage:
            found = np.empty((len(owner), scores.shape[1]), np.float32)
        threshold = rule.thresholds[stage] if stage < len(rule.thresholds) else -NEVER
        if threshold in (NEVER, -NEVER):
            leaves = np.full(len(rows), threshold < 0)
        elif rule.criterion == "patience":
            now = np.array(answers_from_scores(scores, sizes[rows].tolist()))
            agreed[rows] = np.where(now == said[rows], agreed[rows] + 1, 1)
            said[rows] = now
            leaves = agreed[rows] >= threshold
        else:
            sure = sureness(scores, sizes[rows], rule.criterion == "entropy")
            leaves = sure >= threshold
        going = np.repeat(leaves, sizes[rows])
        found[np.flatnonzero(np.isin(owner, rows[leaves]))] = scores[going]
        left.append(int(leaves.sum()))
        rows = rows[~leaves]
        if not len(rows):
            break
    return found, left


def sureness(scores: Scores, counts: Sequence[int] | Rows, entropy: bool = False) -> Scores:
    """How sure the answer to each example is: float32 [examples], 0..1.

    scores: calibrated logits [candidates, labels]; counts: candidates of each example. Where an
    example has several, the distribution is that over its candidates.
    """
    if len(scores) == len(counts):
        return _sure(scores, entropy)
    margins, ends = scores[:, 1] - scores[:, 0], np.cumsum(counts)
    found = [
        scores[end - 1] if count == 1 else margins[end - count : end]
        for end, count in zip(ends, counts, strict=True)
    ]
    return np.array([_sure(each[None], entropy)[0] for each in found], np.float32)


def _sure(logits: Scores, entropy: bool) -> Scores:
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    shares: Scores = shifted / shifted.sum(1, keepdims=True)
    if not entropy:
        best: Scores = shares.max(1)
        return best
    spread = -(shares * np.log(np.maximum(shares, 1e-12))).sum(1)
    left: Scores = (1 - spread / np.log(logits.shape[1])).astype(np.float32)
    return left
