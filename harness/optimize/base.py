"""Steps: functions from artifact to artifact, each with the schema of its parameters, found by name
in a registry.
"""

import importlib
import inspect
import json
import textwrap
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from harness import extensions
from harness.errors import BuildError, suggest_name
from harness.models.model_spec import ModelSpec
from harness.models.pretrained import Encoder
from harness.progress import Log
from harness.schema import Schema, describe_range
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
"""The module of every step, which holds one `STEP`. Heavy libraries are imported only when a step
runs."""


class StepParams(Schema):
    """The parameters of a step, which are hashed into the key of the artifact.

    Its docstring says what the step does, and the description of each field what the parameter
    does. A parameter that is added later has `json_schema_extra={"added": True}`, so that artifacts
    built without it keep their keys.
    """

    def key_values(self) -> dict[str, Any]:
        """Return the parameters that a key hashes: an added one only if it is not the default."""
        return {
            name: value
            for name, value in self.model_dump().items()
            if not self._is_added(name) or value != type(self).model_fields[name].default
        }

    @classmethod
    def _is_added(cls, name: str) -> bool:
        extra = cls.model_fields[name].json_schema_extra
        return isinstance(extra, dict) and bool(extra.get("added"))


ENGINE_DETAILS = ("answer", "rule", "members")
"""The details of an artifact that an engine needs."""


@dataclass(frozen=True)
class ArtifactMeta:
    """The content of `artifact.json`.

    Attributes:
        format: `safetensors`, `transformers`, `onnx`, `stages`, `openvino`, `cascade`, `static`,
            `tfidf`, `constant`, `files`, or what an extension adds.
        key: the content address.
        labels: the number of labels.
        max_length: the longest input in tokens.
        dtype: `fp32`, `int8`, `fp16` or `bf16`.
        model: the architecture and the number of parameters; empty if there is no model.
        seed: the training seed.
        task: name and version.
        parents: the keys of the inputs by what they are.
        recipe: the steps so far: `use`, the parameters, and `cost`.
        packages: versions.
        files: the sha256 of each file.
        details: what only this format or its last step has, such as the history of the training.
    """

    format: str
    key: str = ""
    labels: int = 2
    max_length: int = 0
    dtype: str = "fp32"
    model: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    task: tuple[str, ...] = ()
    parents: dict[str, str] = field(default_factory=dict)
    recipe: list[dict[str, Any]] = field(default_factory=list)
    packages: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> "ArtifactMeta":
        """Return the metadata of a JSON object."""
        known = {key.name for key in fields(ArtifactMeta)} - {"details"}
        details = {key: value for key, value in values.items() if key not in known}
        return ArtifactMeta(
            **{key: value for key, value in values.items() if key in known}, details=details
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of `artifact.json`."""
        values = {key.name: getattr(self, key.name) for key in fields(self)}
        details: dict[str, Any] = values.pop("details")
        return values | details


@dataclass(frozen=True)
class Artifact:
    """What a recipe builds: a folder with an `artifact.json`.

    Attributes:
        folder: the folder.
        metadata: the content of `artifact.json`.
    """

    folder: Path
    metadata: ArtifactMeta

    @property
    def key(self) -> str:
        """The content address."""
        return self.metadata.key

    @property
    def format(self) -> str:
        """The format, which decides what engines and steps can take it."""
        return self.metadata.format

    @property
    def engine_metadata(self) -> dict[str, Any]:
        """The part of the metadata that an engine needs, as the protocol sends it."""
        meta = self.metadata
        details = {key: meta.details[key] for key in ENGINE_DETAILS if key in meta.details}
        return {
            "labels": meta.labels,
            "max_length": meta.max_length,
            "dtype": meta.dtype,
            "model": meta.model,
            **details,
        }

    @staticmethod
    def read(folder: Path) -> "Artifact":
        """Read the artifact in a folder.

        Raises:
            BuildError: the folder holds no artifact.
        """
        try:
            values = json.loads((folder / "artifact.json").read_bytes())
            return Artifact(folder, ArtifactMeta.from_dict(values))
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise BuildError(
                f"{folder}: not an artifact ({error}). Remove the folder and build again."
            ) from None


@dataclass(frozen=True)
class Member:
    """A system that is part of a cascade.

    Attributes:
        name: its name.
        artifact: its artifact.
        engine: the engine that serves it.
    """

    name: str
    artifact: Artifact
    engine: str


@dataclass(frozen=True)
class Inputs:
    """What a step starts from.

    Attributes:
        artifact: of the step before, or, for a first step, of the teacher.
        encoder: a pretrained encoder or checkpoint, of the manifest's model or of the step's own
            parameters.
        teacher: the artifact of the manifest's teacher, for a step that learns from it.
        members: the systems of a cascade.
    """

    artifact: Artifact | None = None
    encoder: Encoder | None = None
    teacher: Artifact | None = None
    members: tuple[Member, ...] = ()

    def keys(self) -> dict[str, str]:
        """Return the content addresses of all inputs."""
        keys = {}
        if self.artifact:
            keys["artifact"] = self.artifact.key
        if self.encoder:
            keys["encoder"] = self.encoder.key
        if self.teacher:
            keys["teacher"] = self.teacher.key
        return keys | {member.name: member.artifact.key for member in self.members}


@dataclass(frozen=True)
class StepContext:
    """Where and how a step runs.

    Attributes:
        out: the folder to fill; it becomes the artifact when the step returns, and is removed if
            the step fails.
        seed: of all random draws.
        threads: cores that the step may use.
        log: takes a line of progress.
        checkpoints: a folder for checkpoints, which remains after an interruption; None to write
            none.
        device: `cpu` or `cuda`, where encoders are trained.
    """

    out: Path
    seed: int
    threads: int
    log: Log = field(default=lambda line: None)
    checkpoints: Path | None = None
    device: str = "cpu"


@dataclass(frozen=True)
class Step:
    """An optimization.

    Attributes:
        name: its name in manifests.
        version: changes whenever the same inputs would give another artifact.
        params: the schema of its parameters in manifests, which also documents them.
        takes: the artifact formats that it can be applied to; `encoder` for a pretrained encoder,
            `checkpoint` for a fine-tuned model, `members` for other systems, empty for nothing.
        run: writes files into `context.out` and returns the metadata for `artifact.json`.
        validate: returns the faults of the parameters that depend on each other or on the model
            that the step gets, as sentences.
        output_spec: returns the specification of the model that the step writes.
        target: returns the part of a machine's instruction set that changes the artifact; of this
            machine, or of one with the given flags.
        trains: whether it learns from labels, which the closed division does not allow.
        needs_teacher: whether it learns from the manifest's teacher, and so depends on it.
    """

    name: str
    version: int
    params: type[StepParams]
    takes: tuple[str, ...]
    run: Callable[[Inputs, Task, Any, StepContext], dict[str, Any]]
    validate: Callable[[Any, ModelSpec], list[str]] = field(default=lambda params, spec: [])
    output_spec: Callable[[Any, ModelSpec], ModelSpec] = field(default=lambda params, spec: spec)
    target: Callable[[Collection[str] | None], str] = field(default=lambda flags: "")
    trains: bool = False
    needs_teacher: bool = False


def get_selection(task: Task) -> Sequence[Example]:
    """Return the selection slice.

    Raises:
        BuildError: it is empty.
    """
    examples = task.examples("selection")
    if not len(examples):
        raise BuildError(
            f"the selection slice of {task.name} is empty, since its training split has only one "
            "text or group. Add others, or a selection file."
        )
    return examples


def find_dtype_faults(spec: ModelSpec) -> list[str]:
    """Return the error of a step that needs fp32 weights and gets others, as sentences."""
    if spec.dtype == "fp32":
        return []
    return [f"it needs fp32 weights, but gets {spec.dtype}; quantize after it"]


def find_layer_faults(after: Sequence[int], spec: ModelSpec) -> list[str]:
    """Return the errors of a choice of inner layers (all but the last), as sentences.

    Args:
        after: the layers, counted from 0.
        spec: of the model that has them.
    """
    layers = spec.layers
    if not after or list(after) != sorted(set(after)):
        return [f"after = {list(after)}: name layers, each once and in order"]
    if after[0] < 0 or (layers and after[-1] > layers - 2):
        return [
            f"after = {list(after)}, but {spec.name} has {layers} layers. "
            f"Choose from 0..{(layers or 2) - 2}"
        ]
    return []


def describe_step(step: Step) -> str:
    """Return the name of a step, where it comes from, what it does, and its parameters: default,
    range and meaning.
    """
    origin = find_step_origin(step.name) or "wattbench"
    lines = [
        f"[{step.name}] from {origin}",
        *inspect.cleandoc(step.params.__doc__ or "").splitlines(),
    ]
    for name, field_info in step.params.model_fields.items():
        required = field_info.is_required()
        notes = ["required"] if required else []
        notes += filter(None, [describe_range(field_info).removeprefix("choose ")])
        head = name if required else f"{name} = {_to_toml(field_info.default)}"
        head += f" ({', '.join(notes)})" if notes else ""
        text = f"{head}: {field_info.description}"
        lines += textwrap.wrap(text, 92, subsequent_indent="    ")
    return "\n    ".join(lines).replace("    \n", "\n") + "\n"


def _to_toml(value: Any) -> str:
    return json.dumps(list(value) if isinstance(value, tuple) else value)


def get_step_names() -> list[str]:
    """Return the names of all steps, those of extensions last.

    Raises:
        HarnessError: an extension has the name of another step.
    """
    return [*STEP_MODULES, *extensions.find_extensions(extensions.STEPS, STEP_MODULES)]


def get_step(name: str) -> Step:
    """Return the step of a name.

    Extensions are searched only for a name that wattbench does not have.

    Raises:
        BuildError: there is no such step; the message names the nearest one.
        HarnessError: it is an extension's, and cannot be loaded.
    """
    if name in STEP_MODULES:
        step = importlib.import_module(STEP_MODULES[name]).STEP
        assert isinstance(step, Step)
        return step
    found = extensions.find_extensions(extensions.STEPS, STEP_MODULES)
    if name not in found:
        known = get_step_names()
        raise BuildError(f"step {name!r} does not exist. {suggest_name(name, known)}")
    return found[name].load(Step)


def find_step_origin(name: str) -> str:
    """Return the package and version of an extension's step; '' for one of wattbench itself."""
    if name in STEP_MODULES:
        return ""
    return extensions.find_extensions(extensions.STEPS)[name].origin
