"""A session: blocks of one round of every system in shuffled order, and the records that it leaves.

Records are written after each whole block. An interrupted session loses the block it was in, and
can be taken up again with a new one.
"""

import random
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness import record, stats
from harness.build import find_artifact
from harness.configuration import Configuration
from harness.energy import Meter, grams_co2_per_kwh
from harness.errors import HarnessError, WorkerError
from harness.manifest import SCENARIOS, System
from harness.measure import machine, scenarios
from harness.measure.protocol import Worker
from harness.measure.scenarios import Questions, Window
from harness.optimize.step import Artifact
from harness.record import Record, Round
from harness.store import folder_size
from harness.tasks.metrics import METRICS, majority_share
from harness.tasks.task import Example, Suite, Task

Say = Callable[[str], None]

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


def measure(
    systems: Sequence[System],
    tasks: Sequence[Task],
    suite: Suite,
    configuration: Configuration,
    root: Path,
    results: Path,
    blocks: int = 5,
    session: str = "",
    seed: int = 0,
    say: Say = print,
) -> str:
    """Measure all systems on all tasks that they declare. Returns: the session's name.

    session: one that was interrupted, to go on with until it has `blocks` blocks.
    Raises: HarnessError if a system is not built, or the session cannot be taken up.
    """
    material = {each.name: _material(each) for each in tasks}
    started = datetime.now(UTC)
    resumed, session = (
        session,
        session or f"{started:%Y-%m-%dT%H%M%S}-{configuration.name}-{secrets.token_hex(2)}",
    )
    about = {
        "session": session,
        "started": f"{started:%Y-%m-%dT%H:%M:%SZ}",
        "suite": suite.name,
        "roles": {
            "reference": suite.reference,
            "unpadded_reference": suite.unpadded_reference,
            "null": "null",
        },
        "configuration": {
            **asdict(configuration),
            "hash": configuration.hash,
            "grams_co2_per_kwh": round(grams_co2_per_kwh(configuration.country), 1),
        },
        "machine": machine.fingerprint(),
        "software": machine.software(),
    }
    rows = [
        _row(system, task, about, root, seed)
        for task in tasks
        for system in systems
        if system.answers_task(task.name)
    ]
    if not rows:
        raise HarnessError(
            f"none of the systems declares one of the tasks {', '.join(material)}. Add the task to "
            "a manifest's `tasks`."
        )
    done = _take_up(rows, resumed, results / "records") if resumed else 0
    if done >= blocks:
        raise HarnessError(
            f"session {session} has {done} blocks already. Give a larger --rounds to go on."
        )
    meter = Meter(configuration)
    progress = Progress(len(rows) * (blocks - done), len(rows), say)
    try:
        for block in range(done + 1, blocks + 1):
            order = list(rows)
            random.Random(f"{session} {block}").shuffle(order)
            for row in order:
                progress.step(f"block {block}/{blocks}: {row.system.name} on {row.task.name}")
                _round(row, block, material[row.task.name], configuration, meter)
                progress.done()
            for row in rows:
                _write(row, material[row.task.name], results / "records")
    except KeyboardInterrupt:
        say(
            f"stopped; whole blocks are kept. Go on with: wattbench run --suite {suite.name} "
            f"--rounds {blocks} --resume {session}"
        )
        raise
    finally:
        meter.close()
    return session


class Progress:
    """Says what is being done and how long the rest will take.

    The estimate is made of the rounds of the last block, since the first one also holds the
    accuracy passes.
    """

    def __init__(self, steps: int, block: int, say: Say) -> None:
        self.steps, self.block, self.say = steps, block, say
        self.times = [time.monotonic()]

    def step(self, what: str) -> None:
        """A step begins."""
        finished, recent = len(self.times) - 1, self.times[-self.block - 1 :]
        left = ""
        if finished:
            mean = (recent[-1] - recent[0]) / (len(recent) - 1)
            left = f", about {mean * (self.steps - finished) / 60:.1f} min left"
        self.say(f"{what} ({finished}/{self.steps} rounds{left})")

    def done(self) -> None:
        """A step ended."""
        self.times.append(time.monotonic())


def _material(task: Task) -> Material:
    examples, training = task.examples("validation"), task.examples("train")[:64]
    labels = len(task.labels)
    return Material(examples, Questions.of(examples, labels), Questions.of(training, labels))


def _row(system: System, task: Task, about: dict[str, Any], root: Path, seed: int) -> Row:
    artifact = find_artifact(system, task, seed, root)
    described = {
        "name": system.name,
        "title": system.title,
        "authors": list(system.authors),
        "licence": system.licence,
        "division": system.division,
        "folder": f"{system.folder.parent.name}/{system.folder.name}",
    }
    asked = {
        "name": task.name,
        "version": task.version,
        "metric": task.metric,
        "labels": list(task.labels),
        "max_length": task.max_length,
    }
    kept = None
    if artifact:
        keys = ("key", "format", "dtype", "model", "recipe", "seed")
        kept = {key: artifact.about[key] for key in keys if key in artifact.about}
        kept["size_mb"] = round(folder_size(artifact.folder) / 1e6, 3)
    return Row(
        system,
        task,
        artifact,
        {
            name: Record(
                **about,
                task=asked,
                scenario=name,
                system={**described, "serve": asdict(system.serve[name])},
                artifact=kept,
            )
            for name in SCENARIOS
        },
    )


def _round(
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
    except WorkerError as error:
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


def _write(row: Row, material: Material, records: Path) -> None:
    labels = [each.label for each in material.examples]
    side: dict[str, Any] = {
        "labels": labels,
        "groups": [each.group for each in material.examples],
        "answers": row.answers,
    }
    if row.answers:
        score = METRICS[row.task.metric](row.answers, labels)
        stated = {
            "metric": row.task.metric,
            "value": score.value,
            "se": score.se,
            "majority": majority_share(labels),
            "examples": len(labels),
        }
        for each in row.records.values():
            each.score = stated
    latencies = [latency / 1000 for each in row.latencies for latency in each]
    single = row.records["single_stream"]
    if latencies:
        shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
        single.latency_ms = {
            name: stats.percentile(latencies, share) for name, share in shares.items()
        } | {"queries": len(latencies)}
    record.write(single, side | {"queries": row.queries, "latency_us": row.latencies}, records)
    record.write(row.records["offline"], side, records)


def _take_up(rows: Sequence[Row], session: str, records: Path) -> int:
    """Continue from the records of a session.

    Returns: the number of whole blocks it has. Raises: HarnessError if it is another experiment.
    """
    counts = set()
    for row in rows:
        for scenario, fresh in row.records.items():
            path = fresh.path(records)
            if not path.is_file():
                raise HarnessError(
                    f"session {session} has no record {path}. Start a new session (leave --resume "
                    "out)."
                )
            old = record.read(path)
            same = ("machine", "configuration", "task", "artifact", "system", "roles")
            if changed := [name for name in same if getattr(old, name) != getattr(fresh, name)]:
                raise HarnessError(
                    f"{path}: {', '.join(changed)} changed since. Start a new session (leave "
                    "--resume out)."
                )
            row.records[scenario] = replace(
                fresh, started=old.started, rounds=old.rounds, failure=old.failure
            )
            row.failed = old.failure is not None
            side = record.read_side(path)
            row.answers = side["answers"]
            row.queries, row.latencies = (
                side.get("queries", row.queries),
                side.get("latency_us", row.latencies),
            )
            if not row.failed:
                counts.add(len(old.rounds))
        if rounds := row.records["offline"].rounds:
            row.rate = rounds[-1].examples / rounds[-1].seconds
    return min(counts, default=0)
