"""The parameters that all training steps share."""

from typing import Literal

from pydantic import Field

from harness.models.model_spec import ModelSpec
from harness.optimize.base import StepParams, find_dtype_faults
from harness.schema import Number

MIN_UPDATES = 200
"""Smallest number of updates of a training: a few hundred examples need more than three epochs
(Zhang et al. 2021, Revisiting Few-sample BERT Fine-tuning)."""


class Schedule(StepParams):
    """Duration and optimizer of a training."""

    epochs: int = Field(
        3,
        ge=1,
        le=100,
        description="passes over the training rows; a small training set gets more, until there "
        "are 200 updates",
    )
    batch: int = Field(32, ge=1, le=1024, description="rows per update")
    accumulate: int = Field(
        1,
        ge=1,
        description="forward passes per update, at most the batch; more of them need less memory",
    )
    learning_rate: Number = Field(6e-5, gt=0, description="peak of the linear schedule")
    warmup: Number = Field(
        0.1, ge=0, le=1, description="share of the updates during which the rate rises"
    )
    weight_decay: Number = Field(0.01, ge=0, description="of AdamW, on matrices only")
    max_length: int = Field(
        0,
        ge=0,
        description="number of tokens to truncate to while training; 0 for the task's maximum",
    )
    activation: Literal["", "gelu", "relu"] = Field(
        "",
        description="of the feed-forward network (relu is faster: Kim & Hassan 2020); empty keeps "
        "the model's",
    )
    dropout: bool = Field(
        True,
        description="whether to apply the model's dropout while training; an update is a "
        "quarter faster without it",
        json_schema_extra={"added": True},
    )

    def count_updates(self, rows: int) -> tuple[int, int]:
        """Return the number of updates of an epoch, and of epochs, for so many training rows.

        A small training set gets more epochs than `epochs`, until there are MIN_UPDATES updates.
        """
        per_epoch = -(-rows // self.batch)
        return per_epoch, max(self.epochs, -(-MIN_UPDATES // per_epoch))


def find_faults(params: Schedule, spec: ModelSpec) -> list[str]:
    """Return the faults of a schedule, as sentences.

    Args:
        params: the schedule.
        spec: of the model to train.
    """
    longest = spec.max_length or 512
    faults = []
    if params.accumulate > params.batch > 0:
        faults.append(f"accumulate = {params.accumulate}: choose 1..{params.batch}, the batch")
    if params.max_length > longest:
        faults.append(f"max_length = {params.max_length}: choose 0..{longest}")
    if spec.exits:
        faults.append("the model has exits; 'exits' must be the last step that trains")
    return faults + find_dtype_faults(spec)
