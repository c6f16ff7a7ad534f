"""What a search is to find, and what it found."""

from dataclasses import dataclass
from pathlib import Path

from harness.search.found import FoundSystems, Limits
from harness.search.space import Space
from harness.submissions.system import System
from harness.tasks.task import Task
from harness.telemetry.configuration import Configuration


@dataclass(frozen=True)
class SearchRequest:
    """What a search is to find.

    Attributes:
        task: the task.
        teacher: the system that students learn from; in PyTorch, not padded.
        teacher_name: what manifests in the workspace call it.
        space: what may be chosen.
        limits: what the chosen system must satisfy.
        budget: seconds; a build that has begun is finished.
        configuration: the hardware setting.
        isolation: one of `sandbox.KINDS`.
        workspace: a folder for the manifests and the state.
        seed: the training seed, and that of the sampler.
    """

    task: Task
    teacher: System
    teacher_name: str
    space: Space
    limits: Limits
    budget: float
    configuration: Configuration
    isolation: str
    workspace: Path
    seed: int = 0

    @property
    def teacher_title(self) -> str:
        """The name of the teacher for people: that of the user's model, or of the system."""
        is_model = "/" in self.teacher_name
        return Path(self.teacher.encoder).name if is_model else self.teacher.name

    def get_folder(self, name: str) -> Path:
        """Return the folder of a system in the workspace; a submission may have its name, too."""
        return self.workspace / "systems" / name


@dataclass(frozen=True)
class Outcome:
    """What a search found.

    Attributes:
        found: all systems that were built.
        chosen: the name of the chosen one.
        p99_ms: the 99th percentile of its latencies in ms, if there is a limit.
        teacher_p50_ms: the median latency of the teacher in ms.
        teacher_rate: examples per second of the teacher in `offline`.
        not_tried: what was not tried and why, as sentences.
    """

    found: FoundSystems
    chosen: str
    p99_ms: float | None
    teacher_p50_ms: float
    teacher_rate: float
    not_tried: tuple[str, ...]
