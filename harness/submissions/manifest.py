"""Manifests: what a system declares in `submission.toml`, read and checked before it is built.

The parameters of a step are the fields of its dataclass, so they are schema and documentation too.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.engines.base import ServeConfig
from harness.errors import BuildError, HarnessError, ManifestError
from harness.models import pretrained
from harness.optimize.base import Step, get_step
from harness.results.record import DIVISIONS
from harness.schema import Faults, build_params, read_toml, suggest_name
from harness.store import bundled_weights
from harness.submissions.serve import read_points, read_serve
from harness.tasks.registry import builtin_tasks, get_task
from harness.tasks.task import Task

TOP_KEYS = (
    *("title", "authors", "licence", "division", "tasks", "device"),
    *("model", "step", "serve"),
)
DEVICES = ("any", "gpu")
MODEL_KEYS = ("teacher", "pretrained", "checkpoint", "weights", "members")
ANY_TASK = "any"

ArtifactSpec = dict[str, Any]
"""What is known of an artifact without building it; see `System.spec`."""

UNKNOWN: ArtifactSpec = {"format": None}
"""The specification after a fault: nothing that depends on it is checked."""


@dataclass(frozen=True)
class StepConfig:
    """One `[[step]]` of a manifest.

    Attributes:
        step: the step.
        params: its parameters, an instance of `step.params`.
    """

    step: Step
    params: Any


@dataclass(frozen=True)
class System:
    """A baseline or a submission, as its manifest declares it.

    Attributes:
        name: the name of its folder; `system@point` at an operating point.
        folder: the folder of the manifest.
        title: one line for tables.
        authors: who made it.
        licence: the licence of the folder, as an SPDX name.
        division: `baseline`, `closed` or `open`.
        tasks: the names of the tasks that it is made for, or `any`.
        device: `gpu` if it can only be measured under a GPU configuration, otherwise `any`.
        teacher: the system whose artifact the recipe starts from, or ''.
        pretrained: the encoder, fine-tuned checkpoint or bundled weights that the recipe starts
            from, or ''.
        recipe: the steps, in order.
        serve: how it is served in each scenario.
        spec: what is known of the artifact before it is built: its `format` ('' for none), and, of
            a model, `name`, `layers`, `heads`, `ffn`, `max_length`, `dtype`, the same of its
            `teacher`, and `base`, the folder of the manifest.
        members: the systems that a cascade queries, in order.
        points: further thresholds that it is measured at, by the name of the operating point.
        point: the name of the operating point, or ''.
        seed: the training seed, if it is not the session's first one.
    """

    name: str
    folder: Path
    title: str
    authors: tuple[str, ...]
    licence: str
    division: str
    tasks: tuple[str, ...]
    teacher: str
    pretrained: str
    recipe: tuple[StepConfig, ...]
    serve: dict[str, ServeConfig]
    spec: ArtifactSpec
    members: tuple[str, ...] = ()
    points: dict[str, float | str] = field(default_factory=dict)
    point: str = ""
    seed: int | None = None
    device: str = "any"

    def expand_points(self) -> list["System"]:
        """Return the system as it is, then at each of its operating points."""
        return [self, *(self._at_point(name, value) for name, value in self.points.items())]

    def _at_point(self, point: str, threshold: float | str) -> "System":
        serve = {
            scenario: replace(config, threshold=threshold)
            for scenario, config in self.serve.items()
        }
        return replace(self, name=f"{self.name}@{point}", serve=serve, point=point)

    @property
    def manifest(self) -> Path:
        """The path of `submission.toml`."""
        return self.folder / "submission.toml"

    def fits_device(self, device: str) -> bool:
        """Return whether it can be measured under a configuration with this device."""
        return self.device in (DEVICES[0], device)

    def declares_task(self, task: Task) -> bool:
        """Return whether the system declares the task, or the task with its training split."""
        return not {task.name, task.training_task.name, ANY_TASK}.isdisjoint(self.tasks)


def read_system(folder: Path, root: Path | None = None) -> System:
    """Read and check the manifest of a system.

    Args:
        folder: the folder of `submission.toml`.
        root: the folder that holds baselines/ and submissions/, where teachers and members are
            looked up (default: two levels above `folder`).

    Raises:
        ManifestError: every fault that can be found without building, one per line.
    """
    return _read(folder, root or folder.resolve().parent.parent, ())


def find_systems(root: Path) -> dict[str, Path]:
    """Return the folders of all systems by name: baselines first, then submissions.

    Args:
        root: the folder that holds baselines/ and submissions/.

    Raises:
        ManifestError: two systems have the same name.
    """
    folders: dict[str, Path] = {}
    for parent in ("baselines", "submissions"):
        for manifest in sorted((root / parent).glob("*/submission.toml")):
            name = manifest.parent.name
            if name in folders:
                raise ManifestError(
                    f"{manifest}: {folders[name]} has the same name. Rename one of the folders."
                )
            folders[name] = manifest.parent
    return folders


def _read(folder: Path, root: Path, dependents: tuple[str, ...]) -> System:
    """Read a manifest; `dependents` are the systems that led to it, as teacher or member."""
    path = folder / "submission.toml"
    data = read_toml(path)
    faults = Faults(path)
    faults.check_keys("", data, TOP_KEYS)
    model = faults.get_table(data, "model")
    faults.check_keys("[model] ", model, MODEL_KEYS)
    spec = _read_model(faults, model, root, (*dependents, folder.name))
    recipe, spec = _read_recipe(faults, data, spec)
    division = faults.get_choice(data, "division", DIVISIONS)
    if division == "closed":
        _check_closed(faults, model, recipe)
    serve = read_serve(faults, data, spec)
    points = read_points(faults, data, spec)
    title, licence = faults.get_string(data, "title"), faults.get_string(data, "licence")
    authors, tasks = (faults.get_strings(data, key) for key in ("authors", "tasks"))
    task_names = tuple(_read_task_name(faults, task) for task in tasks)
    device = faults.get_choice(data, "device", DEVICES) if "device" in data else DEVICES[0]
    if device != "gpu" and any(config.cuda_graphs for config in serve.values()):
        faults.add("[serve] cuda_graphs needs device = 'gpu' at the top of the manifest.")
    faults.raise_any()
    origin = str(model.get("pretrained", model.get("checkpoint", "")))
    return System(
        folder.name,
        folder,
        title=title,
        licence=licence,
        authors=authors,
        division=division,
        tasks=task_names,
        teacher=str(model.get("teacher", "")),
        pretrained=bundled_weights.to_spec(model["weights"]) if "weights" in model else origin,
        recipe=recipe,
        serve=serve,
        spec=spec,
        members=tuple(model.get("members", ())),
        points=points,
        device=device,
    )


def _read_task_name(faults: Faults, task: str) -> str:
    """Return the name of a task that is given by name, or as a `task.toml` beside the manifest."""
    if task.endswith(".toml"):
        try:
            return get_task(str(faults.path.parent / task)).name
        except HarnessError as error:
            faults.add(f"task {task!r}: {error}")
    elif task != ANY_TASK and task not in builtin_tasks():
        faults.add(f"task {task!r} does not exist. {suggest_name(task, builtin_tasks())}")
    return task


def _read_recipe(
    faults: Faults, data: dict[str, Any], spec: ArtifactSpec
) -> tuple[tuple[StepConfig, ...], ArtifactSpec]:
    """Return the steps, and the specification of the artifact that they write.

    Args:
        faults: where faults are noted.
        data: the manifest.
        spec: the specification of what the first step gets.
    """
    recipe: list[StepConfig] = []
    tables = data.get("step", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        faults.add("step must be written as [[step]], with two brackets.")
        tables = []
    for number, table in enumerate(tables, start=1):
        name = table.get("use", "")
        if not name:
            faults.add(f"step {number}: the key 'use' is missing; it names the step.")
            return tuple(recipe), UNKNOWN
        try:
            step = get_step(str(name))
        except BuildError as error:
            faults.add(f"step {number}: {error}")
            return tuple(recipe), UNKNOWN
        prefix = f"step {number} {name!r}: "
        parameters = {key: value for key, value in table.items() if key != "use"}
        params = build_params(faults, prefix, step.params, parameters)
        if spec.get("format") is not None and spec["format"] not in step.takes:
            takes = " or ".join(artifact_format or "no model" for artifact_format in step.takes)
            faults.add(
                f"{prefix}it takes {takes}, but gets {spec['format'] or 'nothing'}. Change the "
                "order of the steps, or [model]."
            )
        if params is None:
            spec = UNKNOWN
            continue
        for fault in step.validate(params, spec):
            faults.add(f"{prefix}{fault}.")
        recipe.append(StepConfig(step, params))
        spec = {**spec, **step.output_spec(params, spec)}
    return tuple(recipe), spec


def _read_model(
    faults: Faults, model: dict[str, Any], root: Path, dependents: tuple[str, ...]
) -> ArtifactSpec:
    """Return the specification of what the recipe starts from."""
    if len(model) > 1:
        faults.add(f"[model] has both {' and '.join(model)}; keep one of them.")
    base = faults.path.parent
    for key, artifact_format, get_spec in (
        ("pretrained", "encoder", pretrained.get_encoder_spec),
        ("checkpoint", "checkpoint", pretrained.get_checkpoint_spec),
    ):
        if key in model:
            try:
                spec = get_spec(str(model[key]), base)
            except HarnessError as error:
                faults.add(f"[model] {key}: {error}")
                return UNKNOWN
            return {**spec, "format": artifact_format, "base": base}
    if "weights" in model:
        return _get_weights_spec(faults, model["weights"])
    if "members" in model:
        return _read_members(faults, model, root, dependents)
    if "teacher" not in model:
        return {"format": ""}
    name = str(model["teacher"])
    teacher = _get_system_spec(faults, "teacher", name, root, dependents)
    if not teacher:
        return UNKNOWN
    inherited = {
        key: value for key, value in teacher.items() if key not in ("teacher", "finetuned")
    }
    spec = {**inherited, "name": name, "base": base}
    return {**spec, "teacher": spec}


def _read_members(
    faults: Faults, model: dict[str, Any], root: Path, dependents: tuple[str, ...]
) -> ArtifactSpec:
    members = faults.get_strings(model, "members")
    specs = [_get_system_spec(faults, "members", name, root, dependents) for name in members]
    if len(members) < 2 or len(set(members)) < len(members):
        faults.add("[model] members: name at least two different systems, the cheapest first.")
    for name, spec in zip(members, specs, strict=True):
        if spec and not spec["format"]:
            faults.add(
                f"[model] members: {name} has no artifact, and so no confidence. Name another "
                "system."
            )
    return {"format": "members", "name": " > ".join(members)}


def _get_weights_spec(faults: Faults, declaration: Any) -> ArtifactSpec:
    """Return the specification of bundled weights; most of it is unknown before a download."""
    base = faults.path.parent
    weights_faults = bundled_weights.find_faults(declaration, base)
    for fault in weights_faults:
        faults.add(f"[model] weights: {fault}")
    if weights_faults:
        return {"format": None, "base": base, "name": "weights", "becomes": None}
    spec: ArtifactSpec = {"format": "checkpoint", "base": base}
    folder = bundled_weights.find_local(bundled_weights.to_spec(declaration), base)
    if folder is None:
        return {**spec, "name": "weights", "becomes": None}
    try:
        return {**pretrained.get_checkpoint_spec(str(folder), base), **spec}
    except HarnessError as error:  # not a checkpoint, but custom code may be able to read it
        return {**spec, "name": "weights", "unfit": str(error)}


def _get_system_spec(
    faults: Faults, key: str, name: str, root: Path, dependents: tuple[str, ...]
) -> ArtifactSpec:
    """Return the specification of another system; if there is none, note a fault and return {}."""
    systems = find_systems(root)
    if name in dependents:
        cycle = " -> ".join((*dependents, name))
        faults.add(f"[model] {key}: {cycle} is a cycle. Name a system that does not depend on it.")
    elif name not in systems:
        faults.add(
            f"[model] {key} {name!r} does not exist in {root / 'baselines'}. "
            f"{suggest_name(name, systems)}"
        )
    else:
        return _read(systems[name], root, dependents).spec
    return {}


def _check_closed(faults: Faults, model: dict[str, Any], recipe: Sequence[StepConfig]) -> None:
    if "teacher" not in model:
        faults.add(
            'division = "closed" needs [model] teacher, the reference whose weights it executes.'
        )
    for step_config in recipe:
        if step_config.step.trains:
            faults.add(
                'division = "closed" allows no step that trains, but '
                f'{step_config.step.name!r} does. Use division = "open".'
            )
