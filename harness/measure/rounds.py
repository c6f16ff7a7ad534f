"""One round: a fresh worker plays the scenarios of one system on one task."""

import time
from dataclasses import asdict, dataclass, field

from harness.configuration import Configuration
from harness.energy import Meter
from harness.errors import HarnessError, WorkerError
from harness.manifest import System
from harness.measure import scenarios
from harness.measure.protocol import Worker
from harness.measure.scenarios import Questions, Window
from harness.optimize.step import Artifact
from harness.record import Record, Round
from harness.tasks.task import Example, Task

WARM_UP_QUERIES = 16
WARM_UP_TOGETHER = 32
QUANTIZED_AGREEMENT = 0.99
EXACT_AGREEMENT = 0.999
"""fp32 answers agree up to ties: at most one in a thousand may fall the other way."""


@dataclass
class Row:
    """A system on a task: what is asked, and what was seen so far."""

    system: System
    task: Task
    artifact: Artifact | None
    records: dict[str, Record]
    answers: list[int] = field(default_factory=list)
    rate: float = 0.0
    queries: list[list[int]] = field(default_factory=list)
    latencies: list[list[int]] = field(default_factory=list)
    failed: bool = False

    @property
    def agreement_needed(self) -> float:
        """The share of a sample's answers that must equal those of the accuracy pass."""
        dtype = self.artifact.about.get("dtype", "fp32") if self.artifact else "fp32"
        return EXACT_AGREEMENT if dtype == "fp32" else QUANTIZED_AGREEMENT


@dataclass
class Material:
    """A task's questions: the reported split with its labels, and training text to warm up on."""

    examples: tuple[Example, ...]
    questions: Questions
    training: Questions

    @staticmethod
    def of(task: Task) -> "Material":
        """Load both splits."""
        examples, training = task.examples("validation"), task.examples("train")[:64]
        labels = len(task.labels)
        return Material(examples, Questions.of(examples, labels), Questions.of(training, labels))


def play_round(
    row: Row, block: int, material: Material, configuration: Configuration, meter: Meter
) -> None:
    """One fresh worker plays both scenarios; a fault ends this row and no other."""
    if row.failed:
        return
    try:
        started = time.perf_counter()
        with Worker(configuration.cores) as worker:
            _load(worker, row, "single_stream", configuration)
            loading = time.perf_counter() - started
            _play(worker, row, block, loading, material, configuration, meter)
    except HarnessError as error:
        row.failed = True
        stderr = "\n".join(getattr(error, "__notes__", []))
        for each in row.records.values():
            each.failure = {"reason": str(error), "stderr": stderr}


def _play(
    worker: Worker,
    row: Row,
    block: int,
    loading: float,
    material: Material,
    configuration: Configuration,
    meter: Meter,
) -> None:
    order = material.questions.order(seed=block)
    scenarios.warm_up(worker, material.training, WARM_UP_QUERIES, 0)
    single = scenarios.single_stream(worker, material.questions, order, meter)
    single_memory = _memory(worker, configuration)
    if row.system.serve["offline"] != row.system.serve["single_stream"]:
        loading = _load(worker, row, "offline", configuration)
        scenarios.warm_up(worker, material.training, 0, WARM_UP_TOGETHER)
    patience = 60 + 5 * len(order) * single.seconds / len(single.rows)
    everything, compare = None, bool(row.answers)
    if not row.answers:
        whole = list(range(len(order)))
        everything = scenarios.offline(worker, material.questions, whole, meter, patience)
        row.answers, row.rate = everything.answers, len(whole) / everything.seconds
    if everything is None or everything.seconds < scenarios.WINDOW_SECONDS:
        rows = scenarios.offline_rows(order, row.rate)
        everything = scenarios.offline(worker, material.questions, rows, meter, patience)
        compare = True
    row.rate = len(everything.rows) / everything.seconds
    memory = _memory(worker, configuration)
    _keep(row, "single_stream", block, loading, single, single_memory, compare=True)
    _keep(row, "offline", block, loading, everything, memory, compare)
    row.queries.append(single.rows)
    row.latencies.append([round(latency * 1e6) for latency in single.latencies])


def _memory(worker: Worker, configuration: Configuration) -> float:
    used = worker.peak_memory_mb()
    if used > configuration.memory_gb * 2**30 / 1e6:
        allowed = f"{configuration.name} allows {configuration.memory_gb:g} GiB"
        raise WorkerError(f"it used {used:.0f} MB, but {allowed}")
    return used


def _load(worker: Worker, row: Row, scenario: str, configuration: Configuration) -> float:
    about = {"labels": len(row.task.labels), "max_length": row.task.max_length}
    if row.artifact:
        about |= {
            key: row.artifact.about[key]
            for key in ("answer", "dtype", "model")
            if key in row.artifact.about
        }
    folder = str(row.artifact.folder) if row.artifact else ""
    return worker.load(
        {
            "artifact": folder,
            "about": about,
            "serve": asdict(row.system.serve[scenario]),
            "threads": configuration.cores,
            "device": "cuda" if configuration.device == "gpu" else "cpu",
        }
    )


def _keep(
    row: Row,
    scenario: str,
    block: int,
    loading: float,
    window: Window,
    memory: float,
    compare: bool,
) -> None:
    agreement = None
    if compare:
        agreement = sum(
            answer == row.answers[asked]
            for asked, answer in zip(window.rows, window.answers, strict=True)
        ) / len(window.rows)
        if agreement < row.agreement_needed:
            raise WorkerError(
                f"{agreement:.2%} of its answers in {scenario} (block {block}) equal those of the "
                "accuracy pass; "
                f"at least {row.agreement_needed:.1%} must"
            )
    assert window.energy is not None
    row.records[scenario].rounds.append(
        Round(
            block=block,
            load_seconds=round(loading, 4),
            seconds=window.seconds,
            examples=len(window.rows),
            repeats=round(len(window.rows) / len(row.answers), 3),
            cpu_seconds=round(window.cpu_seconds, 4),
            driver_cpu_seconds=round(window.driver_cpu_seconds, 4),
            energy=window.energy.record(),
            memory_mb=round(memory, 1),
            agreement=agreement,
        )
    )
