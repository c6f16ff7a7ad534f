"""Jobs that depend on each other, and the order in which they are given to machines.

Of the jobs that are ready the one with the longest path to the end goes first (critical path:
Kelley & Walker 1959). A job whose machine dies is given to another one. A job that fails does not
stop others: those that need it fail with it, and those that only wait for it go on.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
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
    """

    job: str
    reply: Any = None
    error: str = ""


class Executor(Protocol):
    """Machines that take jobs."""

    def submit(self, job: Job) -> bool:
        """Begin a job, and return whether there was a free machine for it."""

    def wait(self) -> Sequence[Ended]:
        """Return jobs that have ended, at least one, after waiting for it."""

    def cancel(self) -> None:
        """Stop all jobs."""


@dataclass
class Progress:
    """Where the jobs stand.

    Attributes:
        waiting: names of jobs that have not begun.
        running: names of jobs that have.
        done: replies of those that succeeded, by name.
        failed: why the others failed, by name.
        tries: how often each was begun.
    """

    waiting: dict[str, Job]
    running: dict[str, Job] = field(default_factory=dict)
    done: dict[str, Any] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    tries: dict[str, int] = field(default_factory=dict)

    def is_ready(self, job: Job) -> bool:
        """Return whether a job may begin."""
        ended = self.done.keys() | self.failed.keys()
        return job.needs <= self.done.keys() and job.waits <= ended

    def begin(self, job: Job) -> None:
        """Note that a job has begun."""
        self.running[job.name] = self.waiting.pop(job.name)
        self.tries[job.name] = self.tries.get(job.name, 0) + 1

    def fail(self, job: Job, reason: str) -> None:
        """Note that a job failed, and with it those that need it."""
        self.waiting.pop(job.name, None)
        self.failed[job.name] = reason
        for other in [*self.waiting.values()]:
            if job.name in other.needs and other.name in self.waiting:
                self.fail(other, f"needs {job.name}, which failed")


def run_jobs(
    jobs: Collection[Job],
    executor: Executor,
    on_change: Callable[[Progress], None] = lambda progress: None,
    accept: Callable[[Job, Any], str] = lambda job, reply: "",
) -> Progress:
    """Run jobs until all have ended.

    Args:
        jobs: the jobs; each name that one needs or waits for is among them.
        executor: the machines.
        on_change: called whenever a job begins or ends.
        accept: takes what a machine returned for a job; returns why it is of no use, or ''.

    Returns:
        How they ended.

    Raises:
        KeyboardInterrupt: the user pressed Ctrl-C; the jobs are stopped.
    """
    progress = Progress({job.name: job for job in jobs})
    urgency = compute_urgency(jobs)
    try:
        while progress.waiting or progress.running:
            ready = [job for job in progress.waiting.values() if progress.is_ready(job)]
            busy = set[str]()  # configurations without a free machine
            for job in sorted(ready, key=lambda job: (-urgency[job.name], job.name)):
                if job.configuration not in busy:
                    if executor.submit(job):
                        progress.begin(job)
                        on_change(progress)
                    else:
                        busy.add(job.configuration)
            if progress.running:
                for ended in executor.wait():
                    _note_end(progress, ended, accept)
                    on_change(progress)
            else:
                for job in ready:
                    progress.fail(job, _describe_lack(job))
    except KeyboardInterrupt:
        executor.cancel()
        raise
    return progress


def _note_end(progress: Progress, ended: Ended, accept: Callable[[Job, Any], str]) -> None:
    job = progress.running.pop(ended.job)
    error = ended.error
    if not error and ended.reply is not None:
        error = accept(job, ended.reply)
    if error:
        progress.fail(job, error)
    elif ended.reply is not None:
        progress.done[job.name] = ended.reply
    elif progress.tries[job.name] < MAX_TRIES:
        progress.waiting[job.name] = job
    else:
        progress.fail(job, f"its machine died {MAX_TRIES} times")


def _describe_lack(job: Job) -> str:
    label = f" with the label configuration={job.configuration}" if job.configuration else ""
    return f"there is no machine{label}"


def compute_urgency(jobs: Collection[Job]) -> Mapping[str, float]:
    """Return the seconds from the beginning of each job to the end of the last that needs it."""
    dependents: dict[str, list[Job]] = {job.name: [] for job in jobs}
    for job in jobs:
        for name in job.needs | job.waits:
            dependents[name].append(job)
    known: dict[str, float] = {}

    def compute(job: Job) -> float:
        if job.name not in known:
            later = max((compute(other) for other in dependents[job.name]), default=0.0)
            known[job.name] = job.seconds + later
        return known[job.name]

    for job in jobs:
        compute(job)
    return known
