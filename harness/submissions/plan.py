"""The plan of a system's build: its steps in order, each with the key of the artifact it leaves."""

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
class PlannedStep:
    """One step to run: its key, and what it starts from (an artifact's key, or an encoder).

    teacher: key of the artifact that it learns from, or ''.
    members: of a cascade: name, key and engine of each.
    """

    key: str
    step_config: StepConfig
    parent: str
    encoder: str
    base: Path
    teacher: str
    members: tuple[tuple[str, str, str], ...] = ()


def plan_build(system: System, task: Task, seed: int, root: Path) -> list[PlannedStep]:
    """All steps of a system and of its teacher, in order, with the keys of their artifacts.

    The key hashes the step's name, version and parameters, the keys of its inputs (also the
    teacher's and the transfer text's), the task and its version, the seed, and the target
    instruction set.
    """
    task = task.training_task
    steps: list[PlannedStep] = []
    if system.teacher:
        steps = plan_build(read_system(find_systems(root)[system.teacher], root), task, seed, root)
    parent = teacher = steps[-1].key if steps else ""
    members = []
    for name in system.members:
        member = read_system(find_systems(root)[name], root)
        steps += plan_build(member, task, seed, root)
        members.append((name, steps[-1].key, member.serve["offline"].engine))
    encoder = system.pretrained
    for step_config in system.recipe:
        encoder = getattr(step_config.params, "student", "") or encoder
        learns_from = teacher if step_config.step.needs_teacher else ""
        transfer = task.transfer if getattr(step_config.params, "transfer", False) else None
        inputs: dict[str, Any] = {
            "artifact": parent,
            "encoder": pretrained.compute_key(encoder, system.folder) if encoder else "",
            "teacher": learns_from,
            "transfer": transfer.key if transfer else "",
        }
        if members:
            inputs["members"] = [each[1:] for each in members]
        key = digest(
            {
                "step": [
                    step_config.step.name,
                    step_config.step.version,
                    asdict(step_config.params),
                ],
                "inputs": inputs,
                "task": [task.name, task.version],
                "seed": seed,
                "target": step_config.step.target(),
            }
        )
        base = system.folder
        steps.append(
            PlannedStep(key, step_config, parent, encoder, base, learns_from, tuple(members))
        )
        parent, encoder, members = key, "", []
    return steps


def is_trained(system: System, task: Task, root: Path) -> bool:
    """Whether something of it is trained, so that another seed gives another system."""
    return any(each.step_config.step.trains for each in plan_build(system, task, 0, root))


def find_artifact(system: System, task: Task, seed: int, root: Path) -> Artifact | None:
    """The system's artifact; None where its recipe leaves none.

    Raises: BuildError if it is not built yet.
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
