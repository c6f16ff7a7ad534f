"""A system under audit, and what a probe says of it."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from harness.loadgen.scenarios import QuerySamples
from harness.results.record import Timing
from harness.runner.evaluate import RunContext, SystemRun, load_system, start_worker
from harness.tasks.task import Example
from harness.worker.driver import Worker

LEAST_EXAMPLES = 64
PASS_SECONDS = 20.0
"""About what one pass over the examples may take; slow systems are asked fewer."""

PATIENCE = 600.0


@dataclass(frozen=True)
class ProbeResult:
    """What a probe found. passed: None where it cannot tell."""

    probe: str
    passed: bool | None
    text: str

    def __str__(self) -> str:
        verdict = {True: "pass", False: "FAIL", None: "-   "}[self.passed]
        return f"{verdict}  {self.probe}: {self.text}"


@dataclass
class AuditContext:
    """A system on a task under audit; what several probes need is asked once. rate: examples/s."""

    row: SystemRun
    setting: RunContext
    root: Path
    seed: int
    examples: Sequence[Example] = field(init=False)
    questions: QuerySamples = field(init=False)
    rate: float = field(init=False)

    def __post_init__(self) -> None:
        whole = self.setting.material
        order = whole.questions.order(seed=self.seed)
        with self.worker() as worker:
            first = [whole.examples[row] for row in order[:LEAST_EXAMPLES]]
            started = time.perf_counter()
            self.ask(worker, first, [len(first)])
            self.rate = len(first) / (time.perf_counter() - started)
        count = int(min(self.timing.audit_examples, max(LEAST_EXAMPLES, self.rate * PASS_SECONDS)))
        self.examples = [whole.examples[row] for row in sorted(order[:count])]
        self.questions = QuerySamples.of(self.examples, len(self.row.task.labels))

    @property
    def timing(self) -> Timing:
        """Lengths of the probes' phases."""
        return self.setting.timing

    @contextmanager
    def worker(self, scenario: str = "offline") -> Iterator[Worker]:
        """A fresh one, loaded and warmed up."""
        with start_worker(self.row, self.setting) as worker:
            load_system(worker, self.row, scenario, self.setting)
            yield worker

    def ask(self, worker: Worker, examples: Sequence[Example], sizes: Sequence[int]) -> list[int]:
        """Their answers; sizes: of the messages, over and over."""
        questions = QuerySamples.of(examples, len(self.row.task.labels))
        rows = list(range(len(examples)))
        parts: list[list[int]] = []
        while rows:
            size = sizes[len(parts) % len(sizes)]
            parts.append(rows[:size])
            rows = rows[size:]
        lines = [questions.line(number, part) for number, part in enumerate(parts)]
        wanted = {
            number: [questions.choices[row] for row in part] for number, part in enumerate(parts)
        }
        given: dict[int, list[int]] = {}
        for reply in worker.exchange(lines, PATIENCE):
            number, answers = worker.answers(reply, wanted)
            del wanted[number]
            given[number] = answers
        return [answer for number in range(len(parts)) for answer in given[number]]

    @cached_property
    def answers(self) -> list[int]:
        """Of all examples, in their order and in large messages: the accuracy pass."""
        with self.worker() as worker:
            return self.ask(worker, self.examples, [4096])
