"""A baseline or a submission, as its manifest declares it."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from harness.engines.base import ServeConfig
from harness.models.model_spec import ModelSpec
from harness.optimize.base import Step, StepParams, get_step
from harness.results.record_parts import Division
from harness.tasks.task import Task

ANY_TASK = "any"
DEVICES = ("any", "gpu")


@dataclass(frozen=True)
class StepConfig:
    """One `[[step]]` of a manifest.

    Attributes:
        use: the name of the step.
        values: its parameters, as they are written.
        tasks: other values of some parameters, by the name of the task that they are for.
    """

    use: str
    values: dict[str, Any]
    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)

    def for_task(self, task: str) -> "StepConfig":
        """Return the step as it is run for a task.

        Training on the task first, before training on the task, is left out.
        """
        values = {**self.values, **self.tasks.get(task, {})}
        if values.get("intermediate") == task:
            del values["intermediate"]
        return StepConfig(self.use, values)

    @property
    def step(self) -> Step:
        """The step."""
        return get_step(self.use)

    @property
    def params(self) -> StepParams:
        """The parameters with their defaults."""
        return self.step.params(**self.values)


@dataclass(frozen=True)
class TeacherSource:
    """The recipe starts from the artifact of another system, and may learn from it."""

    system: "System"
    kind: Literal["teacher"] = "teacher"


@dataclass(frozen=True)
class MembersSource:
    """The recipe combines other systems, the cheapest first."""

    systems: tuple["System", ...]
    kind: Literal["members"] = "members"


@dataclass(frozen=True)
class EncoderSource:
    """The recipe starts from files.

    Attributes:
        name: of a pinned encoder, a folder, or bundled weights as `bundled_weights.to_spec` writes
            them.
        kind: a pretrained encoder, a fine-tuned checkpoint, or bundled weights.
    """

    name: str
    kind: Literal["pretrained", "checkpoint", "weights"]


ModelSource = TeacherSource | MembersSource | EncoderSource
"""The table `[model]`: what the recipe starts from."""


@dataclass(frozen=True)
class DeclaredTask:
    """A task that a manifest names.

    Attributes:
        name: its name, or `any`.
        address: what `get_task` finds it by: its name, or the path of its `task.toml`.
    """

    name: str
    address: str


@dataclass(frozen=True)
class System:
    """A baseline or a submission.

    Attributes:
        name: the name of its folder; `system@point` at an operating point.
        folder: the folder of the manifest.
        title: one line for tables.
        authors: who made it.
        licence: the licence of the folder, as an SPDX name.
        division: `baseline`, `closed` or `open`.
        tasks: the tasks that it is made for.
        source: what the recipe starts from; None for nothing.
        recipe: the steps, in order.
        serve: how it is served in each scenario.
        spec: what is known of the artifact before it is built.
        points: further thresholds that it is measured at, by the name of the operating point.
        point: the name of the operating point, or ''.
        seed: the training seed, if it is not the session's first one.
        device: `gpu` if it can only be measured under a GPU configuration, otherwise `any`.
    """

    name: str
    folder: Path
    title: str
    authors: tuple[str, ...]
    licence: str
    division: Division
    tasks: tuple[DeclaredTask, ...]
    source: ModelSource | None
    recipe: tuple[StepConfig, ...]
    serve: dict[str, ServeConfig]
    spec: ModelSpec
    points: dict[str, float | str] = field(default_factory=dict)
    point: str = ""
    seed: int | None = None
    device: str = DEVICES[0]

    @property
    def teacher(self) -> "System | None":
        """The system that the recipe starts from."""
        return self.source.system if isinstance(self.source, TeacherSource) else None

    @property
    def members(self) -> tuple["System", ...]:
        """The systems that a cascade queries, in order."""
        return self.source.systems if isinstance(self.source, MembersSource) else ()

    @property
    def encoder(self) -> str:
        """The encoder, checkpoint or bundled weights that the recipe starts from, or ''."""
        return self.source.name if isinstance(self.source, EncoderSource) else ""

    @property
    def engine(self) -> str:
        """The engine that serves it, or `module` or `command` for custom code."""
        return self.serve["offline"].engine

    @property
    def manifest(self) -> Path:
        """The path of `submission.toml`."""
        return self.folder / "submission.toml"

    def expand_points(self) -> list["System"]:
        """Return the system as it is, then at each of its operating points."""
        return [self, *(self._at_point(name, value) for name, value in self.points.items())]

    def _at_point(self, point: str, threshold: float | str) -> "System":
        serve = {
            scenario: replace(config, threshold=threshold)
            for scenario, config in self.serve.items()
        }
        return replace(self, name=f"{self.name}@{point}", serve=serve, point=point)

    def fits_device(self, device: str) -> bool:
        """Return whether it can be measured under a configuration with this device."""
        return self.device in (DEVICES[0], device)

    def declares_task(self, task: Task) -> bool:
        """Return whether the system declares the task, or the task with its training split."""
        names = {declared.name for declared in self.tasks}
        return not {task.name, task.training_task.name, ANY_TASK}.isdisjoint(names)

    def get_task_addresses(self) -> list[str]:
        """Return the tasks that it declares, as `get_task` finds them; `sentiment` for any task."""
        addresses = [declared.address for declared in self.tasks]
        return ["sentiment"] if ANY_TASK in addresses else addresses
