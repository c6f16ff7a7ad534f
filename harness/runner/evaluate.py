"""One round: a fresh worker plays the scenarios of one system on one task."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from harness.errors import HarnessError, WorkerError
from harness.loadgen import scenarios, server
from harness.loadgen.scenarios import QuerySamples, Window
from harness.optimize.base import Artifact
from harness.results.record import Record, Round, Timing
from harness.submissions.manifest import System
from harness.tasks.task import Example, Task
from harness.telemetry.configuration import Configuration
from harness.telemetry.energy import Meter
from harness.worker.driver import BUILT_IN, Worker
from harness.worker.sandbox import SandboxSpec

WARM_UP_QUERIES = 16
WARM_UP_TOGETHER = 32
OFFLINE_TRIES = 5
"""A rate that is taken from a millisecond is still wrong; each window tells it better."""
QUANTIZED_AGREEMENT = 0.99
EXACT_AGREEMENT = 0.999
"""fp32 answers agree up to ties: at most one in a thousand may fall the other way."""


@dataclass
class SystemRun:
    """A system on a task: what is asked, and what was seen so far.

    rate: examples a second of the last offline window. sustained: what `server` found, as in the
    record. queries, latencies: the example that each
    query asked, and its microseconds, by scenario and window.
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

    @property
    def agreement_needed(self) -> float:
        """The share of a sample's answers that must equal those of the accuracy pass."""
        dtype = self.artifact.about.get("dtype", "fp32") if self.artifact else "fp32"
        return EXACT_AGREEMENT if dtype == "fp32" else QUANTIZED_AGREEMENT


@dataclass
class EvalData:
    """A task's questions: the reported split with its labels, and training text to warm up on."""

    examples: Sequence[Example]
    questions: QuerySamples
    training: QuerySamples

    @staticmethod
    def of(task: Task, split: str = "validation") -> "EvalData":
        """Load both splits."""
        examples, training = task.examples(split), task.examples("train")[:64]
        labels = len(task.labels)
        return EvalData(
            examples, QuerySamples.of(examples, labels), QuerySamples.of(training, labels)
        )

    @cached_property
    def truths(self) -> list[Any]:
        """What each example's answer is compared with."""
        return [each.truth for each in self.examples]

    @cached_property
    def groups(self) -> list[int]:
        """Of each example."""
        return [each.group for each in self.examples]


@dataclass(frozen=True)
class RunContext:
    """What a round is played with. queries: how many each rate gets in `server`. isolation: one of
    `sandbox.KINDS`.
    """

    material: EvalData
    configuration: Configuration
    meter: Meter
    queries: int = 0
    isolation: str = "process"
    timing: Timing = Timing()


def run_round(row: SystemRun, block: int, setting: RunContext) -> None:
    """One fresh worker plays all scenarios of the row; a fault ends this row and no other."""
    if row.failed:
        return
    try:
        with start_worker(row, setting) as worker:
            _play(worker, row, block, setting)
    except HarnessError as error:
        row.failed = True
        stderr = "\n".join(getattr(error, "__notes__", []))
        for each in row.records.values():
            each.failure = {"reason": str(error), "stderr": stderr}


def has_custom_code(system: System) -> bool:
    """Whether the submission's folder holds the code that serves it."""
    return bool(system.serve["offline"].module or system.serve["offline"].command)


def start_worker(row: SystemRun, setting: RunContext) -> Worker:
    """A fresh worker, with what the row's system needs in sight and nothing else."""
    serve, folder = row.system.serve["offline"], row.system.folder.resolve()
    own = has_custom_code(row.system)
    spec = SandboxSpec(
        setting.isolation,
        (*((row.artifact.folder,) if row.artifact else ()), *((folder,) if own else ())),
        folder if own else None,
        setting.configuration.memory_gb,
        setting.configuration.device == "gpu",
    )
    return Worker(setting.configuration.cores, serve.command or BUILT_IN, spec)


def _play(worker: Worker, row: SystemRun, block: int, setting: RunContext) -> None:
    questions, meter = setting.material.questions, setting.meter
    order = questions.order(seed=block)
    loading = load_system(worker, row, "single_stream", setting)
    single = scenarios.single_stream(worker, questions, order, meter, setting.timing)
    single_memory = _memory(worker, setting.configuration)
    if row.system.serve["offline"] != row.system.serve["single_stream"]:
        load_system(worker, row, "offline", setting)
    patience = 60 + 5 * len(order) * single.seconds / len(single.rows)
    everything, compare = None, bool(row.answers)
    if not row.answers:
        whole = list(range(len(order)))
        everything = scenarios.offline(worker, questions, whole, meter, patience)
        row.answers, row.rate = everything.answers, len(whole) / everything.seconds
    if everything is None or everything.seconds < setting.timing.window:
        everything = _offline(worker, row, order, setting, patience)
        compare = True
    row.rate = len(everything.rows) / everything.seconds
    memory = _memory(worker, setting.configuration)
    _keep(row, "single_stream", block, loading, single, single_memory)
    _keep(row, "offline", block, loading, everything, memory, compare)
    if "server" in row.records:
        if row.system.serve["server"] != row.system.serve["offline"]:
            load_system(worker, row, "server", setting)
        _serve(worker, row, block, loading, order, setting)


def _offline(
    worker: Worker, row: SystemRun, order: list[int], setting: RunContext, patience: float
) -> Window:
    """One window of `offline`, filled by the row's rate so far.

    Where that rate was so wrong (a first pass over few examples) that the window lasts less than
    half a short one, it is played again with the new rate.
    """
    most = scenarios.MAX_PASSES * len(order)
    for _ in range(OFFLINE_TRIES):
        rows = scenarios.offline_rows(order, row.rate, setting.timing)
        window = scenarios.offline(
            worker, setting.material.questions, rows, setting.meter, patience
        )
        row.rate = len(rows) / window.seconds
        if window.seconds >= setting.timing.short_window / 2 or len(rows) == most:
            break
    return window


def _serve(
    worker: Worker,
    row: SystemRun,
    block: int,
    loading: Window,
    order: list[int],
    setting: RunContext,
) -> None:
    """Probe rates until the round has its own highest one; it begins where the last round ended."""
    found = row.sustained = row.sustained or {
        "offline": min(row.rate, server.DRIVER_RATE),
        "bound_ms": row.task.latency_bound_ms,
        "capped": row.rate > server.DRIVER_RATE,
        "rates": {},
    }
    last = [rate for rate in found["rates"].values() if rate]
    start = round(last[-1] / found["offline"], 4) if last else None  # a share that was probed
    search = server.Search(found["offline"], start)
    bound = found["bound_ms"] / 1000
    while len(search.seen) < server.PROBES and (share := search.following()) is not None:
        rate = search.rate(share)
        window = server.poisson(
            worker,
            setting.material.questions,
            order,
            rate,
            math.ceil(rate * server.probe_seconds(rate, setting.queries, setting.timing)),
            block,
            bound,
            setting.meter,
            setting.timing.query_timeout,
        )
        late = sum(latency > bound for latency in window.latencies)
        search.seen[share] = server.holds(len(window.rows), late)
        _keep(row, "server", block, loading, window, _memory(worker, setting.configuration))
        kept = row.records["server"].rounds[-1]
        kept.rate, kept.late = rate, late
    low, _ = search.bracket
    found["rates"][str(block)] = search.rate(low) if low else None


def _memory(worker: Worker, configuration: Configuration) -> float:
    used = worker.peak_memory_mb()
    if used > configuration.memory_gb * 2**30 / 1e6:
        allowed = f"{configuration.name} allows {configuration.memory_gb:g} GiB"
        raise WorkerError(f"it used {used:.0f} MB, but {allowed}")
    return used


def load_system(worker: Worker, row: SystemRun, scenario: str, setting: RunContext) -> Window:
    """Load as the scenario is served, and warm up on training text. Returns: the loading's window,
    without the warm-up.
    """
    about = {"labels": len(row.task.labels), "max_length": row.task.max_length}
    if row.artifact:
        about |= row.artifact.engine_metadata
    message = {
        "artifact": str(row.artifact.folder) if row.artifact else "",
        "about": about,
        "serve": row.system.serve[scenario].to_dict(),
        "threads": setting.configuration.cores,
        "device": "cuda" if setting.configuration.device == "gpu" else "cpu",
        "folder": str(row.system.folder.resolve()) if has_custom_code(row.system) else "",
    }
    loading = Window()
    with scenarios.timed(worker, setting.meter, loading):
        worker.load(message, setting.timing.load_timeout)
    queries = 0 if scenario == "offline" else WARM_UP_QUERIES
    together = 0 if scenario == "single_stream" else WARM_UP_TOGETHER
    scenarios.warm_up(
        worker, setting.material.training, queries, together, setting.timing.query_timeout
    )
    worker.reports = row.artifact is not None and row.artifact.format in ("stages", "cascade")
    if worker.reports:
        worker.report()  # the warm-up does not count
    return loading


def _keep(
    row: SystemRun,
    scenario: str,
    block: int,
    loading: Window,
    window: Window,
    memory: float,
    compare: bool = True,
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
    row.records[scenario].rounds.append(
        Round(
            block=block,
            load_seconds=round(loading.seconds, 4),
            load_wh=_brief(sum(each for each in loading.energy.record().values() if each)),
            seconds=round(window.seconds, 6),
            examples=len(window.rows),
            repeats=round(len(window.rows) / len(row.answers), 3),
            cpu_seconds=round(window.cpu_seconds, 4),
            driver_cpu_seconds=round(window.driver_cpu_seconds, 4),
            others=round(window.others, 3),
            steal=round(window.steal, 3),
            energy={name: _brief(value) for name, value in window.energy.record().items()},
            memory_mb=round(memory, 1),
            agreement=_brief(agreement),
            left=window.left,
        )
    )
    if window.latencies:
        row.queries.setdefault(scenario, []).append(window.rows)
        row.latencies.setdefault(scenario, []).append(
            [round(latency * 1e6) for latency in window.latencies]
        )


def _brief(value: Any) -> Any:
    """Six digits are more than a window can tell, and records are to stay small."""
    return None if value is None else float(f"{value:.6g}")
