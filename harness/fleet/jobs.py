"""Jobs that depend on each other, and the order in which they are given to machines.

Of the jobs that are ready the one with the longest path to the end goes first (critical path:
Kelley & Walker 1959). A job whose machine dies is given to another one. A job that fails does not
stop others: those that need it fail with it, and those that only wait for it go on.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any, Protocol

MAX_TRIES = 3
"""How often a job is begun before it counts as failed, if its machine dies each time."""


@dataclass(frozen=True)
class Job:
    """Work for one machine.

    Attributes:
        name: unique among the jobs.
        request: what the machine gets.
        needs: names of jobs that must have succeeded.
        waits: names of jobs that must have ended, well or not.
        seconds: how long it takes, roughly.
        configuration: the label of the machines that may do it; '' for any machine.
    """

    name: str
    request: Any
    needs: frozenset[str] = frozenset()
    waits: frozenset[str] = frozenset()
    seconds: float = 0.0
    configuration: str = ""


@dataclass(frozen=True)
class Ended:
    """How a job ended.

    Attributes:
        job: its name.
        reply: what the machine returned; None if it died.
        error: why the job failed, or ''.
        refusal: why the machine does no jobs, or ''; it gets no more.
    """

    job: str
    reply: Any = None
    error: str = ""
    refusal: str = ""


class Executor(Protocol):
    """Machines that take jobs."""

    def submit(self, job: Job) -> bool:
        """Begin a job, and return whether there was a free machine for it."""

    def wait(self) -> Sequence[Ended]:
        """Return jobs that have ended, after waiting a while for one; there may be none."""

    def cancel(self) -> None:
        """Stop all jobs."""


@dataclass
class Progress:
    """Where the jobs stand.

    Attributes:
        waiting: the jobs that have not begun, by name.
        running: the jobs that have.
        done: replies of those that succeeded, by name.
        failed: why the others failed, by name.
        tries: how often each was begun.
        ended: the names of those that have ended, in this order.
        refusals: why machines do no jobs.
    """

    waiting: dict[str, Job] = field(default_factory=dict)
    running: dict[str, Job] = field(default_factory=dict)
    done: dict[str, Any] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    tries: dict[str, int] = field(default_factory=dict)
    ended: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)


def run_jobs(
    jobs: Collection[Job],
    executor: Executor,
    on_change: Callable[[Progress], None] = lambda progress: None,
    accept: Callable[[Job, Any], str] = lambda job, reply: "",
    prepare: Callable[[Job, Progress], Job] = lambda job, progress: job,
) -> Progress:
    """Run jobs until all have ended.

    Args:
        jobs: the jobs; each name that one needs or waits for is among them.
        executor: the machines.
        on_change: called whenever a job begins or ends, and at times between.
        accept: takes what a machine returned for a job; returns why it is of no use, or ''.
        prepare: returns a job as a machine gets it, when it begins.

    Returns:
        How they ended.

    Raises:
        KeyboardInterrupt: the user pressed Ctrl-C; the jobs are stopped.
    """
    queue = _Queue(jobs)
    progress = queue.progress
    try:
        while progress.waiting or progress.running:
            busy = set[str]()  # configurations without a free machine
            while job := queue.find_next(busy):
                if executor.submit(prepare(job, progress)):
                    queue.begin(job)
                    on_change(progress)
                else:
                    busy.add(job.configuration)
            if progress.running:
                for ended in executor.wait():
                    _note_end(queue, ended, accept)
            else:
                while job := queue.find_next(set()):
                    queue.fail(job, _describe_lack(job, progress.refusals))
            on_change(progress)
    except KeyboardInterrupt:
        executor.cancel()
        raise
    return progress


class _Queue:
    """The jobs that are ready, the most urgent first.

    What a job costs here hardly grows with their number.

    Args:
        jobs: all jobs.
    """

    def __init__(self, jobs: Collection[Job]) -> None:
        self.progress = Progress({job.name: job for job in jobs})
        self._urgency = compute_urgency(jobs)
        self._dependents = _list_dependents(jobs)
        self._missing = {job.name: len(job.needs | job.waits) for job in jobs}
        self._ready: dict[str, list[tuple[float, str]]] = {job.configuration: [] for job in jobs}
        for job in jobs:
            if not self._missing[job.name]:
                self._add(job)

    def _add(self, job: Job) -> None:
        heappush(self._ready[job.configuration], (-self._urgency[job.name], job.name))

    def find_next(self, busy: Collection[str]) -> Job | None:
        """Return the most urgent job that is ready and asks for none of some configurations."""
        heaps = [heap for name, heap in self._ready.items() if heap and name not in busy]
        return self.progress.waiting[min(heap[0] for heap in heaps)[1]] if heaps else None

    def begin(self, job: Job) -> None:
        """Note that the job which `find_next` returned has begun."""
        self._remove(job)
        self.progress.running[job.name] = job
        self.progress.tries[job.name] = self.progress.tries.get(job.name, 0) + 1

    def _remove(self, job: Job) -> None:
        heap = self._ready[job.configuration]
        if heap and heap[0][1] == job.name:
            heappop(heap)
        del self.progress.waiting[job.name]

    def begin_again(self, job: Job) -> None:
        """Note that a job waits for another machine."""
        self.progress.waiting[job.name] = job
        self._add(job)

    def refuse(self, job: Job, reason: str) -> None:
        """Note that a machine does not do a job, which waits for another one."""
        self.progress.refusals.append(reason)
        self.progress.tries[job.name] -= 1
        self.begin_again(job)

    def succeed(self, job: Job, reply: Any) -> None:
        """Note what a machine returned for a job."""
        self.progress.done[job.name] = reply
        self._end(job)

    def fail(self, job: Job, reason: str) -> None:
        """Note that a job failed, and with it those that need it."""
        if job.name in self.progress.waiting:
            self._remove(job)
        self.progress.failed[job.name] = reason
        self._end(job)
        for other in self._dependents[job.name]:
            if job.name in other.needs and other.name in self.progress.waiting:
                self.fail(other, f"needs {job.name}, which failed")

    def _end(self, job: Job) -> None:
        self.progress.ended.append(job.name)
        for other in self._dependents[job.name]:
            self._missing[other.name] -= 1
            fails = not other.needs.isdisjoint(self.progress.failed)
            if not self._missing[other.name] and other.name in self.progress.waiting and not fails:
                self._add(other)


def _note_end(queue: _Queue, ended: Ended, accept: Callable[[Job, Any], str]) -> None:
    job = queue.progress.running.pop(ended.job)
    error = ended.error
    if not error and ended.reply is not None:
        error = accept(job, ended.reply)
    if ended.refusal:
        queue.refuse(job, ended.refusal)
    elif error:
        queue.fail(job, error)
    elif ended.reply is not None:
        queue.succeed(job, ended.reply)
    elif queue.progress.tries[job.name] < MAX_TRIES:
        queue.begin_again(job)
    else:
        queue.fail(job, f"its machine died {MAX_TRIES} times")


def _describe_lack(job: Job, refusals: Sequence[str]) -> str:
    label = f" with the label configuration={job.configuration}" if job.configuration else ""
    reason = f", except those that refuse ({refusals[-1]})" if refusals else ""
    return f"there is no machine{label}{reason}"


def compute_urgency(jobs: Collection[Job]) -> Mapping[str, float]:
    """Return the seconds from the beginning of each job to the end of the last that needs it."""
    dependents = _list_dependents(jobs)
    known: dict[str, float] = {}

    def compute(job: Job) -> float:
        if job.name not in known:
            later = max((compute(other) for other in dependents[job.name]), default=0.0)
            known[job.name] = job.seconds + later
        return known[job.name]

    for job in jobs:
        compute(job)
    return known


def _list_dependents(jobs: Collection[Job]) -> Mapping[str, list[Job]]:
    """Return the jobs that need each job, or wait for it."""
    dependents: dict[str, list[Job]] = {job.name: [] for job in jobs}
    for job in jobs:
        for name in job.needs | job.waits:
            dependents[name].append(job)
    return dependents
