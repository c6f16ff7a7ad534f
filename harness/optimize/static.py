"""A static student: hashed n-grams of the text select rows of a table, whose mean goes through a
small MLP. It has no attention, and learns the teacher's answers to a large amount of text.

It is fastText (Joulin et al. 2017) trained by distillation (Sparse Distillation: Ye et al. 2022),
with words initialised from the teacher's token vectors (as in model2vec).
"""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from harness.errors import BuildError
from harness.models.model_spec import ModelSpec
from harness.optimize.base import Inputs, Step, StepContext, StepParams, get_selection
from harness.schema import Number, to_tuple
from harness.tasks.task import Task


class Static(StepParams):
    """Train a table of hashed features and an MLP on the teacher's answers; keep the epoch that is
    best on the selection slice.
    """

    buckets: int = Field(131072, ge=1, le=1 << 24, description="rows of the table")
    width: int = Field(32, ge=1, le=1024, description="columns of the table")
    hidden: int = Field(64, ge=1, description="neurons of the MLP")
    words: int = Field(3, ge=1, le=4, description="longest word n-gram that is a feature")
    letters: Annotated[tuple[Annotated[int, Field(ge=2, le=8)], ...], BeforeValidator(to_tuple)] = (
        Field((4,), description="lengths of the byte n-grams that are features; may be empty")
    )
    vectors: bool = Field(
        True, description="initialise the rows of words with the teacher's token vectors, projected"
    )
    epochs: int = Field(2, ge=1, le=100, description="passes over the text")
    batch: int = Field(64, ge=1, description="texts per update")
    learning_rate: Number = Field(
        2e-3,
        gt=0,
        description="initial one of the table; it decays to 0. The MLP has a fifth of it",
    )
    dropout: Number = Field(
        0.3, ge=0, lt=1, description="share of a text's features that are dropped during training"
    )
    temperature: Number = Field(2.0, gt=0, description="softens both distributions")
    transfer: bool = Field(
        True, description="learn also from the task's unlabelled transfer text, if it has any"
    )
    augment: int = Field(
        4, ge=0, le=20, description="copies of the text with words masked and ends cut off"
    )


def validate(params: Static, spec: ModelSpec) -> list[str]:
    """Return what does not fit the model, as sentences."""
    return [] if spec.teacher else ["it needs [model] teacher, the system to learn from"]


def run(inputs: Inputs, task: Task, params: Static, context: StepContext) -> dict[str, Any]:
    """Write `static.json` and `weights.npz` (the table in int8 with one scale per column).

    Raises:
        BuildError: training diverges, or there is nothing to train on.
    """
    from harness.models import static as static_model
    from harness.models.static import FeatureSpec, StaticSpec
    from harness.optimize.training import (
        distill_data,
        encoders,
        loop,
        static_student,
        teacher_logits,
        tokens,
    )

    assert inputs.teacher is not None, "a manifest without a teacher is refused earlier"
    loop.fix_seed_and_threads(context.seed, context.threads)
    teacher, tokenizer = encoders.load_model(inputs.teacher, task)
    texts = distill_data.build_row_source(
        task, params.transfer, params.augment, tokenizer, context.seed
    )
    encoded = tokens.tokenize(tokenizer, texts)
    answers = teacher_logits.compute_teacher_logits(teacher, encoded, inputs.teacher.key, context)
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
    selection = get_selection(task)
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
    output_spec=lambda params, spec: ModelSpec("static", spec.name, dtype="int8"),
    trains=True,
    needs_teacher=True,
)
