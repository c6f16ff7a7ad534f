"""The schema of `submission.toml`: what a system declares, read and checked before anything is
built.

A step's parameters are the fields of its dataclass, so the schema, the messages and the step's
documentation are one thing.
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
from harness.schema import Faults, nearest, params, read_toml
from harness.store import bundled_weights
from harness.submissions.serve import read_points, read_serve
from harness.tasks.registry import builtin_tasks, get_task
from harness.tasks.task import Task

TOP_KEYS = ("title", "authors", "licence", "division", "tasks", "model", "step", "serve")
MODEL_KEYS = ("teacher", "pretrained", "checkpoint", "weights", "members")
ANY_TASK = "any"


@dataclass(frozen=True)
class StepConfig:
    """One `[[step]]`: the step and its parameters (an instance of the step's dataclass)."""

    step: Step
    params: Any


@dataclass(frozen=True)
class System:
    """Anything that can be measured.

    teacher: the baseline whose artifact the recipe begins with, or ''.
    pretrained: the encoder, the fine-tuned checkpoint or the weights that it begins with, or ''.
    members: the systems that a cascade asks, in order.
    serve: how it is served, by scenario.
    points: other thresholds of confidence that it is measured at, by name; one curve on the board.
    point: the name of the one that this is, or ''; seed: of training, where it is another one.
    shape: what is known of the artifact before it is built: its `format` ('' for none), and of a
        model also the `name` of its origin, `layers`, `heads`, `ffn`, `max_length` and `dtype`, the
        same of its `teacher`, and the manifest's folder as `base`.
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
    shape: dict[str, Any]
    members: tuple[str, ...] = ()
    points: dict[str, float | str] = field(default_factory=dict)
    point: str = ""
    seed: int | None = None

    def at_points(self) -> list["System"]:
        """Itself, then itself at each of its points, named `system@point`."""
        return [
            self,
            *(
                replace(
                    self,
                    name=f"{self.name}@{point}",
                    serve={
                        scenario: replace(each, threshold=threshold)
                        for scenario, each in self.serve.items()
                    },
                    point=point,
                )
                for point, threshold in self.points.items()
            ),
        ]

    @property
    def manifest(self) -> Path:
        """The file."""
        return self.folder / "submission.toml"

    def declares_task(self, task: Task) -> bool:
        """Whether the system declares this task, or the one whose systems answer it."""
        return not {task.name, task.training_task.name, ANY_TASK}.isdisjoint(self.tasks)


def read_system(folder: Path, root: Path | None = None) -> System:
    """The system that a folder declares. root: the project's folder, where baselines are looked up.

    Raises: ManifestError with every fault that can be known without building.
    """
    return _read(folder, root or folder.resolve().parent.parent, ())


def find_systems(root: Path) -> dict[str, Path]:
    """The folders of all systems by name: baselines first, then submissions.

    Raises: ManifestError if a name is taken twice.
    """
    found: dict[str, Path] = {}
    for room in ("baselines", "submissions"):
        for manifest in sorted((root / room).glob("*/submission.toml")):
            name = manifest.parent.name
            if name in found:
                raise ManifestError(
                    f"{manifest}: {found[name]} has the same name. Rename one of the folders."
                )
            found[name] = manifest.parent
    return found


def _read(folder: Path, root: Path, descendants: tuple[str, ...]) -> System:
    path = folder / "submission.toml"
    data = read_toml(path)
    faults = Faults(path)
    faults.keys("", data, TOP_KEYS)
    model = faults.table(data, "model")
    faults.keys("[model] ", model, MODEL_KEYS)
    recipe, shape = _recipe(faults, data, model, root, (*descendants, folder.name))
    division = faults.choice(data, "division", DIVISIONS)
    if division == "closed":
        _check_closed(faults, model, recipe)
    serve = read_serve(faults, data, shape)
    points = read_points(faults, data, shape)
    title, licence = faults.text(data, "title"), faults.text(data, "licence")
    authors, declared = (faults.texts(data, key) for key in ("authors", "tasks"))
    declared = tuple(_task(faults, name) for name in declared)
    faults.raise_any()
    begins = str(model.get("pretrained", model.get("checkpoint", "")))
    begins = bundled_weights.spec(model["weights"]) if "weights" in model else begins
    return System(
        folder.name,
        folder,
        title=title,
        licence=licence,
        authors=authors,
        division=division,
        tasks=declared,
        teacher=str(model.get("teacher", "")),
        pretrained=begins,
        recipe=recipe,
        serve=serve,
        shape=shape,
        members=tuple(model.get("members", ())),
        points=points,
    )


def _task(faults: Faults, name: str) -> str:
    """A task's name; where a `task.toml` beside the manifest declares it, the one that it says."""
    if name.endswith(".toml"):
        try:
            return get_task(str(faults.path.parent / name)).name
        except HarnessError as error:
            faults.add(f"task {name!r}: {error}")
    elif name != ANY_TASK and name not in builtin_tasks():
        faults.add(f"task {name!r} does not exist. {nearest(name, builtin_tasks())}")
    return name


def _recipe(
    faults: Faults, data: dict[str, Any], model: dict[str, Any], root: Path, line: tuple[str, ...]
) -> tuple[tuple[StepConfig, ...], dict[str, Any]]:
    """The steps, and what is known of the shape that comes out of them."""
    shape = _start(faults, model, root, line)
    used: list[StepConfig] = []
    declared = data.get("step", [])
    if not isinstance(declared, list) or not all(isinstance(each, dict) for each in declared):
        faults.add("step must be written as [[step]], with two brackets.")
        declared = []
    for number, entry in enumerate(declared, start=1):
        name = entry.get("use", "")
        place = f"step {number} {name!r}: "
        try:
            found = get_step(str(name))
        except BuildError as error:
            faults.add(
                f"step {number}: {error}"
                if name
                else f"step {number}: the key 'use' is missing; it names the step."
            )
            return tuple(used), {"format": None}
        parameters = {key: value for key, value in entry.items() if key != "use"}
        chosen = params(faults, place, found.params, parameters)
        if shape.get("format") is not None and shape["format"] not in found.takes:
            has, wants = (
                shape["format"] or "nothing",
                " or ".join(each or "no model" for each in found.takes),
            )
            faults.add(
                f"{place}it takes {wants}, but gets {has}. Change the order of the steps, or "
                "[model]."
            )
        if chosen is not None:
            for fault in found.validate(chosen, shape):
                faults.add(f"{place}{fault}.")
            used.append(StepConfig(found, chosen))
            shape = {**shape, **found.output_spec(chosen, shape)}
        else:
            shape = {"format": None}
    return tuple(used), shape


def _start(
    faults: Faults, model: dict[str, Any], root: Path, line: tuple[str, ...]
) -> dict[str, Any]:
    if len(model) > 1:
        faults.add(f"[model] has both {' and '.join(model)}; keep one of them.")
    for key, form, shape_of in (
        ("pretrained", "encoder", pretrained.get_encoder_spec),
        ("checkpoint", "checkpoint", pretrained.get_checkpoint_spec),
    ):
        if key in model:
            try:
                known_shape = shape_of(str(model[key]), faults.path.parent)
                return {**known_shape, "format": form, "base": faults.path.parent}
            except HarnessError as error:
                faults.add(f"[model] {key}: {error}")
                return {"format": None}
    if "weights" in model:
        return _weights(faults, model["weights"])
    if "members" in model:
        members = faults.texts(model, "members")
        shapes = [_other(faults, "members", each, root, line) for each in members]
        if len(members) < 2 or len(set(members)) < len(members):
            faults.add("[model] members: name two systems or more, each once, the cheapest first.")
        for name, each in zip(members, shapes, strict=True):
            if each and not each["format"]:
                faults.add(f"[model] members: {name} has no artifact, and so no confidence.")
        return {"format": "members", "name": " > ".join(members)}
    if "teacher" in model:
        teacher = str(model["teacher"])
        if found := _other(faults, "teacher", teacher, root, line):
            learned = {**found, "name": teacher}
            own = {
                key: value for key, value in learned.items() if key not in ("teacher", "finetuned")
            }
            own["base"] = faults.path.parent
            return {**own, "teacher": own}
    else:
        return {"format": ""}
    return {"format": None}


def _weights(faults: Faults, declared: Any) -> dict[str, Any]:
    """The shape of weights that come along; unknown where they are still on the hub."""
    base = faults.path.parent
    found = bundled_weights.faults_of(declared, base)
    for fault in found:
        faults.add(f"[model] weights: {fault}")
    shape: dict[str, Any] = {"format": None if found else "checkpoint", "base": base}
    folder = (
        None if found else bundled_weights.available_locally(bundled_weights.spec(declared), base)
    )
    if folder is None:
        return {**shape, "name": "weights", "becomes": None}
    try:
        return {**pretrained.get_checkpoint_spec(str(folder), base), **shape}
    except HarnessError as error:  # files that only code of one's own knows
        return {**shape, "name": "weights", "unfit": str(error)}


def _other(
    faults: Faults, key: str, name: str, root: Path, line: tuple[str, ...]
) -> dict[str, Any]:
    """The shape of another system; empty, with a fault, where there is none."""
    known = find_systems(root)
    if name in line:
        faults.add(f"[model] {key}: {' -> '.join((*line, name))} is a circle.")
    elif name not in known:
        faults.add(
            f"[model] {key} {name!r} does not exist in {root / 'baselines'}. {nearest(name, known)}"
        )
    else:
        return _read(known[name], root, line).shape
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
