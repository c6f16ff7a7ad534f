"""Fine-tuning a pretrained encoder on a task's training split."""

from dataclasses import dataclass
from typing import Any

from harness.optimize.step import Context, Inputs, Step
from harness.tasks.task import Task


@dataclass(frozen=True)
class Finetune:
    """Train all weights on the training split; keep the epoch that is best on the selection slice.

    epochs: passes over the training split, 1..100.
    batch: examples per update, 1..1024.
    learning_rate: peak of the linear schedule, above 0.
    warmup: share of the updates in which the rate rises, 0..1.
    weight_decay: of AdamW, on matrices only, 0 or above.
    max_length: tokens an example is cut at while training; 0: the task's own.
    """

    epochs: int = 3
    batch: int = 32
    learning_rate: float = 6e-5
    warmup: float = 0.1
    weight_decay: float = 0.01
    max_length: int = 0


def validate(params: Finetune, shape: dict[str, Any]) -> list[str]:
    """Faults of the parameters, as sentences."""
    checks = {
        f"epochs = {params.epochs}: choose 1..100": 1 <= params.epochs <= 100,
        f"batch = {params.batch}: choose 1..1024": 1 <= params.batch <= 1024,
        f"learning_rate = {params.learning_rate}: choose a number above 0": params.learning_rate
        > 0,
        f"warmup = {params.warmup}: choose 0..1": 0 <= params.warmup <= 1,
        f"weight_decay = {params.weight_decay}: choose 0 or above": params.weight_decay >= 0,
    }
    longest = int(shape.get("max_length") or 512)
    checks[f"max_length = {params.max_length}: choose 0..{longest}"] = (
        0 <= params.max_length <= longest
    )
    return [fault for fault, fine in checks.items() if not fine]


def run(inputs: Inputs, task: Task, params: Finetune, context: Context) -> dict[str, Any]:
    """Write weights, configuration and tokenizer. Raises: BuildError if training diverges."""
    from harness import models, text
    from harness.optimize import training

    training.prepare(context.seed, context.threads)
    if inputs.artifact:
        folder = inputs.artifact.folder
        model = models.load(folder, models.Shape.read(inputs.artifact.about["model"]))
    else:
        assert inputs.encoder is not None, (
            "a manifest without a model is refused before it is built"
        )
        folder = inputs.encoder.folder
        model = models.from_pretrained(folder, len(task.labels))
    tokenizer = text.load_tokenizer(folder / "tokenizer.json", params.max_length or task.max_length)
    data = training.Data(
        train=training.tokenized(tokenizer, task.examples("train")),
        selection=training.tokenized(tokenizer, task.examples("selection")),
    )
    history = training.train(model, data, params, context)
    models.save(model, context.out)
    text.save_tokenizer(tokenizer, context.out / "tokenizer.json")
    return {"format": "safetensors", "model": models.describe(model), "training": history}


STEP = Step(
    "finetune", 1, Finetune, ("encoder", "safetensors"), "safetensors", run, validate, trains=True
)
