"""A static student: hashed n-grams of the text select rows of a table, whose mean goes through a
small MLP. It has no attention, and learns the teacher's answers to a large amount of text.

It is fastText (Joulin et al. 2017) trained by distillation (Sparse Distillation: Ye et al. 2022),
with words initialised from the teacher's token vectors (as in model2vec).
"""

from dataclasses import dataclass
from typing import Any

from harness.errors import BuildError
from harness.optimize.base import Inputs, Step, StepContext
from harness.tasks.task import Task


@dataclass(frozen=True)
class Static:
    """Train a table of hashed features and an MLP on the teacher's answers; keep the epoch that is
    best on the selection slice.

    buckets: rows of the table, 1..16777216.
    width: columns of the table, 1..1024.
    hidden: neurons of the MLP, 1 or above.
    words: longest word n-gram that is a feature, 1..4.
    letters: lengths of the byte n-grams that are features, each 2..8; may be empty.
    vectors: initialise the rows of words with the teacher's token vectors, projected.
    epochs: passes over the text, 1..100.
    batch: texts per update, 1 or above.
    learning_rate: initial one of the table, above 0; it decays to 0. The MLP has a fifth of it.
    dropout: share of a text's features that are dropped during training, 0 or above, below 1.
    temperature: softens both distributions, above 0.
    transfer: learn also from the task's unlabelled transfer text, if it has any.
    augment: copies of the text with words masked and ends cut off, 0..20.
    """

    buckets: int = 131072
    width: int = 32
    hidden: int = 64
    words: int = 3
    letters: tuple[int, ...] = (4,)
    vectors: bool = True
    epochs: int = 2
    batch: int = 64
    learning_rate: float = 2e-3
    dropout: float = 0.3
    temperature: float = 2.0
    transfer: bool = True
    augment: int = 4


def validate(params: Static, spec: dict[str, Any]) -> list[str]:
    """Return the errors of the parameters, as sentences."""
    faults = [] if spec.get("teacher") else ["it needs [model] teacher, the system to learn from"]
    checks = {
        f"buckets = {params.buckets}: choose 1..16777216": 1 <= params.buckets <= 1 << 24,
        f"width = {params.width}: choose 1..1024": 1 <= params.width <= 1024,
        f"hidden = {params.hidden}: choose 1 or above": params.hidden >= 1,
        f"words = {params.words}: choose 1..4": 1 <= params.words <= 4,
        f"letters = {list(params.letters)}: choose lengths of 2..8": (
            all(2 <= length <= 8 for length in params.letters)
        ),
        f"epochs = {params.epochs}: choose 1..100": 1 <= params.epochs <= 100,
        f"batch = {params.batch}: choose 1 or above": params.batch >= 1,
        f"learning_rate = {params.learning_rate}: choose a number above 0": (
            params.learning_rate > 0
        ),
        f"dropout = {params.dropout}: choose 0 or above, below 1": 0 <= params.dropout < 1,
        f"temperature = {params.temperature}: choose a number above 0": params.temperature > 0,
        f"augment = {params.augment}: choose 0..20": 0 <= params.augment <= 20,
    }
    return faults + [fault for fault, is_valid in checks.items() if not is_valid]


def run(inputs: Inputs, task: Task, params: Static, context: StepContext) -> dict[str, Any]:
    """Write `static.json` and `weights.npz` (the table in int8 with one scale per column).

    Raises:
        BuildError: training diverges, or there is nothing to train on.
    """
    from harness.models import static as static_model
    from harness.models.static import FeatureSpec, StaticSpec
    from harness.optimize.training import distill_data, encoders, loop, static_student, tokens

    assert inputs.teacher is not None, "a manifest without a teacher is refused earlier"
    loop.fix_seed_and_threads(context.seed, context.threads)
    teacher, tokenizer = encoders.load_model(inputs.teacher, task)
    texts = distill_data.build_row_source(
        task, params.transfer, params.augment, tokenizer, context.seed
    )
    encoded = tokens.tokenize(tokenizer, texts)
    answers = distill_data.compute_teacher_logits(teacher, encoded, inputs.teacher.key, context)
    rows = [row for row, _, _ in texts()]
    if not rows:
        raise BuildError(f"{task.name} has no training text.")
    spec = StaticSpec(
        sides=max(len(row) for row in rows),
        features=FeatureSpec(params.buckets, params.words, params.letters),
    )
    model = static_student.StaticStudent(spec, params.width, params.hidden, len(task.labels))
    if params.vectors:
        static_student.initialize_words(model, rows, teacher, tokenizer, params.buckets)
    settings = static_student.TrainingSettings(
        params.epochs, params.batch, params.learning_rate, params.dropout, params.temperature
    )
    data = static_student.HashedRows(rows, spec)
    selection = task.examples("selection")
    history = static_student.train(model, spec, data, answers, selection, settings, context)
    static_model.save(spec, model.quantize(), context.out)
    return {
        "format": "static",
        "dtype": "int8",
        "training": history,
        "texts": len(rows),
    }


STEP = Step(
    "static",
    1,
    Static,
    ("safetensors",),
    run,
    validate,
    output_spec=lambda params, spec: {"format": "static", "dtype": "int8"},
    trains=True,
    needs_teacher=True,
)
