"""The plan of builds and sessions: which systems, on which tasks, built by which steps.

It is made once, where a command or a function of the Python interface begins. Everything below
takes the plan and reads no manifest. As JSON it is handed to other processes.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import PlainSerializer, PlainValidator, TypeAdapter

from harness.engines.registry import find_engine_origin
from harness.errors import BuildError, HarnessError
from harness.models import pretrained
from harness.optimize.base import Artifact, find_step_origin, get_step
from harness.store.cache import artifact_dir, digest
from harness.submissions.system import System
from harness.tasks.registry import find_task_origin, get_task
from harness.tasks.task import Task


def _write_task(task: Task) -> dict[str, str]:
    return {"address": task.address, "version": task.version}


def _read_task(value: Any) -> Task:
    """Find the task of a plan again.

    Raises:
        HarnessError: its data is not what it was when the plan was made.
    """
    if isinstance(value, Task):
        return value
    task = get_task(value["address"])
    if task.version != value["version"]:
        raise HarnessError(
            f"task {value['address']!r} changed from version {value['version']} to {task.version} "
            "since the plan was made. Start again."
        )
    return task


PlannedTask = Annotated[Task, PlainSerializer(_write_task), PlainValidator(_read_task)]


@dataclass(frozen=True)
class PlannedEncoder:
    """Files that a step starts from.

    Attributes:
        name: of a pretrained encoder, a checkpoint or bundled weights.
        base: the folder that a relative name is relative to.
    """

    name: str
    base: Path


@dataclass(frozen=True)
class PlannedMember:
    """A member of a cascade.

    Attributes:
        name: the name of the system.
        key: the key of its artifact.
        engine: the engine that it is served with.
    """

    name: str
    key: str
    engine: str


@dataclass(frozen=True)
class PlannedStep:
    """A step and its inputs: a node of the plan's graph.

    Attributes:
        key: the key of the artifact that the step writes.
        use: the name of the step.
        values: its parameters, as the manifest has them for the task.
        task: the task whose data it uses; another than the system's for intermediate training.
        parent: the key of the artifact that the step takes, or ''.
        encoder: the files that the step takes.
        teacher: the key of the artifact that the step learns from, or ''.
        members: the members, if the step makes a cascade.
    """

    key: str
    use: str
    values: dict[str, Any]
    task: PlannedTask
    parent: str = ""
    encoder: PlannedEncoder | None = None
    teacher: str = ""
    members: tuple[PlannedMember, ...] = ()

    @property
    def is_built(self) -> bool:
        """Whether the cache holds its artifact."""
        return artifact_dir(self.key).is_dir()

    @property
    def inputs(self) -> list[str]:
        """The keys of the artifacts that it begins with."""
        keys = (self.parent, self.teacher, *(member.key for member in self.members))
        return [key for key in keys if key]


@dataclass(frozen=True)
class PlannedSystem:
    """A system on a task with a training seed.

    Attributes:
        system: the system.
        task: the task.
        seed: the training seed.
        steps: the steps of its teacher or members, then its own, in the order to build them.
    """

    system: System
    task: PlannedTask
    seed: int
    steps: tuple[PlannedStep, ...]

    @property
    def key(self) -> str:
        """The key of its artifact; '' if the recipe writes none."""
        return self.steps[-1].key if self.steps else ""

    @property
    def is_built(self) -> bool:
        """Whether there is nothing to build."""
        return not self.steps or self.steps[-1].is_built

    def find_missing(self, is_there: Callable[[PlannedStep], bool]) -> list[PlannedStep]:
        """Return the steps that must run before its artifact is there, in order.

        What led to an artifact that is there is not among them, whether it is kept or not.

        Args:
            is_there: whether the artifact of a step is there.
        """
        steps = {step.key: step for step in self.steps}
        missing: dict[str, PlannedStep] = {}

        def visit(step: PlannedStep) -> None:
            if step.key in missing or is_there(step):
                return
            for key in step.inputs:
                visit(steps[key])
            missing[step.key] = step

        if self.steps:
            visit(self.steps[-1])
        return list(missing.values())

    def find_extensions(self) -> list[str]:
        """Return the packages, with versions, that take part in building and serving it."""
        steps = [find_step_origin(planned.use) for planned in self.steps]
        members = [member.engine for planned in self.steps for member in planned.members]
        engines = [find_engine_origin(name) for name in (*members, self.system.engine)]
        return _list_origins([*steps, find_task_origin(self.task), *engines])

    @property
    def is_trained(self) -> bool:
        """Whether a step of the build trains, so that another seed gives another system."""
        return any(get_step(planned.use).trains for planned in self.steps)

    def check_declared(self) -> None:
        """Check that the system declares the task.

        Raises:
            HarnessError: it does not.
        """
        if not self.system.declares_task(self.task):
            raise HarnessError(
                f"{self.system.name} does not declare {self.task.name}. Choose another task, such "
                f"as --task {self.system.get_task_addresses()[0]}, or add it to `tasks` in "
                f"{self.system.manifest}."
            )

    def find_artifact(self) -> Artifact | None:
        """Return the artifact; None if the recipe writes none.

        Raises:
            BuildError: the system is not built yet.
        """
        if not self.steps:
            return None
        if not self.is_built:
            name = self.system.name.partition("@")[0]
            raise BuildError(
                f"{self.system.name} is not built for {self.task.name}. Run: wattbench build "
                f"--system {name} --task {self.task.address}"
                + (f" --seed {self.seed}" if self.seed else "")
            )
        return Artifact.read(artifact_dir(self.key))


@dataclass(frozen=True)
class Plan:
    """What is built or measured together.

    Attributes:
        systems: every pair of a system and a task that it declares, with operating points and
            further training seeds.
    """

    systems: tuple[PlannedSystem, ...]

    @property
    def steps(self) -> dict[str, PlannedStep]:
        """All steps by key, each after its inputs."""
        return {step.key: step for planned in self.systems for step in planned.steps}

    @property
    def tasks(self) -> list[Task]:
        """The tasks, each once."""
        return list({planned.task.name: planned.task for planned in self.systems}.values())

    @property
    def main_systems(self) -> list[PlannedSystem]:
        """The planned systems without further operating points and seeds."""
        return [
            planned
            for planned in self.systems
            if not planned.system.point and planned.system.seed is None
        ]

    def to_json(self) -> str:
        """Return the plan as JSON; a task is stated by its address and version."""
        return TypeAdapter(Plan).dump_json(self).decode()

    @staticmethod
    def from_json(text: str) -> "Plan":
        """Return the plan that `to_json` wrote.

        Raises:
            HarnessError: a task does not exist here, or has changed.
        """
        return TypeAdapter(Plan).validate_json(text)


def make_plan(
    systems: Sequence[System],
    tasks: Iterable[Task],
    seed: int = 0,
    seeds: int = 1,
    points: Collection[str] | None = None,
) -> Plan:
    """Plan every pair of a system and a task that it declares.

    A system may also be planned at each of its operating points, and a trained one again with each
    further training seed, as `system@seedN`.

    Args:
        systems: the systems.
        tasks: the tasks.
        seed: the first training seed.
        seeds: the number of training seeds.
        points: the names of the systems that are planned at their operating points (default: all).

    Raises:
        HarnessError: an encoder or a data file is missing.
    """
    pairs = [
        plan_system(system, task, seed)
        for task in tasks
        for system in systems
        if system.declares_task(task)
    ]
    main_systems = [
        replace(planned, system=system)
        for planned in pairs
        for system in (
            planned.system.expand_points()
            if points is None or planned.system.name in points
            else [planned.system]
        )
    ]
    further = [
        plan_system(
            replace(planned.system, name=f"{planned.system.name}@seed{number}", seed=number),
            planned.task,
            number,
        )
        for number in range(seed + 1, seed + seeds)
        for planned in pairs
        if planned.is_trained
    ]
    return Plan((*main_systems, *further))


def plan_system(
    system: System, task: Task, seed: int, flags: Collection[str] | None = None
) -> PlannedSystem:
    """Plan one system on a task, whether it declares the task or not.

    Args:
        system: the system.
        task: the task; its models are trained on its training task.
        seed: the training seed.
        flags: the instruction set of the machine that builds (default: this machine's).

    Raises:
        HarnessError: an encoder or a data file is missing.
    """
    steps = tuple(_plan_steps(system, task.training_task, seed, flags))
    return PlannedSystem(system, task, seed, steps)


def _plan_steps(
    system: System,
    task: Task,
    seed: int,
    flags: Collection[str] | None,
    count: int | None = None,
) -> list[PlannedStep]:
    """Return the steps of a system's teacher or members, then its own, in order.

    A step with an intermediate task is preceded by the recipe up to this step on that task, and
    takes its artifact.

    A key hashes the step's name, version and parameters, the keys of its inputs (the teacher and
    the transfer text among them), the task with its version, the seed, the target instruction set,
    and the extensions that take part.

    Args:
        system: the system.
        task: the task; its models are trained on its training task.
        seed: the training seed.
        flags: the instruction set of the machine that builds; None for this machine's.
        count: how many steps of the recipe are planned; None for all.
    """
    steps = _plan_steps(system.teacher, task, seed, flags) if system.teacher else []
    parent = teacher = steps[-1].key if steps else ""
    members: list[PlannedMember] = []
    for member in system.members:
        steps += _plan_steps(member, task, seed, flags)
        members.append(PlannedMember(member.name, steps[-1].key, member.serve["offline"].engine))
    encoder = system.encoder
    for number, declared in enumerate(system.recipe[:count], start=1):
        step_config = declared.for_task(task.name)
        step, params = step_config.step, step_config.params
        encoder = getattr(params, "student", "") or encoder
        if intermediate := getattr(params, "intermediate", ""):
            steps += _plan_steps(system, get_task(intermediate), seed, flags, number)
            parent, encoder = steps[-1].key, ""
        step_teacher = teacher if step.needs_teacher else ""
        transfer = task.transfer if getattr(params, "transfer", False) else None
        inputs: dict[str, Any] = {
            "artifact": parent,
            "encoder": pretrained.compute_key(encoder, system.folder) if encoder else "",
            "teacher": step_teacher,
            "transfer": transfer.key if transfer else "",
        }
        if members:
            inputs["members"] = [[member.key, member.engine] for member in members]
        content = {
            "step": [step.name, step.version, params.key_values()],
            "inputs": inputs,
            "task": [task.name, task.version],
            "seed": seed,
            "target": step.target(flags),
        }
        engines = [find_engine_origin(member.engine) for member in members]
        origins = [find_step_origin(step.name), find_task_origin(task), *engines]
        if extensions := _list_origins(origins):
            content["extensions"] = extensions
        steps.append(
            PlannedStep(
                digest(content),
                step.name,
                step_config.values,
                task,
                parent,
                PlannedEncoder(encoder, system.folder) if encoder else None,
                step_teacher,
                tuple(members),
            )
        )
        parent, encoder, members = steps[-1].key, "", []
    return steps


def _list_origins(origins: Iterable[str]) -> list[str]:
    """Return each package once, without wattbench itself."""
    return sorted(set(filter(None, origins)))
