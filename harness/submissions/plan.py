"""The plan of a system's build: its steps in order, each with the key of the artifact it writes."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.errors import BuildError
from harness.models import pretrained
from harness.optimize.base import Artifact
from harness.store.cache import artifact_dir, digest
from harness.submissions.manifest import StepConfig, System, find_systems, read_system
from harness.tasks.task import Task


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
    """A step and its inputs.

    Attributes:
        key: the key of the artifact that the step writes.
        step_config: the step and its parameters.
        parent: the key of the artifact that the step takes, or ''.
        encoder: the encoder, checkpoint or bundled weights that the step takes, or ''.
        base: the folder that a relative path of the encoder is relative to.
        teacher: the key of the artifact that the step learns from, or ''.
        members: the members, if the step makes a cascade.
    """

    key: str
    step_config: StepConfig
    parent: str
    encoder: str
    base: Path
    teacher: str
    members: tuple[PlannedMember, ...] = ()


def plan_build(system: System, task: Task, seed: int, root: Path) -> list[PlannedStep]:
    """Return the steps of a system's teacher or members, then its own, in order.

    A key hashes the step's name, version and parameters, the keys of its inputs (the teacher and
    the transfer text among them), the task with its version, the seed, and the target instruction
    set.

    Args:
        system: the system.
        task: the task; the plan is for the task that its models are trained on.
        seed: the training seed.
        root: the folder that holds baselines/ and submissions/.

    Raises:
        HarnessError: a teacher, member, encoder or data file is missing.
    """
    task = task.training_task
    systems = find_systems(root) if system.teacher or system.members else {}
    steps: list[PlannedStep] = []
    if system.teacher:
        steps = plan_build(read_system(systems[system.teacher], root), task, seed, root)
    parent = teacher = steps[-1].key if steps else ""
    members: list[PlannedMember] = []
    for name in system.members:
        member = read_system(systems[name], root)
        steps += plan_build(member, task, seed, root)
        members.append(PlannedMember(name, steps[-1].key, member.serve["offline"].engine))
    encoder = system.pretrained
    for step_config in system.recipe:
        step, params = step_config.step, step_config.params
        encoder = getattr(params, "student", "") or encoder
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
        key = digest(
            {
                "step": [step.name, step.version, asdict(params)],
                "inputs": inputs,
                "task": [task.name, task.version],
                "seed": seed,
                "target": step.target(),
            }
        )
        steps.append(
            PlannedStep(
                key, step_config, parent, encoder, system.folder, step_teacher, tuple(members)
            )
        )
        parent, encoder, members = key, "", []
    return steps


def is_trained(system: System, task: Task, root: Path) -> bool:
    """Return whether a step of the build trains, so that another seed gives another system."""
    steps = plan_build(system, task, 0, root)
    return any(planned.step_config.step.trains for planned in steps)


def find_artifact(system: System, task: Task, seed: int, root: Path) -> Artifact | None:
    """Return the artifact of a system; None if its recipe writes none.

    Args:
        system: the system.
        task: the task.
        seed: the training seed.
        root: the folder that holds baselines/ and submissions/.

    Raises:
        BuildError: the system is not built yet.
    """
    steps = plan_build(system, task, seed, root)
    if not steps:
        return None
    folder = artifact_dir(steps[-1].key)
    if not folder.is_dir():
        name = system.name.partition("@")[0]
        raise BuildError(
            f"{system.name} is not built for {task.name}. Run: wattbench build --system "
            f"{name} --task {task.address}" + (f" --seed {seed}" if seed else "")
        )
    return Artifact.read(folder)
