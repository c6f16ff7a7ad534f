"""Knowledge distillation: a small student learns a large teacher's answers (Hinton et al. 2015).

The student is initialised with some layers of the teacher (Sanh et al. 2019), with another
pretrained encoder, or with the model of the steps before. It learns from the teacher's logits, and
optionally from its hidden states, embeddings and attention. No labels are needed, so that the
student can also learn from transfer text and augmented text.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import gcd
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field

from harness.errors import BuildError, HarnessError
from harness.models import pretrained
from harness.models.model_spec import ModelSpec
from harness.optimize.base import Inputs, Step, StepContext, get_selection
from harness.optimize.training import schedule
from harness.optimize.training.schedule import Schedule
from harness.schema import Integers, Number, to_tuple
from harness.tasks.task import Task

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import Tensor, nn

    from harness.models.classifier import Classifier
    from harness.optimize.training.tokens import Tokens


class Distill(Schedule):
    """Train a student on the teacher's answers; keep the epoch that is closest to the teacher, or
    with `hard` the most accurate one, on the selection slice.
    """

    layers: Annotated[int | tuple[int, ...], BeforeValidator(to_tuple)] = Field(
        (),
        description="teacher layers that initialise the student, counted from 0: a list, or a "
        "number of layers, evenly spaced up to the last one; empty to use the model of the step "
        "before",
    )
    student: str = Field(
        "",
        description="a pretrained encoder that initialises the student, by name or folder, instead "
        "of layers",
    )
    temperature: Number = Field(2.0, gt=0, description="softens both distributions")
    hard: Number = Field(
        0.0, ge=0, le=1, description="weight of the labels; the teacher's logits have the rest"
    )
    hidden: Number = Field(
        0.0,
        ge=0,
        description="weight of the mean squared difference of hidden states; if the widths differ, "
        "a projection is learned",
    )
    embedding: Number = Field(0.0, ge=0, description="the same for the output of the embeddings")
    attention: Number = Field(
        0.0,
        ge=0,
        description="weight of the query, key and value relations of the student's last layer "
        "(MiniLMv2: Wang et al. 2021)",
    )
    match: Integers = Field(
        (),
        description="the teacher layer that each student layer learns from; empty for the layers "
        "that initialise it, else evenly spaced ones",
    )
    transfer: bool = Field(
        True, description="learn also from the task's unlabelled transfer text, if it has any"
    )
    augment: int = Field(
        0,
        ge=0,
        le=20,
        description="copies of the text with words masked and ends cut off (Tang et al. 2019)",
    )
    pairs: int = Field(
        0,
        ge=0,
        le=20,
        description="of a task with two texts: new pairs for each pair, with the second text of "
        "another one that shares words with the first",
        json_schema_extra={"added": True},
    )
    examples: int = Field(
        0,
        ge=0,
        description="training examples to use, drawn by a hash of their text; 0 for all",
        json_schema_extra={"added": True},
    )


def space_evenly(count: int, layers: int) -> tuple[int, ...]:
    """Return `count` of `layers` layers, evenly spaced, with the last one: 3 of 6 are 1, 3, 5."""
    return tuple((index + 1) * layers // count - 1 for index in range(count))


def find_initial_layers(params: Distill, layers: int) -> tuple[int, ...]:
    """Return which of the teacher's layers initialise the student; empty if none do."""
    return space_evenly(params.layers, layers) if isinstance(params.layers, int) else params.layers


def validate(params: Distill, spec: ModelSpec) -> list[str]:
    """Return what does not fit the teacher or the model of the step before, as sentences."""
    faults, teacher = schedule.find_faults(params, spec), spec.teacher
    if spec.format and not teacher:
        return [*faults, "it needs [model] teacher, the system to learn from"]
    available = teacher.layers if teacher else None
    name = teacher.name if teacher else "the teacher"
    if isinstance(params.layers, int) and not 1 <= params.layers <= (available or params.layers):
        faults.append(
            f"layers = {params.layers}, but {name} has {available}. Choose 1..{available}"
        )
    elif not isinstance(params.layers, int):
        faults += _find_teacher_layer_faults("layers", params.layers, available, name)
        if len(set(params.layers)) < len(params.layers):
            faults.append(f"layers = {list(params.layers)} names a layer twice")
    if params.layers and params.student:
        faults.append("it has both layers and student; keep one of them")
    is_teacher = teacher is not None and replace(spec, teacher=None) == teacher
    if not params.layers and not params.student and is_teacher:
        faults.append("the student is the teacher itself. Give layers, or student")
    student = output_spec(params, spec).layers
    if params.match and student and len(params.match) != student:
        faults.append(
            f"match names {len(params.match)} layers, but the student has {student}: give one for "
            "each"
        )
    faults += _find_teacher_layer_faults("match", params.match, available, name)
    if params.student:
        try:
            pretrained.get_encoder_spec(params.student, spec.base or pretrained.CURRENT_FOLDER)
        except HarnessError as error:
            faults.append(f"student: {error}")
    return faults


def _find_teacher_layer_faults(
    key: str, layers: Sequence[int], available: int | None, name: str
) -> list[str]:
    if available and any(not 0 <= layer < available for layer in layers):
        return [
            f"{key} = {list(layers)}, but {name} has {available} layers. "
            f"Choose from 0..{available - 1}"
        ]
    if any(layer < 0 for layer in layers):
        return [f"{key} = {list(layers)}: layers are counted from 0"]
    return []


def output_spec(params: Distill, spec: ModelSpec) -> ModelSpec:
    """Return the specification of the student."""
    teacher = spec.teacher or ModelSpec()
    student = replace(spec, format="safetensors", finetuned=True)
    if params.student:
        try:
            base = spec.base or pretrained.CURRENT_FOLDER
            encoder = pretrained.get_encoder_spec(params.student, base)
        except HarnessError:
            return student
        student = replace(encoder, format="safetensors", teacher=spec.teacher, base=spec.base)
    elif params.layers:
        count = params.layers if isinstance(params.layers, int) else len(params.layers)
        student = replace(teacher, format="safetensors", layers=count, teacher=spec.teacher)
    return replace(student, dtype=spec.dtype, finetuned=True)


def run(inputs: Inputs, task: Task, params: Distill, context: StepContext) -> dict[str, Any]:
    """Write the student.

    Raises:
        BuildError: training diverges, or the student is to learn more than logits from a teacher
            with another tokenizer.
    """
    import torch

    from harness.optimize.training import (
        distill_data,
        encoders,
        loop,
        losses,
        teacher_logits,
        tokens,
    )

    assert inputs.teacher is not None, "a manifest without a teacher is refused earlier"
    loop.fix_seed_and_threads(context.seed, context.threads)
    teacher, teacher_tokenizer = encoders.load_model(inputs.teacher, task, params.max_length)
    student, tokenizer, initial_layers = _make_student(inputs, task, params, teacher)
    if params.activation:
        student.set_activation(params.activation)
    match = params.match or initial_layers
    match = match or space_evenly(student.spec.layers, teacher.spec.layers)
    uses_activations = params.hidden > 0 or params.embedding > 0 or params.attention > 0
    if uses_activations and tokenizer.get_vocab() != teacher_tokenizer.get_vocab():
        raise BuildError(
            "teacher and student have different tokenizers, so only logits can be learned. Set "
            "hidden, embedding and attention to 0."
        )
    texts, teacher_texts = (
        distill_data.build_row_source(
            *(task, params.transfer, params.augment, masks, context.seed),
            pairs=params.pairs,
            examples=params.examples,
        )
        for masks in (tokenizer, teacher_tokenizer)
    )
    rows = tokens.tokenize(tokenizer, texts)
    is_same = tokenizer.to_str() == teacher_tokenizer.to_str()
    teacher_tokens = rows if is_same else tokens.tokenize(teacher_tokenizer, teacher_texts)
    answers = teacher_logits.compute_teacher_logits(
        teacher, teacher_tokens, inputs.teacher.key, context
    )
    loss, projections = _build_loss(
        params, student, teacher, rows, answers, match, uses_activations
    )
    selection = encoders.tokenize_examples(tokenizer, get_selection(task))
    teacher_selection = encoders.tokenize_examples(teacher_tokenizer, get_selection(task))
    on_selection = encoders.compute_all_logits(teacher.eval(), teacher_selection, 32)

    def divergence() -> float:
        logits = encoders.compute_all_logits(student.eval(), selection, params.batch)
        return losses.kl_divergence(torch.from_numpy(logits), torch.from_numpy(on_selection))

    history = encoders.train(
        student,
        rows.lengths,
        loss,
        selection,
        params,
        context,
        projections,
        divergence=None if params.hard else divergence,
    )
    student.first_only = False
    teacher.to("cpu")
    return {
        **encoders.save_model(student, tokenizer, context.out),
        "training": history,
        "teacher": {"selection": teacher_selection.compute_accuracy(on_selection)},
        "texts": len(rows),
    }


def _make_student(
    inputs: Inputs, task: Task, params: Distill, teacher: "Classifier"
) -> "tuple[Classifier, Tokenizer, tuple[int, ...]]":
    """Return the model to train, its tokenizer, and the teacher layers that initialise it."""
    from harness.models import load_checkpoint, tokenization
    from harness.optimize.training import encoders

    if params.student:
        assert inputs.encoder is not None
        folder = inputs.encoder.folder
        student = load_checkpoint.from_pretrained(folder, len(task.labels))
        length = min(params.max_length or task.max_length, student.spec.positions)
        tokenizer = tokenization.load_tokenizer(folder / "tokenizer.json", length)
        tokenization.check_tokens(tokenizer, student.spec.vocabulary, folder)
        return student, tokenizer, ()
    assert inputs.artifact is not None
    if params.layers:
        assert inputs.teacher is not None
        _, tokenizer = encoders.load_model(inputs.teacher, task, params.max_length)
        layers = find_initial_layers(params, teacher.spec.layers)
        return keep_layers(teacher, layers), tokenizer, layers
    model, tokenizer = encoders.load_model(inputs.artifact, task, params.max_length)
    return model, tokenizer, ()


def keep_layers(model: "Classifier", layers: Sequence[int]) -> "Classifier":
    """Return a copy of a model with only some layers, in this order.

    Raises:
        BuildError: the model has no such layer.
    """
    from harness.models.classifier import Classifier, assign_weights

    spec = model.spec
    if not layers or not all(0 <= layer < spec.layers for layer in layers):
        raise BuildError(f"layers = {list(layers)}: choose from 0..{spec.layers - 1}.")
    smaller = replace(
        spec,
        heads=tuple(spec.heads[layer] for layer in layers),
        ffn=tuple(spec.ffn[layer] for layer in layers),
        exits=(),
        keep=(),
    )
    prefix = "bert.encoder.layer."
    weights = {}
    for name, value in model.state_dict().items():
        if name.startswith("exits."):
            continue
        if not name.startswith(prefix):
            weights[name] = value.clone()
            continue
        number, _, rest = name.removeprefix(prefix).partition(".")
        for position, layer in enumerate(layers):
            if layer == int(number):
                weights[f"{prefix}{position}.{rest}"] = value.clone()
    student = Classifier(smaller)
    assign_weights(student, weights)
    return student


def _build_loss(
    params: Distill,
    student: "Classifier",
    teacher: "Classifier",
    rows: "Tokens",
    answers: "Tensor",
    match: Sequence[int],
    uses_activations: bool,
) -> "tuple[Callable[[list[int]], Tensor], list[nn.Module]]":
    """Return the loss of a batch, and the projections that are learned with the student."""
    import torch
    from torch import nn
    from torch.nn import functional

    from harness.optimize.training import encoders, losses

    labels = torch.from_numpy(rows.labels)
    widths = student.spec.width, teacher.spec.width
    project: nn.Module = nn.Identity() if widths[0] == widths[1] else nn.Linear(*widths)
    heads = gcd(student.spec.heads[-1], teacher.spec.heads[match[-1]])
    student.first_only = not uses_activations

    def logit_loss(batch: list[int], logits: "Tensor") -> "Tensor":
        total = (1 - params.hard) * losses.soft_cross_entropy(
            logits, answers[batch].to(logits.device), params.temperature
        )
        labelled = labels[batch] >= 0
        if params.hard and bool(labelled.any()):
            weight = params.hard * float(labelled.float().mean())
            right = labels[batch][labelled].to(logits.device)
            hard = functional.cross_entropy(logits[labelled.to(logits.device)], right)
            total = total + weight * hard
        return total

    def loss(batch: list[int]) -> "Tensor":
        if not uses_activations:
            return logit_loss(batch, encoders.compute_logits(student, rows, batch))
        lengths = torch.from_numpy(rows.lengths[batch])
        device = next(student.parameters()).device
        mask = (torch.arange(int(lengths.max())) < lengths[:, None]).to(device)
        teacher.to(device)
        with (
            losses.record_activations(student) as learned,
            losses.record_activations(teacher) as taught,
        ):
            total = logit_loss(batch, encoders.compute_logits(student, rows, batch))
            with torch.no_grad():
                encoders.compute_logits(teacher, rows, batch)
        if params.embedding:
            embedding = project(learned.embedding.float())
            total = total + params.embedding * losses.hidden_mse(embedding, taught.embedding, mask)
        if params.hidden:
            differences = [
                losses.hidden_mse(
                    project(learned.hidden[index].float()),
                    taught.hidden[layer],
                    mask,
                )
                for index, layer in enumerate(match)
            ]
            total = total + params.hidden * torch.stack(differences).mean()
        if params.attention:
            parts = ("query", "key", "value")
            student_parts = [learned.attention[len(match) - 1][part] for part in parts]
            teacher_parts = [taught.attention[match[-1]][part] for part in parts]
            relations = losses.relation_loss(student_parts, teacher_parts, mask, heads)
            total = total + params.attention * relations
        return total

    return loss, [project]


STEP = Step(
    "distill",
    2,
    Distill,
    ("safetensors",),
    run,
    validate,
    output_spec,
    trains=True,
    needs_teacher=True,
)
