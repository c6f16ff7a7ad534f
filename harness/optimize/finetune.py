"""Fine-tuning of a pretrained encoder on a task's training split."""

from dataclasses import replace
from typing import Any

from pydantic import Field

from harness.errors import suggest_name
from harness.models.model_spec import ModelSpec
from harness.optimize.base import Inputs, Step, StepContext, get_selection
from harness.optimize.training import schedule
from harness.optimize.training.schedule import Schedule
from harness.tasks.registry import all_tasks
from harness.tasks.splits import draw_examples
from harness.tasks.task import Task


class Finetune(Schedule):
    """Train all weights on the training split; keep the epoch that is best on the selection slice.

    An interrupted training continues from a checkpoint that is written once a minute.
    """

    examples: int = Field(
        0,
        ge=0,
        description="training examples to use, drawn by a hash of their text; 0 for all",
        json_schema_extra={"added": True},
    )
    intermediate: str = Field(
        "",
        description="a task that the recipe up to this step is run on first; training starts from "
        "its model, with a new classification layer (Phang et al. 2018). It is left out on this "
        "task itself",
        json_schema_extra={"added": True},
    )


def validate(params: Finetune, spec: ModelSpec) -> list[str]:
    """Return what does not fit the model, as sentences."""
    faults = schedule.find_faults(params, spec)
    if params.intermediate:
        known = {name: task for name, task in all_tasks().items() if not task.trains_on}
        if params.intermediate not in known:
            hint = suggest_name(params.intermediate, known).rstrip(".")
            faults.append(f"intermediate = {params.intermediate!r}: no such training split. {hint}")

    return faults


def run(inputs: Inputs, task: Task, params: Finetune, context: StepContext) -> dict[str, Any]:
    """Write weights, configuration and tokenizer.

    Raises:
        BuildError: training diverges.
    """
    from harness.models import load_checkpoint, tokenization
    from harness.optimize.training import encoders, loop

    loop.fix_seed_and_threads(context.seed, context.threads)
    if inputs.artifact:
        model, tokenizer = encoders.load_model(inputs.artifact, task, params.max_length)
        if inputs.artifact.metadata.task[0] != task.name:
            model.replace_head(len(task.labels))
    else:
        assert inputs.encoder is not None, "a recipe without a model is refused earlier"
        folder = inputs.encoder.folder
        model = load_checkpoint.from_pretrained(folder, len(task.labels))
        length = min(params.max_length or task.max_length, model.spec.positions)
        tokenizer = tokenization.load_tokenizer(folder / "tokenizer.json", length)
        tokenization.check_tokens(tokenizer, model.spec.vocabulary, folder)
    if params.activation:
        model.set_activation(params.activation)
    examples = task.examples("train")
    drawn = draw_examples(examples, params.examples)
    rows = encoders.tokenize_examples(tokenizer, drawn)
    selection = encoders.tokenize_examples(tokenizer, get_selection(task))
    loss = encoders.build_cross_entropy(model, rows)
    history = encoders.train(model, rows.lengths, loss, selection, params, context)
    metadata = {
        **encoders.save_model(model, tokenizer, context.out),
        "max_length": min(task.max_length, model.spec.positions),
        "training": history,
    }
    if len(drawn) < len(examples):
        metadata["examples"] = {"used": len(drawn), "available": len(examples)}
    return metadata


STEP = Step(
    "finetune",
    2,
    Finetune,
    ("encoder", "safetensors"),
    run,
    validate,
    output_spec=lambda params, spec: replace(spec, format="safetensors", finetuned=True),
    trains=True,
)
