"""Early exit: classifiers after inner layers, so that an easy input skips the remaining layers
(DeeBERT: Xin et al. 2020; BERxiT: Xin et al. 2021).

They learn the answers of the last layer (self-distillation), on the frozen model or together with
it. At which confidence an input leaves is chosen later, by the step `calibrate`.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import Field

from harness.models.model_spec import ModelSpec
from harness.optimize.base import Inputs, Step, StepContext, find_layer_faults, get_selection
from harness.optimize.training import schedule
from harness.optimize.training.schedule import Schedule
from harness.schema import Integers, Number
from harness.tasks.task import Task

if TYPE_CHECKING:
    from torch import Tensor

    from harness.models.classifier import Classifier
    from harness.optimize.training.tokens import Tokens


class Exits(Schedule):
    """Add a classifier after some inner layers; keep the best epoch on the selection slice."""

    after: Integers = Field(
        (), description="the layers that get an exit, counted from 0, without the last one"
    )
    joint: bool = Field(
        False,
        description="train the complete model with its exits, instead of only the new classifiers",
    )
    temperature: Number = Field(2.0, gt=0, description="softens both distributions")
    transfer: bool = Field(
        True, description="learn also from the task's unlabelled transfer text, if it has any"
    )
    augment: int = Field(
        0, ge=0, le=20, description="copies of the text with words masked and ends cut off"
    )


def validate(params: Exits, spec: ModelSpec) -> list[str]:
    """Return what does not fit the model, as sentences."""
    return schedule.find_faults(params, spec) + find_layer_faults(params.after, spec)


def run(inputs: Inputs, task: Task, params: Exits, context: StepContext) -> dict[str, Any]:
    """Write the model with its exits.

    Raises:
        BuildError: training diverges.
    """
    from harness.optimize.training import (
        distill_data,
        encoders,
        loop,
        losses,
        teacher_logits,
        tokens,
    )

    assert inputs.artifact is not None
    loop.fix_seed_and_threads(context.seed, context.threads)
    teacher, tokenizer = encoders.load_model(inputs.artifact, task, params.max_length)
    model = add_exits(teacher, params.after)
    texts = distill_data.build_row_source(
        task, params.transfer, params.augment, tokenizer, context.seed
    )
    rows = tokens.tokenize(tokenizer, texts)
    answers = teacher_logits.compute_teacher_logits(teacher, rows, inputs.artifact.key, context)
    selection = encoders.tokenize_examples(tokenizer, get_selection(task))
    model.first_only = True

    def loss(batch: list[int]) -> "Tensor":
        import torch

        if not params.joint:
            model.bert.eval()  # the frozen part has no dropout
        logits = compute_exit_logits(model, rows, batch)
        parts = [
            losses.soft_cross_entropy(
                stage_logits, answers[batch].to(stage_logits.device), params.temperature
            )
            for stage_logits in (logits if params.joint else logits[:-1])
        ]
        return torch.stack(parts).mean()

    def score() -> float:
        return sum(compute_stage_accuracies(model, selection, params.batch)) / len(model.stages)

    for parameter in model.parameters():
        parameter.requires_grad_(params.joint)
    for parameter in model.exits.parameters():
        parameter.requires_grad_(True)
    history = encoders.train(model, rows.lengths, loss, selection, params, context, score=score)
    model.first_only = False
    accuracies = compute_stage_accuracies(model, selection, params.batch)
    return {
        **encoders.save_model(model, tokenizer, context.out),
        "training": history,
        "texts": len(rows),
        "exits": [round(accuracy, 4) for accuracy in accuracies],
    }


def add_exits(model: "Classifier", after: Sequence[int]) -> "Classifier":
    """Return a copy with an exit after some layers, initialised with the model's classifier.

    Args:
        model: a fine-tuned classifier.
        after: the layers, counted from 0.
    """
    from harness.models.classifier import Classifier, assign_weights

    extended = Classifier(replace(model.spec, exits=tuple(after)))
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    for number in range(len(after)):
        for name in ("weight", "bias"):
            pooler = f"bert.pooler.dense.{name}"
            weights[f"exits.{number}.pooler.dense.{name}"] = weights[pooler].clone()
            classifier = weights[f"classifier.{name}"]
            weights[f"exits.{number}.classifier.{name}"] = classifier.clone()
    assign_weights(extended, weights)
    return extended


def compute_exit_logits(model: "Classifier", data: "Tokens", rows: Sequence[int]) -> "list[Tensor]":
    """Compute the logits of every exit and of the last layer, in bf16 if that is faster.

    Returns:
        For each stage float32 [rows, labels], on the model's device.
    """
    import torch

    from harness.optimize.training import encoders

    feeds = encoders.make_feeds(model, data, rows)
    device = feeds[0].device.type
    with torch.autocast(device, dtype=torch.bfloat16, enabled=encoders.has_bf16(device)):
        return [logits.float() for logits in model.exit_logits(*feeds)]


def compute_stage_accuracies(model: "Classifier", data: "Tokens", batch: int) -> list[float]:
    """Compute the accuracy of every exit and of the last layer.

    Args:
        model: a classifier with exits.
        data: labelled examples.
        batch: rows per forward pass.
    """
    import numpy as np
    import torch

    from harness.optimize.training import encoders

    model.eval()
    logits = np.empty((len(model.stages), len(data), model.spec.labels), np.float32)
    with torch.inference_mode():
        for rows in encoders.group_by_length(data, batch):
            logits[:, rows] = torch.stack(compute_exit_logits(model, data, rows)).cpu().numpy()
    return [data.compute_accuracy(stage_logits) for stage_logits in logits]


STEP = Step(
    "exits",
    2,
    Exits,
    ("safetensors",),
    run,
    validate,
    output_spec=lambda params, spec: replace(spec, format="safetensors", exits=params.after),
    trains=True,
)
