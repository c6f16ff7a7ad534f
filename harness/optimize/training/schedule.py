"""The parameters that all training steps share."""

from dataclasses import dataclass
from typing import Any

from harness.optimize.base import find_dtype_faults

ACTIVATIONS = ("gelu", "relu")


@dataclass(frozen=True)
class Schedule:
    """Duration and optimizer of a training.

    Attributes:
        epochs: passes over the training rows, 1..100; a small training set gets more, until there
            are 200 updates.
        batch: rows per update, 1..1024.
        accumulate: forward passes per update, 1..batch; more of them need less memory.
        learning_rate: peak of the linear schedule, above 0.
        warmup: share of the updates during which the rate rises, 0..1.
        weight_decay: of AdamW, on matrices only, 0 or above.
        max_length: number of tokens to truncate to while training; 0 for the task's maximum.
        activation: of the feed-forward network, `gelu` or `relu` (faster: Kim & Hassan 2020); empty
            keeps the model's.
    """

    epochs: int = 3
    batch: int = 32
    accumulate: int = 1
    learning_rate: float = 6e-5
    warmup: float = 0.1
    weight_decay: float = 0.01
    max_length: int = 0
    activation: str = ""


def find_faults(params: Schedule, spec: dict[str, Any]) -> list[str]:
    """Return the faults of a schedule, as sentences.

    Args:
        params: the schedule.
        spec: of the model to train, as far as it is known.
    """
    longest = int(spec.get("max_length") or 512)
    checks = {
        f"epochs = {params.epochs}: choose 1..100": 1 <= params.epochs <= 100,
        f"batch = {params.batch}: choose 1..1024": 1 <= params.batch <= 1024,
        f"accumulate = {params.accumulate}: choose 1..{params.batch}, the batch": (
            1 <= params.accumulate <= max(1, params.batch)
        ),
        f"learning_rate = {params.learning_rate}: choose a number above 0": (
            params.learning_rate > 0
        ),
        f"warmup = {params.warmup}: choose 0..1": 0 <= params.warmup <= 1,
        f"weight_decay = {params.weight_decay}: choose 0 or above": params.weight_decay >= 0,
        f"max_length = {params.max_length}: choose 0..{longest}": 0 <= params.max_length <= longest,
        f"activation = {params.activation!r}: choose 'gelu' or 'relu'": (
            params.activation in ("", *ACTIVATIONS)
        ),
    }
    if spec.get("exits"):
        checks["the model has exits; 'exits' must be the last step that trains"] = False
    return [fault for fault, valid in checks.items() if not valid] + find_dtype_faults(spec)
