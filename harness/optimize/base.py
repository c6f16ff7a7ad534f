"""What a step is: a function from artifact to artifact, with its parameters in one dataclass, found
by name in the registry.
"""

import importlib
import inspect
import json
from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

from harness.errors import BuildError
from harness.models.pretrained import Encoder
from harness.schema import suggest_name
from harness.tasks.task import Example, Task

STEP_MODULES = {
    "adopt": "harness.optimize.adopt",
    "unpack": "harness.optimize.unpack",
    "finetune": "harness.optimize.finetune",
    "distill": "harness.optimize.distill",
    "vocabulary": "harness.optimize.vocabulary",
    "prune": "harness.optimize.prune",
    "exits": "harness.optimize.exits",
    "prune-tokens": "harness.optimize.prune_tokens",
    "export": "harness.optimize.export",
    "quantize": "harness.optimize.quantize",
    "calibrate": "harness.optimize.calibrate",
    "cascade": "harness.optimize.cascade",
    "static": "harness.optimize.static",
    "model2vec": "harness.optimize.model2vec",
    "majority": "harness.optimize.majority",
    "tfidf-logreg": "harness.optimize.tfidf",
}
"""Every step's module; each holds one `STEP`. They import what is heavy only when they run."""


ENGINE_METADATA_KEYS = ("labels", "answer", "dtype", "max_length", "model", "rule", "members")


@dataclass(frozen=True)
class Artifact:
    """What a recipe leaves on disk: a folder and what its `artifact.json` says."""

    folder: Path
    about: dict[str, Any]

    @property
    def key(self) -> str:
        """The content address."""
        return str(self.about["key"])

    @property
    def format(self) -> str:
        """`safetensors`, `transformers`, `onnx`, `stages`, `openvino`, `cascade`, `static`,
        `tfidf`, `constant` or `files`.
        """
        return str(self.about["format"])

    @property
    def engine_metadata(self) -> dict[str, Any]:
        """What an engine is told of it."""
        return {key: self.about[key] for key in ENGINE_METADATA_KEYS if key in self.about}

    @staticmethod
    def read(folder: Path) -> "Artifact":
        """Raises: BuildError if the folder holds no artifact."""
        try:
            return Artifact(folder, json.loads((folder / "artifact.json").read_text()))
        except (OSError, ValueError) as error:
            raise BuildError(
                f"{folder}: not an artifact ({error}). Remove the folder and build again."
            ) from None


@dataclass(frozen=True)
class Member:
    """Another system that a cascade is made of: its name, its artifact, and the engine it has."""

    name: str
    artifact: Artifact
    engine: str


@dataclass(frozen=True)
class Inputs:
    """What a step starts from.

    artifact: of the step before, or, for a first step, of the teacher.
    encoder: a pretrained one, of the manifest's model or of the step's own parameters.
    teacher: the artifact of the manifest's teacher, for a step that learns from it.
    members: the systems of a cascade.
    """

    artifact: Artifact | None = None
    encoder: Encoder | None = None
    teacher: Artifact | None = None
    members: tuple[Member, ...] = ()

    def keys(self) -> dict[str, str]:
        """Content addresses of all inputs."""
        keys = {}
        if self.artifact:
            keys["artifact"] = self.artifact.key
        if self.encoder:
            keys["encoder"] = self.encoder.key
        if self.teacher:
            keys["teacher"] = self.teacher.key
        keys |= {each.name: each.artifact.key for each in self.members}
        return keys


@dataclass(frozen=True)
class StepContext:
    """Where a step works.

    out: the folder to fill; it becomes the artifact when the step returns, and vanishes when it
    does not.
    seed: of everything random.
    threads: cores that the step may use.
    say: takes a line of progress.
    kept: a folder that outlives an interruption, for checkpoints; None to keep none.
    """

    out: Path
    seed: int
    threads: int
    log: Callable[[str], None] = field(default=lambda line: None)
    kept: Path | None = None


@dataclass(frozen=True)
class Step:
    """One optimization.

    version: changes whenever the same inputs would give another artifact.
    params: the dataclass of its parameters; their defaults and docstring are the manifest's schema
    and documentation.
    takes: the artifact formats it can be applied to; `encoder` for a pretrained one, `checkpoint`
    for a fine-tuned one, `members` for other systems, empty for none at all.
    run: writes files into `context.out` and returns what `artifact.json` shall say of them.
    validate: faults of the parameters against the shape that comes in (where it is known), as
    sentences.
    output_spec: what of the shape is another after it; its `format` at least, where that changes.
    target: what of this machine's instruction set changes the artifact, for the key.
    trains: whether it learns from labels; not allowed in the closed division.
    taught: whether it learns from the manifest's teacher, and so depends on it.
    """

    name: str
    version: int
    params: type
    takes: tuple[str, ...]
    run: Callable[[Inputs, Task, Any, StepContext], dict[str, Any]]
    validate: Callable[[Any, dict[str, Any]], list[str]] = field(default=lambda params, shape: [])
    output_spec: Callable[[Any, dict[str, Any]], dict[str, Any]] = field(
        default=lambda params, shape: {}
    )
    target: Callable[[], str] = field(default=lambda: "")
    trains: bool = False
    needs_teacher: bool = False


def fp32_fault(shape: dict[str, Any]) -> list[str]:
    """The fault of a step that works on fp32 weights where it gets others."""
    dtype = shape.get("dtype", "fp32")
    return (
        [] if dtype == "fp32" else [f"it takes fp32 weights, but gets {dtype}; quantize after it"]
    )


def inner_faults(after: Sequence[int], shape: dict[str, Any]) -> list[str]:
    """Faults of a choice of layers that must not hold the last one, as sentences."""
    most = shape.get("layers")
    if not after or list(after) != sorted(set(after)):
        return [f"after = {list(after)}: name layers, each once and in order"]
    if after[0] < 0 or (most and after[-1] > most - 2):
        name = shape.get("name", "the model")
        return [
            f"after = {list(after)}, but {name} has {most} layers. Choose from 0..{(most or 2) - 2}"
        ]
    return []


def accuracy(scores: Any, examples: Sequence[Example]) -> float:
    """Share of the examples that are answered right. scores: float32 [candidates, labels]."""
    from harness.engines import base

    answers = base.answers_from_scores(scores, [len(each.candidates) for each in examples])
    right = (
        answer in (each.right or (each.label,))
        for answer, each in zip(answers, examples, strict=True)
    )
    return sum(right) / len(examples)


def describe_step(found: Step) -> str:
    """A step's name, what it does, and each parameter with its default, out of its dataclass."""
    parts = [inspect.cleandoc(each.__doc__ or "") for each in found.params.__mro__[:-1]]
    defaults = [
        f"{each.name} = {each.default!r}" if each.default is not MISSING else f"{each.name} (given)"
        for each in fields(found.params)
    ]
    lines = [f"[{found.name}] {', '.join(defaults)}", *"\n\n".join(parts).splitlines()]
    return "\n    ".join(line.rstrip() for line in lines).replace("    \n", "\n") + "\n"


def get_step(name: str) -> Step:
    """The step of this name. Raises: BuildError that names the nearest one."""
    if name not in STEP_MODULES:
        raise BuildError(f"step {name!r} does not exist. {suggest_name(name, STEP_MODULES)}")
    found = importlib.import_module(STEP_MODULES[name]).STEP
    assert isinstance(found, Step)
    return found
