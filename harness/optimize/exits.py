"""Early exit: classifiers after inner layers, so that an easy input need not go through all of them
(DeeBERT: Xin et al. 2020; BERxiT: Xin et al. 2021).

They learn what the last layer answers (self-distillation), on the frozen model or together with it.
Where an input leaves is chosen later, by the step `calibrate`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from harness.optimize.base import Inputs, Step, StepContext, fp32_fault, inner_faults
from harness.optimize.training import schedule
from harness.optimize.training.schedule import Schedule
from harness.tasks.task import Task

if TYPE_CHECKING:
    from torch import Tensor

    from harness.models.classifier import Classifier
    from harness.optimize.training.tokens import Tokens


@dataclass(frozen=True)
class Exits(Schedule):
    """Put a classifier after each of some inner layers; keep the epoch whose exits are best on the
    selection slice.

    after: the layers, counted from 0, the last one left out.
    joint: train the whole model with its exits; else the new classifiers alone.
    temperature: that softens both distributions, above 0.
    transfer: learn also from the task's unlabelled transfer text, where it has some.
    augment: copies of the text with words masked and ends cut, 0..20.
    """

    after: tuple[int, ...] = ()
    joint: bool = False
    temperature: float = 2.0
    transfer: bool = True
    augment: int = 0


def validate(params: Exits, shape: dict[str, Any]) -> list[str]:
    """Faults of the parameters, as sentences."""
    faults = schedule.find_faults(params, shape) + inner_faults(params.after, shape)
    if not params.temperature > 0:
        faults.append(f"temperature = {params.temperature}: choose a number above 0")
    if not 0 <= params.augment <= 20:
        faults.append(f"augment = {params.augment}: choose 0..20")
    return faults + fp32_fault(shape)


def run(inputs: Inputs, task: Task, params: Exits, context: StepContext) -> dict[str, Any]:
    """Write the model with its exits. Raises: BuildError if training diverges."""
    from harness.optimize.training import distill_data, encoders, loop, losses, tokens

    assert inputs.artifact is not None
    loop.fix_seed_and_threads(context.seed, context.threads)
    teacher, tokenizer = encoders.load_model(inputs.artifact, task, params.max_length)
    model = with_exits(teacher, params.after)
    texts = distill_data.build_row_source(
        task, params.transfer, params.augment, tokenizer, context.seed
    )
    rows = tokens.tokenize(tokenizer, texts)
    answers = distill_data.compute_teacher_logits(teacher, rows, inputs.artifact.key, context)
    selection = encoders.tokenize_examples(tokenizer, task.examples("selection"))
    trained = model if params.joint else model.exits
    model.first_only = True

    def loss(batch: list[int]) -> "Tensor":
        import torch

        if not params.joint:
            model.bert.eval()  # what is not trained drops nothing out
        found = exit_logits(model, rows, batch)
        parts = [
            losses.soft_cross_entropy(each, answers[batch], params.temperature)
            for each in (found if params.joint else found[:-1])
        ]
        return torch.stack(parts).mean()

    def score() -> float:
        return sum(accuracies(model, selection, params.batch)) / len(model.stages)

    for each in model.parameters():
        each.requires_grad_(params.joint)
    for each in trained.parameters():
        each.requires_grad_(True)
    history = encoders.train(model, rows.lengths, loss, selection, params, context, score=score)
    model.first_only = False
    return {
        **encoders.save_model(model, tokenizer, context.out),
        "training": history,
        "texts": len(rows),
        "exits": [round(each, 4) for each in accuracies(model, selection, params.batch)],
    }


def with_exits(model: "Classifier", after: Sequence[int]) -> "Classifier":
    """A copy with an exit after each of these layers; each begins as the model's own classifier."""
    from harness.models.classifier import Classifier, assign_weights

    found = Classifier(replace(model.spec, exits=tuple(after)))
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    for number in range(len(after)):
        for name in ("weight", "bias"):
            pooler = f"bert.pooler.dense.{name}"
            weights[f"exits.{number}.pooler.dense.{name}"] = weights[pooler].clone()
            classifier = weights[f"classifier.{name}"]
            weights[f"exits.{number}.classifier.{name}"] = classifier.clone()
    assign_weights(found, weights)
    return found


def exit_logits(model: "Classifier", data: "Tokens", rows: Sequence[int]) -> "list[Tensor]":
    """Of each exit and of the last layer: float32 [rows, labels], computed in bf16."""
    import torch

    batch = data.batch(rows)
    feeds = (torch.from_numpy(each) for each in (batch.ids, batch.mask, batch.segments))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return [each.float() for each in model.exit_logits(*feeds)]


def accuracies(model: "Classifier", data: "Tokens", batch: int) -> list[float]:
    """Share of the examples that each exit, and the last layer, answers right."""
    import numpy as np
    import torch

    model.eval()
    order = np.argsort(data.lengths, kind="stable").tolist()
    found = np.empty((len(model.stages), len(order), model.spec.labels), np.float32)
    with torch.inference_mode():
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            found[:, rows] = torch.stack(exit_logits(model, data, rows)).numpy()
    return [data.right(each) for each in found]


STEP = Step(
    "exits",
    1,
    Exits,
    ("safetensors",),
    run,
    validate,
    output_spec=lambda params, shape: {"format": "safetensors", "exits": params.after},
    trains=True,
)
