"""What a session measures and with what: a system on a task, the data, the machine."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from harness.errors import HarnessError
from harness.loadgen.scenarios import QuerySamples
from harness.optimize.base import Artifact
from harness.results.record import Record, Timing
from harness.submissions.system import System
from harness.tasks.task import Example, Task
from harness.telemetry.configuration import Configuration
from harness.telemetry.energy import EnergyMeter

WARM_UP_EXAMPLES = 64
QUANTIZED_AGREEMENT = 0.99
EXACT_AGREEMENT = 0.999
"""fp32 answers agree up to ties: at most one in a thousand may differ."""


@dataclass
class SystemRun:
    """A system on a task, and what a session has measured of it so far.

    Attributes:
        system: the system.
        task: the task.
        artifact: what its recipe built; None if it has none.
        records: by scenario.
        answers: of the accuracy pass (`runner.accuracy`), to all examples of the reported split.
        rate: examples per second of the last offline window; 0 if unknown.
        sustained: what `server` found, as in the record.
        queries: by scenario and window, the example of each query.
        latencies: by scenario and window, the µs of each query.
        failed: whether the system is out for the rest of the session.
        gpu_mb_before: memory of the GPU that was in use before the worker of this round started.
    """

    system: System
    task: Task
    artifact: Artifact | None
    records: dict[str, Record]
    answers: list[int] = field(default_factory=list)
    rate: float = 0.0
    sustained: dict[str, Any] | None = None
    queries: dict[str, list[list[int]]] = field(default_factory=dict)
    latencies: dict[str, list[list[int]]] = field(default_factory=dict)
    failed: bool = False
    gpu_mb_before: float = 0.0

    @property
    def required_agreement(self) -> float:
        """The share of the answers that must equal those of the accuracy pass."""
        dtype = self.artifact.metadata.dtype if self.artifact else "fp32"
        return EXACT_AGREEMENT if dtype == "fp32" else QUANTIZED_AGREEMENT

    def fail(self, error: HarnessError, where: str = "") -> None:
        """Take the system out of the rest of the session, and state why in its records."""
        self.failed = True
        stderr = "\n".join(getattr(error, "__notes__", []))
        for record in self.records.values():
            record.failure = {"reason": f"{error}{where}", "stderr": stderr}


@dataclass
class EvalData:
    """The split that a task is evaluated on, and training text to warm up on.

    Attributes:
        examples: of the split, with their labels.
        samples: the same as they are sent, without labels.
        training: samples of the training split.
    """

    examples: Sequence[Example]
    samples: QuerySamples
    training: QuerySamples

    @staticmethod
    def load(task: Task, split: str = "validation") -> "EvalData":
        """Load a split of a task, and the beginning of its training split."""
        examples, training = task.examples(split), task.examples("train")[:WARM_UP_EXAMPLES]
        labels = len(task.labels)
        return EvalData(
            examples,
            QuerySamples.from_examples(examples, labels),
            QuerySamples.from_examples(training, labels),
        )

    @cached_property
    def truths(self) -> list[Any]:
        """What the answer to each example is compared with."""
        return [example.truth for example in self.examples]

    @cached_property
    def groups(self) -> list[int]:
        """The group of each example."""
        return [example.group for example in self.examples]


@dataclass(frozen=True)
class RunContext:
    """With what a round is played.

    Attributes:
        data: the split.
        configuration: the hardware setting.
        meter: measures energy.
        queries_per_rate: how many queries `server` sends at each rate in a round.
        isolation: one of `sandbox.KINDS`.
        timing: lengths of windows, and timeouts.
    """

    data: EvalData
    configuration: Configuration
    meter: EnergyMeter
    queries_per_rate: int = 0
    isolation: str = "process"
    timing: Timing = Timing()
