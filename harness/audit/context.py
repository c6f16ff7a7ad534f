"""A submission under audit, and the result of a probe."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property

from harness.loadgen.scenarios import MESSAGE_EXAMPLES, QueryBatch, QuerySamples
from harness.results.record import Timing
from harness.runner.evaluate import load_system, start_worker
from harness.runner.system_run import RunContext, SystemRun
from harness.tasks.task import Example
from harness.worker.driver import Worker

MIN_EXAMPLES = 64
PASS_SECONDS = 20.0
"""Approximate time of one pass over the examples; slow systems get fewer examples."""

TIMEOUT_SECONDS = 600.0


@dataclass(frozen=True)
class ProbeResult:
    """The result of a probe.

    Attributes:
        probe: its name.
        passed: None if it cannot tell.
        text: the figures, in a sentence.
    """

    probe: str
    passed: bool | None
    text: str

    def __str__(self) -> str:
        verdict = {True: "pass", False: "FAIL", None: "-   "}[self.passed]
        return f"{verdict}  {self.probe}: {self.text}"


@dataclass
class AuditContext:
    """A system on a task under audit, and what several probes need.

    Attributes:
        run: the system on its task.
        context: the split, configuration, meter, isolation and timing of its workers.
        seed: the training seed; also fixes what the probes draw.
        examples: a sample of the reported split.
        samples: the same examples as they are sent, without labels.
        rate: examples per second, roughly.
    """

    run: SystemRun
    context: RunContext
    seed: int
    examples: Sequence[Example] = field(init=False)
    samples: QuerySamples = field(init=False)
    rate: float = field(init=False)

    def __post_init__(self) -> None:
        split = self.context.data
        order = split.samples.order(seed=self.seed)
        with self.start_worker() as worker:
            first = [split.examples[row] for row in order[:MIN_EXAMPLES]]
            started = time.perf_counter()
            self.ask(worker, first, [len(first)])
            self.rate = len(first) / (time.perf_counter() - started)
        count = int(min(self.timing.audit_examples, max(MIN_EXAMPLES, self.rate * PASS_SECONDS)))
        self.examples = [split.examples[row] for row in sorted(order[:count])]
        self.samples = self.to_samples(self.examples)

    @property
    def timing(self) -> Timing:
        """Lengths of the probes' phases."""
        return self.context.timing

    @contextmanager
    def start_worker(self, scenario: str = "offline") -> Iterator[Worker]:
        """Start a worker, load the system and warm it up."""
        with start_worker(self.run, self.context) as worker:
            load_system(worker, self.run, scenario, self.context)
            yield worker

    def to_samples(self, examples: Sequence[Example]) -> QuerySamples:
        """Return examples as they are sent."""
        return QuerySamples.from_examples(examples, len(self.run.task.labels))

    def ask(
        self,
        worker: Worker,
        examples: Sequence[Example],
        sizes: Sequence[int] = (MESSAGE_EXAMPLES,),
    ) -> list[int]:
        """Return the answers to examples, sent all at once.

        Args:
            worker: a loaded worker.
            examples: the examples.
            sizes: the number of examples of each query, repeated as often as needed.
        """
        batch = QueryBatch(self.to_samples(examples), range(len(examples)), sizes)
        return batch.read_answers(worker, worker.exchange(batch.lines, TIMEOUT_SECONDS))

    @cached_property
    def answers(self) -> list[int]:
        """The answers to all examples, in their order and in large queries."""
        with self.start_worker() as worker:
            return self.ask(worker, self.examples)
