"""A candidate of a search: the shape of a student, which decides its speed, and its training."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from harness.models.model_spec import ModelSpec

FIRST_EPOCHS = 1
"""Epochs before pruning: the student only has to be good enough to tell which heads matter."""

EXPORT = {"use": "export"}


@dataclass(frozen=True)
class Form:
    """Engine and precision of a system.

    Attributes:
        engine: the name of the engine.
        steps: what makes it of trained weights.
        extra: the optional dependency that it needs, or ''.
        fidelity: forms of a higher number answer more like the trained weights.
        depends_on_batch: whether an answer depends on what it is computed together with.
    """

    engine: str
    steps: tuple[dict[str, Any], ...]
    extra: str = ""
    fidelity: int = 0
    depends_on_batch: bool = False


FormName = Literal[
    "onnxruntime-fp32",
    "onnxruntime-int8",
    "onnxruntime-int8-static",
    "openvino-fp32",
    "openvino-int8",
    "pytorch-bf16",
]

BATCH_TOKENS = 512
"""Tokens of a batch at most. Larger batches of int8 gained nothing on short texts, and were slower
than one text at a time on long ones (docs/methodology/recipe.md)."""

FORMS: dict[FormName, Form] = {
    "onnxruntime-fp32": Form("onnxruntime", (EXPORT,), fidelity=2),
    "onnxruntime-int8": Form(
        "onnxruntime", (EXPORT, {"use": "quantize", "dtype": "int8"}), depends_on_batch=True
    ),
    "onnxruntime-int8-static": Form(
        "onnxruntime", (EXPORT, {"use": "quantize", "dtype": "int8", "method": "static"})
    ),
    "openvino-fp32": Form("openvino", (EXPORT,), "openvino", 2),
    "openvino-int8": Form(
        "openvino", (EXPORT, {"use": "quantize", "dtype": "int8", "by": "nncf"}), "openvino"
    ),
    "pytorch-bf16": Form("pytorch", ({"use": "quantize", "dtype": "bf16"},), fidelity=1),
}
"""The forms by name."""


@dataclass(frozen=True, order=True)
class Size:
    """How large a student is.

    Attributes:
        layers: number of layers.
        heads: attention heads of a layer.
        ffn: feed-forward neurons of a layer.
        start: the pretrained encoder that it starts from; '' for layers of the teacher.
    """

    layers: int
    heads: int
    ffn: int
    start: str = ""

    def covers(self, other: "Size") -> bool:
        """Return whether it has at least as much of everything as another size."""
        return (
            self.start == other.start
            and self.layers >= other.layers
            and self.heads >= other.heads
            and self.ffn >= other.ffn
        )


@dataclass(frozen=True, order=True)
class Shape:
    """What decides the speed of a student: everything but its weights.

    Attributes:
        size: how large it is.
        form: a key of `FORMS`.
        batch: inputs of similar length that `offline` computes together.
        instances: 1, or `per-core`: copies that answer in parallel in `offline`.
    """

    size: Size
    form: FormName
    batch: int = 1
    instances: int | str = 1

    @property
    def serve(self) -> dict[str, Any]:
        """The table `[serve]` of a manifest."""
        values: dict[str, Any] = {
            "engine": FORMS[self.form].engine,
            "padding": "longest",
            "batch": 1,
        }
        offline: dict[str, Any] = {}
        if self.batch > 1:
            offline |= {"batch": self.batch, "tokens": BATCH_TOKENS, "order": "by-length"}
        if self.instances != 1:
            offline["instances"] = self.instances
            values["server"] = {"instances": self.instances}
        return values | ({"offline": offline} if offline else {})

    def describe(self) -> dict[str, Any]:
        """Return the columns of a table that describe it."""
        return {
            "layers": self.size.layers,
            "heads": self.size.heads,
            "neurons": self.size.ffn,
            "starts from": self.size.start or "teacher",
            "form": self.form,
            "batch": self.batch,
            "instances": self.instances,
        }


@dataclass(frozen=True)
class Training:
    """How a student is trained.

    Attributes:
        epochs: passes over the text and its copies.
        augment: augmented copies of the text.
        temperature: of the distillation.
        learning_rate: the peak.
    """

    epochs: int
    augment: int
    temperature: float
    learning_rate: float

    def describe(self) -> dict[str, Any]:
        """Return the columns of a table that describe it."""
        return {
            "epochs": self.epochs,
            "copies": self.augment,
            "temperature": self.temperature,
            "rate": f"{self.learning_rate:g}",
        }


def list_later_steps(shape: Shape, vocabulary: bool) -> list[dict[str, Any]]:
    """Return the steps of a student that do not depend on its training.

    Args:
        shape: the student.
        vocabulary: whether embeddings that the task's text does not need are removed.
    """
    removal = [{"use": "vocabulary"}] if vocabulary else []
    return [*removal, *(dict(step) for step in FORMS[shape.form].steps)]


def make_recipe(
    shape: Shape, training: Training, teacher: ModelSpec, vocabulary: bool
) -> list[dict[str, Any]]:
    """Return the steps of a student.

    A student that is smaller within its layers than its teacher, or than the encoder that it starts
    from, is trained briefly, pruned, and trained again.

    Args:
        shape: the student.
        training: how it is trained.
        teacher: what the student starts from: the teacher, or the encoder `shape.size.start`.
        vocabulary: whether embeddings that the task's text does not need are removed.
    """
    size = shape.size
    later = list_later_steps(shape, vocabulary)
    common = {
        "temperature": training.temperature,
        "learning_rate": training.learning_rate,
        "dropout": False,
    }
    start: dict[str, Any] = {"student": size.start} if size.start else {"layers": size.layers}
    start = {"use": "distill", **start}
    last = {"epochs": training.epochs, "augment": training.augment, **common}
    if (size.heads, size.ffn) == (teacher.heads, teacher.ffn):
        return [start | last, *later]
    prune = {"use": "prune", "heads": size.heads, "ffn": size.ffn}
    first = start | {"epochs": FIRST_EPOCHS, **common}
    removal, tail = later[: int(vocabulary)], later[int(vocabulary) :]
    return [first, *removal, prune, {"use": "distill", **last}, *tail]


def make_manifest(
    title: str,
    model: dict[str, Any],
    steps: list[dict[str, Any]],
    serve: dict[str, Any],
    task: str,
    authors: tuple[str, ...] = ("unknown",),
) -> dict[str, Any]:
    """Return the content of a `submission.toml` in the open division."""
    return {
        "title": title,
        "authors": list(authors),
        "licence": "unknown",
        "division": "open",
        "tasks": [task],
        "model": model,
        "step": steps,
        "serve": serve,
    }


def drop_slower(speeds: dict[Shape, float]) -> list[Shape]:
    """Return the shapes that no other one makes pointless, the fastest first.

    A shape is pointless if another one is at least as fast, has at least as much of everything
    (layers, heads, neurons), and is in a form of at least the same fidelity.

    Args:
        speeds: examples per second of each shape, or anything in proportion to it.
    """
    kept: list[Shape] = []
    for shape in sorted(speeds, key=lambda shape: (-speeds[shape], shape.form, shape.size)):
        fidelity = FORMS[shape.form].fidelity
        if not any(
            other.size.covers(shape.size) and FORMS[other.form].fidelity >= fidelity
            for other in kept
        ):
            kept.append(shape)
    return kept


def group_by_size(shapes: Sequence[Shape]) -> list[list[Shape]]:
    """Return the shapes of each size, in the order in which they come."""
    groups: dict[Size, list[Shape]] = {}
    for shape in shapes:
        groups.setdefault(shape.size, []).append(shape)
    return list(groups.values())


def with_serving(shape: Shape, other: Shape) -> Shape:
    """Return a shape that is served in batches and instances like another one."""
    return replace(shape, batch=other.batch, instances=other.instances)
