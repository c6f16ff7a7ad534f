"""The speed of systems as ratios to the teacher, timed before and after training.

A speed is measured like a round of a session: a fresh worker, from raw text to the answer, each
system once in a block with the teacher, in shuffled order. The texts are those of the selection
slice; the reported split is never read.
"""

import json
import random
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from harness.errors import HarnessError
from harness.loadgen import scenarios
from harness.optimize.base import Artifact
from harness.progress import Log, track
from harness.results.record import Timing
from harness.results.statistics import compute_percentile, count_needed_queries, geometric_mean
from harness.runner.evaluate import load_system, start_worker, time_scenarios
from harness.runner.system_run import RunContext, SystemRun
from harness.search.candidate import Shape
from harness.search.random_weights import write_random_artifacts
from harness.store.cache import (
    cache_dir,
    create_scratch_folder,
    digest,
    folder_size,
    hold_lock,
    write_atomically,
)
from harness.submissions.system import System
from harness.telemetry.machine import build_fingerprint, get_versions

TIMING = Timing(window=0.6, short_window=0.3)
BLOCKS = 2
TOGETHER = 6
"""Students with random weights that are on the disk at once, and timed in the same blocks."""

LOCK = "timing"
"""The lock of the cache that is held while something is timed."""

MAX_P99_SECONDS = 300.0


@dataclass(frozen=True)
class Speed:
    """How fast and how large a system is.

    Attributes:
        offline: examples per second as a ratio to the teacher's.
        single_stream: the median latency of the teacher as a ratio to the system's.
        memory_mb: peak memory of the worker in 10^6 bytes.
        size_mb: size of the artifact in 10^6 bytes.
    """

    offline: float
    single_stream: float
    memory_mb: float
    size_mb: float


@dataclass
class SpeedMeter:
    """Times systems against the teacher.

    Attributes:
        teacher: the teacher, in PyTorch, not padded.
        context: with the selection slice, and short windows.
        log: takes lines of progress.
        teacher_p50_ms: the median latency of the teacher in ms; 0 before anything was timed.
        teacher_rate: examples per second of the teacher in `offline`; 0 likewise.
        teacher_memory_mb: its peak memory in 10^6 bytes.
        seconds_per_system: how long it took to time a system.
    """

    teacher: SystemRun
    context: RunContext
    log: Log
    teacher_p50_ms: float = 0.0
    teacher_rate: float = 0.0
    teacher_memory_mb: float = 0.0
    seconds_per_system: float = 0.0
    _latencies: list[float] = field(default_factory=list)
    _rates: list[float] = field(default_factory=list)

    def time_systems(self, systems: Mapping[str, tuple[System, Artifact]]) -> dict[str, Speed]:
        """Time systems with their artifacts, in the same blocks as the teacher.

        A system that fails is left out, with a line that says why.

        Args:
            systems: by name.
        """
        task = self.teacher.task
        runs = {
            name: SystemRun(system, task, artifact, {})
            for name, (system, artifact) in systems.items()
        }
        order = self.context.data.samples.order(seed=0)
        offline: dict[str, list[float]] = {}
        latency: dict[str, list[float]] = {}
        memory: dict[str, float] = {}
        with hold_lock(LOCK):
            started = time.monotonic()
            for block in range(BLOCKS):
                names = ["", *runs]
                random.Random(block).shuffle(names)
                for name in names:
                    run = runs[name] if name else self.teacher
                    try:
                        with start_worker(run, self.context) as worker:
                            timed = time_scenarios(worker, run, order, self.context)
                    except HarnessError as error:
                        if not name:
                            raise
                        self.log(f"left out: {name}: {error}")
                        del runs[name]
                        continue
                    seconds = timed.offline.seconds / len(timed.offline.rows)
                    offline.setdefault(name, []).append(seconds)
                    latency.setdefault(name, []).append(median(timed.single.latencies))
                    memory[name] = max(memory.get(name, 0.0), timed.memory.host_mb)
            self.seconds_per_system = (time.monotonic() - started) / (1 + len(systems))
        self._latencies += latency[""]
        self._rates += [1 / seconds for seconds in offline[""]]
        self.teacher_p50_ms = median(self._latencies) * 1000
        self.teacher_rate = geometric_mean(self._rates)
        self.teacher_memory_mb = max(self.teacher_memory_mb, memory[""])
        return {
            name: Speed(
                _ratio(offline[""], offline[name]),
                _ratio(latency[""], latency[name]),
                memory[name],
                measure_size_mb(systems[name][1]),
            )
            for name in runs
        }

    def time_shapes(
        self,
        shapes: Sequence[Shape],
        vocabulary: bool,
        make_system: Callable[[Shape], System],
        seconds: float,
    ) -> tuple[dict[Shape, Speed], int]:
        """Time students with random weights; what was timed before on this machine is not again.

        Args:
            shapes: the students.
            vocabulary: whether embeddings that the task's text does not need are removed.
            make_system: returns a system that is served as a shape is.
            seconds: how long it may take; if that is too short, the first ones of the shapes are
                timed, at least `TOGETHER`.

        Returns:
            The speeds of those that did not fail, and how many there was no time for.
        """
        files = {shape: self._find_file(shape, vocabulary) for shape in shapes}
        speeds = {
            shape: Speed(**json.loads(file.read_text()))
            for shape, file in files.items()
            if file.is_file()
        }
        missing = [shape for shape in shapes if shape not in speeds]
        parts = [missing[start : start + TOGETHER] for start in range(0, len(missing), TOGETHER)]
        left_over = 0
        started = time.monotonic()
        progress = track(parts, self.log, f"timing {len(missing)} untrained students")
        for done, part in enumerate(progress):
            used = time.monotonic() - started
            if done and used + used / done > seconds:
                left_over = len(missing) - done * TOGETHER
                break
            for shape, speed in self._time_untrained(part, vocabulary, make_system).items():
                write_atomically(files[shape], json.dumps(asdict(speed)).encode())
                speeds[shape] = speed
        return {shape: speeds[shape] for shape in shapes if shape in speeds}, left_over

    def _time_untrained(
        self, shapes: Sequence[Shape], vocabulary: bool, make_system: Callable[[Shape], System]
    ) -> dict[Shape, Speed]:
        assert self.teacher.artifact is not None
        contents = {(shape.size, shape.form): shape for shape in shapes}
        with _scratch_folder() as scratch:
            artifacts = write_random_artifacts(
                [*contents.values()],
                self.teacher.artifact.folder,
                self.teacher.task.address,
                vocabulary,
                scratch,
                self.context.configuration.cores,
                self.log,
            )
            found = dict(zip(contents, artifacts, strict=True))
            systems: dict[str, tuple[System, Artifact]] = {}
            by_name = {str(number): shape for number, shape in enumerate(shapes)}
            for name, shape in by_name.items():
                if artifact := found[shape.size, shape.form]:
                    systems[name] = make_system(shape), artifact
            return {by_name[name]: speed for name, speed in self.time_systems(systems).items()}

    def _find_file(self, shape: Shape, vocabulary: bool) -> Path:
        """Return the file of a shape's speed on this machine."""
        assert self.teacher.artifact is not None
        machine = build_fingerprint(self.context.isolation)
        task, model = self.teacher.task, self.teacher.artifact.metadata.model
        content: dict[str, Any] = {
            "shape": asdict(shape),
            "vocabulary": vocabulary,
            "teacher": [model, self.teacher.system.serve["offline"].to_dict()],
            "task": [task.name, task.version, task.max_length],
            "configuration": self.context.configuration.hash,
            "machine": [machine[key] for key in ("cpu", "flags", "cores")],
            "packages": get_versions(),
        }
        return cache_dir() / "speeds" / f"{digest(content)}.json"

    def measure_p99_ms(self, system: System, artifact: Artifact) -> float | None:
        """Return the 99th percentile of latencies in ms, from as many queries as it takes.

        None if that takes longer than `MAX_P99_SECONDS`.
        """
        run = SystemRun(system, self.teacher.task, artifact, {})
        samples, needed = self.context.data.samples, count_needed_queries(0.99)
        order = samples.order(seed=0)
        latencies: list[float] = []
        with hold_lock(LOCK), start_worker(run, self.context) as worker:
            load_system(worker, run, "single_stream", self.context)
            while len(latencies) < needed and sum(latencies) < MAX_P99_SECONDS:
                window = scenarios.single_stream(
                    worker, samples, order, self.context.meter, self.context.timing
                )
                latencies += window.latencies
                order = (
                    order[len(window.rows) % len(order) :] + order[: len(window.rows) % len(order)]
                )
        seconds = compute_percentile(latencies, 0.99)
        return None if seconds is None else seconds * 1000


def measure_size_mb(artifact: Artifact) -> float:
    """Return the size of an artifact in 10^6 bytes."""
    return folder_size(artifact.folder) / 1e6


def _ratio(slow: Sequence[float], fast: Sequence[float]) -> float:
    return geometric_mean([one / other for one, other in zip(slow, fast, strict=True)])


@contextmanager
def _scratch_folder() -> Iterator[Path]:
    folder = create_scratch_folder()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
