"""Fine-tuning of a pretrained encoder on a task's training split."""

from dataclasses import replace
from typing import Any

from harness.optimize.base import Inputs, Step, StepContext, get_selection
from harness.optimize.training import schedule
from harness.optimize.training.schedule import Schedule
from harness.tasks.task import Task


class Finetune(Schedule):
    """Train all weights on the training split; keep the epoch that is best on the selection slice.

    An interrupted training continues from a checkpoint that is written once a minute.
    """


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
    else:
        assert inputs.encoder is not None, "a recipe without a model is refused earlier"
        folder = inputs.encoder.folder
        model = load_checkpoint.from_pretrained(folder, len(task.labels))
        length = min(params.max_length or task.max_length, model.spec.positions)
        tokenizer = tokenization.load_tokenizer(folder / "tokenizer.json", length)
        tokenization.check_tokens(tokenizer, model.spec.vocabulary, folder)
    if params.activation:
        model.set_activation(params.activation)
    rows = encoders.tokenize_examples(tokenizer, task.examples("train"))
    selection = encoders.tokenize_examples(tokenizer, get_selection(task))
    loss = encoders.build_cross_entropy(model, rows)
    history = encoders.train(model, rows.lengths, loss, selection, params, context)
    return {
        **encoders.save_model(model, tokenizer, context.out),
        "max_length": min(task.max_length, model.spec.positions),
        "training": history,
    }


STEP = Step(
    "finetune",
    2,
    Finetune,
    ("encoder", "safetensors"),
    run,
    lambda params, spec: schedule.find_faults(params, spec),
    output_spec=lambda params, spec: replace(spec, format="safetensors", finetuned=True),
    trains=True,
)
