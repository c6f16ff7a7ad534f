"""Manifests: what a system declares in `submission.toml`, read and checked before it is built."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from harness.errors import BuildError, HarnessError, ManifestError, suggest_name
from harness.models import pretrained
from harness.models.model_spec import UNKNOWN, ModelSpec
from harness.optimize.base import StepParams, get_step
from harness.results.record_parts import Division
from harness.schema import Faults, Schema, Text, Texts, read_toml
from harness.store import bundled_weights
from harness.store.cache import expand_home
from harness.submissions.project import describe_places, get_system_folders
from harness.submissions.serve import read_points, read_serve
from harness.submissions.system import (
    ANY_TASK,
    DeclaredTask,
    EncoderSource,
    MembersSource,
    ModelSource,
    StepConfig,
    System,
    TeacherSource,
)
from harness.tasks.registry import all_tasks, get_task

TABLES = ("model", "step", "serve")


class Head(Schema):
    """The keys at the top of a manifest."""

    title: Text = Field(description="what the system is, in one line")
    authors: Texts = Field(description="the names of its authors")
    licence: Text = Field(description="licence of the folder, as an SPDX identifier")
    division: Division = Field(
        description="`closed`: the reference's own weights, only executed differently; `open`: any "
        "system that answers from the text; `baseline`: provided for comparison"
    )
    tasks: Texts = Field(
        description="the tasks that it is built for: names, paths of `task.toml` files relative to "
        "the manifest, or `any`"
    )
    device: Literal["any", "gpu"] = Field(
        "any", description="`gpu` if it can only be measured under a GPU configuration"
    )


class ModelTable(Schema):
    """The table `[model]`; at most one of its keys is set."""

    teacher: Text = Field(
        "",
        description="the system whose artifact is taken: its name, or the path of its folder "
        "relative to the manifest, with a slash",
    )
    pretrained: Text = Field(
        "", description="a pretrained encoder: its name, a folder, or a name on the hub"
    )
    checkpoint: Text = Field(
        "", description="a fine-tuned model, in a folder as saved by transformers or on the hub"
    )
    weights: Any = Field(
        None,
        description="trained weights: `{file, sha256}` in the submission's folder, or "
        "`{hub, revision}` with the commit, 40 hexadecimal digits",
    )
    members: Texts = Field(
        (),
        description="the systems of a cascade, the cheapest first; at least two, each given like "
        "`teacher`",
    )


def read_system(folder: Path, root: Path | None = None) -> System:
    """Read and check the manifest of a system, and those of its teacher and members.

    Args:
        folder: the folder of `submission.toml`.
        root: the project, where teachers and members are looked up (default: two levels above
            `folder`).

    Raises:
        ManifestError: every fault that can be found without building, one per line.
    """
    return _read(folder, root or folder.resolve().parent.parent, ())


def find_systems(root: Path) -> dict[str, Path]:
    """Return the folders of all systems by name: baselines first, then submissions.

    Args:
        root: the project.

    Raises:
        ManifestError: two systems have the same name.
    """
    folders: dict[str, Path] = {}
    for parent in get_system_folders(root):
        for manifest in sorted(parent.glob("*/submission.toml")):
            name = manifest.parent.name
            if name in folders:
                raise ManifestError(
                    f"{manifest}: {folders[name]} has the same name. Rename {manifest.parent}."
                )
            folders[name] = manifest.parent
    return folders


def _read(folder: Path, root: Path, dependents: tuple[Path, ...]) -> System:
    """Read a manifest.

    Args:
        folder: its folder.
        root: the project.
        dependents: the folders of the systems that led to it, as teacher or member.
    """
    path = folder / "submission.toml"
    data, faults = read_toml(path), Faults(path)
    if "@" in folder.resolve().name:
        faults.add("rename the folder: in tables an '@' separates a system from its point or seed.")
    keys = {key: value for key, value in data.items() if key not in TABLES}
    head = faults.check(Head, keys, also=TABLES)
    model = faults.get_table(data, "model")
    source, spec = _read_model(faults, model, root, (*dependents, folder.resolve()))
    recipe, spec = _read_recipe(faults, data, spec)
    if keys.get("division") == "closed":
        _check_closed(faults, model, recipe)
    serve = read_serve(faults, data, spec)
    points = read_points(faults, data, spec)
    tasks = tuple(_read_task(faults, task) for task in head.tasks) if head else ()
    uses_graphs = any(config.cuda_graphs for config in serve.values())
    if uses_graphs and keys.get("device", "any") == "any":
        faults.add("[serve] cuda_graphs needs device = 'gpu' at the top of the manifest.")
    faults.raise_any()
    assert head is not None
    return System(
        folder.name,
        folder,
        title=head.title,
        licence=head.licence,
        authors=head.authors,
        division=head.division,
        tasks=tasks,
        source=source,
        recipe=recipe,
        serve=serve,
        spec=spec,
        points=points,
        device=head.device,
    )


def _read_task(faults: Faults, task: str) -> DeclaredTask:
    """Return a task that is given by name, or as a `task.toml` beside the manifest."""
    if task.endswith(".toml"):
        address = str((faults.path.parent / expand_home(task)).resolve())
        try:
            return DeclaredTask(get_task(address).name, address)
        except HarnessError as error:
            faults.add(f"task {task!r}: {error}")
    elif task != ANY_TASK and task not in all_tasks():
        faults.add(f"task {task!r} does not exist. {suggest_name(task, all_tasks())}")
    return DeclaredTask(task, task)


def _read_recipe(
    faults: Faults, data: dict[str, Any], spec: ModelSpec
) -> tuple[tuple[StepConfig, ...], ModelSpec]:
    """Return the steps, and the specification of the artifact that they write.

    Args:
        faults: where faults are noted.
        data: the manifest.
        spec: of what the first step gets.
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
        values = {key: value for key, value in table.items() if key not in ("use", "tasks")}
        params = faults.check(step.params, values, prefix)
        if spec.format is not None and spec.format not in step.takes:
            takes = " or ".join(artifact_format or "no model" for artifact_format in step.takes)
            faults.add(
                f"{prefix}it takes {takes}, but gets {spec.format or 'nothing'}. Change the "
                "order of the steps, or [model]."
            )
        if params is None:
            spec = UNKNOWN
            continue
        for fault in step.validate(params, spec):
            faults.add(f"{prefix}{fault}.")
        by_task = faults.get_table(table, "tasks", "step.")
        by_task = {task: faults.get_table(by_task, task, "step.tasks.") for task in by_task}
        step_config = StepConfig(step.name, values, by_task)
        _check_task_values(faults, step_config, params, spec, prefix)
        recipe.append(step_config)
        spec = step.output_spec(params, spec)
    return tuple(recipe), spec


def _check_task_values(
    faults: Faults, step_config: StepConfig, params: StepParams, spec: ModelSpec, prefix: str
) -> None:
    """Check the values of a step that are for one task, and that intermediate tasks end.

    Args:
        faults: where faults are noted.
        step_config: the step.
        params: its parameters for all other tasks.
        spec: of what the step gets.
        prefix: what to put before a fault.
    """
    step, known = step_config.step, all_tasks()
    for name, values in step_config.tasks.items():
        where = f"{prefix}[step.tasks.{name}] "
        if name not in known:
            faults.add(f"{where}is not a task. {suggest_name(name, known)}")
            continue
        own = faults.check(step.params, {**step_config.values, **values}, where)
        if own is None:
            continue
        for fault in step.validate(own, spec):
            faults.add(f"{where}{fault}.")
        if step.output_spec(own, spec) != step.output_spec(params, spec):
            faults.add(
                f"{where}changes the architecture of the model, which must be the same on all "
                "tasks. Write a manifest of its own."
            )
    for start in (*known, "any other task") if not faults.lines else ():
        path = [start]
        while following := step_config.for_task(path[-1]).values.get("intermediate"):
            if following in path:
                chain = " -> ".join([*path, following])
                faults.add(f"{prefix}intermediate: {chain} is a cycle.")
                return
            path.append(following)


def _read_model(
    faults: Faults, table: dict[str, Any], root: Path, dependents: tuple[Path, ...]
) -> tuple[ModelSource | None, ModelSpec]:
    """Return what the recipe starts from, and its specification."""
    if len(table) > 1:
        faults.add(f"[model] has both {' and '.join(table)}; keep one of them.")
    model = faults.check(ModelTable, table, "[model] ")
    if model is None:
        return None, UNKNOWN
    base = faults.path.parent
    if model.pretrained or model.checkpoint:
        kind: Literal["pretrained", "checkpoint"] = (
            "pretrained" if model.pretrained else "checkpoint"
        )
        name = model.pretrained or model.checkpoint
        get_spec = (
            pretrained.get_encoder_spec if model.pretrained else pretrained.get_checkpoint_spec
        )
        try:
            return EncoderSource(name, kind), get_spec(name, base)
        except HarnessError as error:
            faults.add(f"[model] {kind}: {error}")
            return None, UNKNOWN
    if model.weights is not None:
        return _read_weights(faults, model.weights)
    if model.members:
        return _read_members(faults, model.members, root, dependents)
    if not model.teacher:
        return None, ModelSpec()
    teacher = _read_other(faults, "teacher", model.teacher, root, dependents)
    if teacher is None:
        return None, UNKNOWN
    spec = _start_from(teacher.spec, name=teacher.name, base=base)
    return TeacherSource(teacher), _start_from(spec, teacher=spec)


def _start_from(spec: ModelSpec, **changes: Any) -> ModelSpec:
    """Return the specification of a model that a recipe starts from."""
    return replace(spec, **({"teacher": None, "finetuned": False} | changes))


def _read_members(
    faults: Faults, names: Sequence[str], root: Path, dependents: tuple[Path, ...]
) -> tuple[ModelSource | None, ModelSpec]:
    members = [_read_other(faults, "members", name, root, dependents) for name in names]
    if len(names) < 2 or len(set(names)) < len(names):
        faults.add("[model] members: name at least two different systems, the cheapest first.")
    for member in members:
        if member is not None and not member.spec.format:
            faults.add(
                f"[model] members: {member.name} has no artifact, and so no confidence. Name "
                "another system."
            )
    known = tuple(member for member in members if member is not None)
    return MembersSource(known), ModelSpec("members", " > ".join(names))


def _read_weights(faults: Faults, declaration: Any) -> tuple[ModelSource | None, ModelSpec]:
    """Return bundled weights; most of their specification is unknown before a download."""
    base = faults.path.parent
    weights_faults = bundled_weights.find_faults(declaration, base)
    for fault in weights_faults:
        faults.add(f"[model] weights: {fault}")
    if weights_faults:
        return None, UNKNOWN
    source = EncoderSource(bundled_weights.to_spec(declaration), "weights")
    spec = ModelSpec("checkpoint", "weights", base=base)
    folder = bundled_weights.find_local(source.name, base)
    if folder is None:
        return source, _start_from(spec, becomes=None)
    try:
        return source, _start_from(pretrained.get_checkpoint_spec(str(folder), base), base=base)
    except HarnessError as error:  # not a checkpoint, but custom code may be able to read it
        return source, _start_from(spec, unfit=str(error))


def _read_other(
    faults: Faults, key: str, name: str, root: Path, dependents: tuple[Path, ...]
) -> System | None:
    """Return another system; if there is none, note a fault and return None.

    Args:
        faults: where faults are noted.
        key: of the manifest, `teacher` or `members`.
        name: the name of the system, or the path of its folder.
        root: the project.
        dependents: the folders of the systems that led to it.
    """
    base = faults.path.parent
    systems = {name: base / expand_home(name)} if "/" in name else find_systems(root)
    folder = systems.get(name)
    if folder is None:
        faults.add(
            f"[model] {key} {name!r} does not exist in {describe_places(root)}. "
            f"{suggest_name(name, systems)}"
        )
    elif folder.resolve() in dependents:
        cycle = " -> ".join([*(dependent.name for dependent in dependents), folder.resolve().name])
        faults.add(f"[model] {key}: {cycle} is a cycle. Name a system that does not depend on it.")
    elif not (folder / "submission.toml").is_file():
        faults.add(f"[model] {key} {name!r}: there is no submission.toml in {folder.resolve()}.")
    else:
        return _read(folder, root, dependents)
    return None


def _check_closed(faults: Faults, model: dict[str, Any], recipe: Sequence[StepConfig]) -> None:
    if "teacher" not in model:
        faults.add(
            'division = "closed" needs [model] teacher, the reference whose weights it executes.'
        )
    for step_config in recipe:
        if step_config.step.trains:
            faults.add(
                'division = "closed" allows no step that trains, but '
                f'{step_config.use!r} does. Use division = "open".'
            )
