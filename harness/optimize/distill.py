"""Knowledge distillation: a small student learns what a large teacher answers (Hinton et al. 2015).

The student begins as some layers of the teacher (Sanh et al. 2019), as another pretrained encoder,
or as the model that the steps before have made. It learns from the teacher's logits, and, where
asked, from its hidden states, embeddings and attention. Text without labels serves as well as text
with: that is what transfer text and augmentation are for.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import gcd
from typing import TYPE_CHECKING, Any

from harness.errors import BuildError, HarnessError
from harness.models import pretrained
from harness.optimize.base import Inputs, Step, StepContext
from harness.optimize.training import schedule
from harness.optimize.training.schedule import Schedule
from harness.tasks.task import Task

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import Tensor, nn

    from harness.models.classifier import Classifier
    from harness.optimize.training.tokens import Tokens


@dataclass(frozen=True)
class Distill(Schedule):
    """Train a student on the teacher's answers; keep the epoch that is best on the selection slice.

    layers: teacher layers that the student begins as, counted from 0: a list, or how many, spread
        evenly up to the last; empty: the student is the model as it comes.
    student: a pretrained encoder that the student begins as, by name or folder, instead of layers.
    temperature: that softens both distributions, above 0.
    hard: weight of the labels, 0..1; the teacher's logits have the rest.
    hidden: weight of the mean squared difference of hidden states, 0 or above; where the widths
        differ, a projection is learned.
    embedding: the same of the embeddings' output.
    attention: weight of the query, key and value relations of the student's last layer, 0 or above
        (MiniLMv2: Wang et al. 2021).
    match: the teacher layer that each student layer learns from; empty: the layers it begins as,
        else spread evenly.
    transfer: learn also from the task's unlabelled transfer text, where it has some.
    augment: copies of the text with words masked and ends cut, 0..20 (Tang et al. 2019).
    """

    layers: int | tuple[int, ...] = ()
    student: str = ""
    temperature: float = 2.0
    hard: float = 0.0
    hidden: float = 0.0
    embedding: float = 0.0
    attention: float = 0.0
    match: tuple[int, ...] = ()
    transfer: bool = True
    augment: int = 0


def spread(count: int, layers: int) -> tuple[int, ...]:
    """`count` of `layers` layers, evenly apart, the last among them: 3 of 6 are 1, 3, 5."""
    return tuple((index + 1) * layers // count - 1 for index in range(count))


def chosen(params: Distill, layers: int) -> tuple[int, ...]:
    """The teacher layers that the student begins as; empty where it begins otherwise."""
    return spread(params.layers, layers) if isinstance(params.layers, int) else params.layers


def validate(params: Distill, shape: dict[str, Any]) -> list[str]:
    """Faults of the parameters, as sentences."""
    faults = schedule.find_faults(params, shape)
    teacher = shape.get("teacher")
    if shape.get("format") and not teacher:
        return [*faults, "it needs [model] teacher, the system to learn from"]
    most = (teacher or {}).get("layers")
    name = (teacher or {}).get("name", "the teacher")
    if isinstance(params.layers, int) and not 1 <= params.layers <= (most or params.layers):
        faults.append(f"layers = {params.layers}, but {name} has {most}. Choose 1..{most}")
    elif not isinstance(params.layers, int):
        faults += _layer_faults("layers", params.layers, most, name)
        if len(set(params.layers)) < len(params.layers):
            faults.append(f"layers = {list(params.layers)} names a layer twice")
    if params.layers and params.student:
        faults.append("it has both layers and student; keep one of them")
    if not params.layers and not params.student and shape == (teacher or {}) | _only(shape):
        faults.append("the student is the teacher itself. Give layers, or student")
    student = output_spec(params, shape).get("layers")
    if params.match and student and len(params.match) != student:
        faults.append(
            f"match names {len(params.match)} layers, but the student has {student}: give one for "
            "each"
        )
    faults += _layer_faults("match", params.match, most, name)
    checks = {
        f"temperature = {params.temperature}: choose a number above 0": params.temperature > 0,
        f"hard = {params.hard}: choose 0..1": 0 <= params.hard <= 1,
        f"augment = {params.augment}: choose 0..20": 0 <= params.augment <= 20,
    }
    for key in ("hidden", "embedding", "attention"):
        value = getattr(params, key)
        checks[f"{key} = {value}: choose 0 or above"] = value >= 0
    if params.student:
        try:
            pretrained.get_encoder_spec(
                params.student, shape.get("base") or pretrained.CURRENT_FOLDER
            )
        except HarnessError as error:
            faults.append(f"student: {error}")
    return faults + [fault for fault, fine in checks.items() if not fine]


def _layer_faults(key: str, given: Sequence[int], most: int | None, name: str) -> list[str]:
    if most and any(not 0 <= layer < most for layer in given):
        return [f"{key} = {list(given)}, but {name} has {most} layers. Choose from 0..{most - 1}"]
    if any(layer < 0 for layer in given):
        return [f"{key} = {list(given)}: layers count from 0"]
    return []


def _only(shape: dict[str, Any]) -> dict[str, Any]:
    return {key: shape[key] for key in ("teacher", "base") if key in shape}


def output_spec(params: Distill, shape: dict[str, Any]) -> dict[str, Any]:
    """What of the shape is another afterwards."""
    changed: dict[str, Any] = {"format": "safetensors"}
    teacher = shape.get("teacher") or {}
    if params.student:
        try:
            known = pretrained.get_encoder_spec(
                params.student, shape.get("base") or pretrained.CURRENT_FOLDER
            )
        except HarnessError:
            return changed
        return {**known, **changed}
    if params.layers:
        count = params.layers if isinstance(params.layers, int) else len(params.layers)
        return {**teacher, **changed, "layers": count}
    return changed


def run(inputs: Inputs, task: Task, params: Distill, context: StepContext) -> dict[str, Any]:
    """Write the student.

    Raises: BuildError if training diverges, or if a teacher with another tokenizer is asked for
    more than its logits.
    """
    from harness.optimize.training import distill_data, encoders, loop, tokens

    assert inputs.teacher is not None, "a manifest without a teacher is refused before"
    loop.fix_seed_and_threads(context.seed, context.threads)
    teacher, teacher_tokenizer = encoders.load_model(inputs.teacher, task, params.max_length)
    student, tokenizer, origin = _student(inputs, task, params, teacher)
    if params.activation:
        student.set_activation(params.activation)
    match = params.match or origin or spread(student.spec.layers, teacher.spec.layers)
    inside = params.hidden > 0 or params.embedding > 0 or params.attention > 0
    if inside and tokenizer.get_vocab() != teacher_tokenizer.get_vocab():
        raise BuildError(
            "the teacher's tokenizer is another than the student's, so it can teach by its logits "
            "only. Set hidden, embedding and attention to 0."
        )
    texts = distill_data.build_row_source(
        task, params.transfer, params.augment, tokenizer, context.seed
    )
    rows = tokens.tokenize(tokenizer, texts)
    same = tokenizer.to_str() == teacher_tokenizer.to_str()
    teacher_tokens = rows if same else tokens.tokenize(teacher_tokenizer, texts)
    answers = distill_data.compute_teacher_logits(
        teacher, teacher_tokens, inputs.teacher.key, context
    )
    loss, helpers = _loss(params, student, teacher, rows, answers, match, inside)
    selection = encoders.tokenize_examples(tokenizer, task.examples("selection"))
    history = encoders.train(student, rows.lengths, loss, selection, params, context, helpers)
    student.first_only = False
    return {
        **encoders.save_model(student, tokenizer, context.out),
        "training": history,
        "teacher": {
            "selection": encoders.compute_accuracy(
                teacher,
                encoders.tokenize_examples(teacher_tokenizer, task.examples("selection")),
                32,
            )
        },
        "texts": len(rows),
    }


def _student(
    inputs: Inputs, task: Task, params: Distill, teacher: "Classifier"
) -> "tuple[Classifier, Tokenizer, tuple[int, ...]]":
    """The model to train, its tokenizer, and the teacher layers it begins as, if it does."""
    from harness.models import classifier, tokenization
    from harness.optimize.training import encoders

    if params.student:
        assert inputs.encoder is not None
        folder = inputs.encoder.folder
        student = classifier.from_pretrained(folder, len(task.labels))
        length = min(params.max_length or task.max_length, student.spec.positions)
        return student, tokenization.load_tokenizer(folder / "tokenizer.json", length), ()
    assert inputs.artifact is not None
    if params.layers:
        assert inputs.teacher is not None
        _, tokenizer = encoders.load_model(inputs.teacher, task, params.max_length)
        layers = chosen(params, teacher.spec.layers)
        return keep_layers(teacher, layers), tokenizer, layers
    model, tokenizer = encoders.load_model(inputs.artifact, task, params.max_length)
    return model, tokenizer, ()


def keep_layers(model: "Classifier", layers: Sequence[int]) -> "Classifier":
    """A copy that has only these layers, in this order.

    Raises: BuildError if the model has no such layer.
    """
    from harness.models.classifier import Classifier, assign_weights

    shape = model.spec
    if not layers or not all(0 <= layer < shape.layers for layer in layers):
        raise BuildError(f"layers = {list(layers)}: choose from 0..{shape.layers - 1}.")
    smaller = replace(
        shape,
        heads=tuple(shape.heads[layer] for layer in layers),
        ffn=tuple(shape.ffn[layer] for layer in layers),
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
        for place, layer in enumerate(layers):
            if layer == int(number):
                weights[f"{prefix}{place}.{rest}"] = value.clone()
    student = Classifier(smaller)
    assign_weights(student, weights)
    return student


def _loss(
    params: Distill,
    student: "Classifier",
    teacher: "Classifier",
    rows: "Tokens",
    answers: "Tensor",
    match: Sequence[int],
    inside: bool,
) -> "tuple[Callable[[list[int]], Tensor], list[nn.Module]]":
    """The loss of a batch, and the projections that are learned with the student."""
    import torch
    from torch import nn
    from torch.nn import functional

    from harness.optimize.training import encoders, losses

    labels = torch.from_numpy(rows.labels)
    widths = student.spec.width, teacher.spec.width
    project: nn.Module = nn.Identity() if widths[0] == widths[1] else nn.Linear(*widths)
    heads = gcd(student.spec.heads[-1], teacher.spec.heads[match[-1]])
    student.first_only = not inside

    def from_logits(batch: list[int], found: "Tensor") -> "Tensor":
        total = (1 - params.hard) * losses.soft_cross_entropy(
            found, answers[batch], params.temperature
        )
        known = labels[batch] >= 0
        if params.hard and bool(known.any()):
            share = params.hard * float(known.float().mean())
            total = total + share * functional.cross_entropy(found[known], labels[batch][known])
        return total

    def loss(batch: list[int]) -> "Tensor":
        if not inside:
            return from_logits(batch, encoders.compute_logits(student, rows, batch))
        lengths = torch.from_numpy(rows.lengths[batch])
        mask = torch.arange(int(lengths.max())) < lengths[:, None]
        with (
            losses.record_activations(student) as ours,
            losses.record_activations(teacher) as theirs,
        ):
            total = from_logits(batch, encoders.compute_logits(student, rows, batch))
            with torch.no_grad():
                encoders.compute_logits(teacher, rows, batch)
        if params.embedding:
            seen = project(ours.embedding.float())
            total = total + params.embedding * losses.hidden_mse(seen, theirs.embedding, mask)
        if params.hidden:
            apart = [
                losses.hidden_mse(project(ours.hidden[index].float()), theirs.hidden[layer], mask)
                for index, layer in enumerate(match)
            ]
            total = total + params.hidden * torch.stack(apart).mean()
        if params.attention:
            mine, its = ours.attention[len(match) - 1], theirs.attention[match[-1]]
            parts = ([each[name] for name in ("query", "key", "value")] for each in (mine, its))
            total = total + params.attention * losses.relation_loss(
                next(parts), next(parts), mask, heads
            )
        return total

    return loss, [project]


STEP = Step(
    "distill",
    1,
    Distill,
    ("safetensors",),
    run,
    validate,
    output_spec,
    trains=True,
    needs_teacher=True,
)
