"""Fine-tuning a pretrained encoder on a task's training split."""

from dataclasses import dataclass
from typing import Any

from harness.optimize import schedule
from harness.optimize.schedule import Schedule
from harness.optimize.step import Context, Inputs, Step
from harness.tasks.task import Task


@dataclass(frozen=True)
class Finetune(Schedule):
    """Train all weights on the training split; keep the epoch that is best on the selection slice.

    It goes on where it was interrupted, from a checkpoint written once a minute.
    """


def run(inputs: Inputs, task: Task, params: Finetune, context: Context) -> dict[str, Any]:
    """Write weights, configuration and tokenizer. Raises: BuildError if training diverges."""
    from harness import models, text
    from harness.optimize import training

    training.prepare(context.seed, context.threads)
    if inputs.artifact:
        model, tokenizer = training.opened(inputs.artifact, task, params.max_length)
    else:
        assert inputs.encoder is not None, "a recipe without a model is refused before"
        folder = inputs.encoder.folder
        model = models.from_pretrained(folder, len(task.labels))
        length = min(params.max_length or task.max_length, model.shape.positions)
        tokenizer = text.load_tokenizer(folder / "tokenizer.json", length)
    if params.activation:
        model.activate(params.activation)
    rows = training.tokenized(tokenizer, task.examples("train"))
    selection = training.tokenized(tokenizer, task.examples("selection"))
    loss = training.cross_entropy(model, rows)
    history = training.train(model, rows.lengths, loss, selection, params, context)
    return {
        **training.written(model, tokenizer, context.out),
        "max_length": min(task.max_length, model.shape.positions),
        "training": history,
    }


STEP = Step(
    "finetune",
    1,
    Finetune,
    ("encoder", "safetensors"),
    run,
    lambda params, shape: schedule.faults(params, shape),
    reshape=lambda params, shape: {"format": "safetensors", "finetuned": True},
    trains=True,
)
