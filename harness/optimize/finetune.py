"""Fine-tuning a pretrained encoder on a task's training split."""

from dataclasses import dataclass
from typing import Any

from harness.optimize.base import Inputs, Step, StepContext
from harness.optimize.training import schedule
from harness.optimize.training.schedule import Schedule
from harness.tasks.task import Task


@dataclass(frozen=True)
class Finetune(Schedule):
    """Train all weights on the training split; keep the epoch that is best on the selection slice.

    It goes on where it was interrupted, from a checkpoint written once a minute.
    """


def run(inputs: Inputs, task: Task, params: Finetune, context: StepContext) -> dict[str, Any]:
    """Write weights, configuration and tokenizer. Raises: BuildError if training diverges."""
    from harness.models import classifier, tokenization
    from harness.optimize.training import loop

    loop.prepare(context.seed, context.threads)
    if inputs.artifact:
        model, tokenizer = loop.opened(inputs.artifact, task, params.max_length)
    else:
        assert inputs.encoder is not None, "a recipe without a model is refused before"
        folder = inputs.encoder.folder
        model = classifier.from_pretrained(folder, len(task.labels))
        length = min(params.max_length or task.max_length, model.shape.positions)
        tokenizer = tokenization.load_tokenizer(folder / "tokenizer.json", length)
    if params.activation:
        model.activate(params.activation)
    rows = loop.tokenized(tokenizer, task.examples("train"))
    selection = loop.tokenized(tokenizer, task.examples("selection"))
    loss = loop.cross_entropy(model, rows)
    history = loop.train(model, rows.lengths, loss, selection, params, context)
    return {
        **loop.written(model, tokenizer, context.out),
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
    output_spec=lambda params, shape: {"format": "safetensors", "finetuned": True},
    trains=True,
)
