"""Machines of a fleet without Ray: processes of this machine, each with a cache of its own."""

from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path

import pytest

from harness.fleet.cluster import read_reply, run_request
from harness.fleet.jobs import Ended, Job

Work = Callable[[], Ended]
Fault = Callable[[Job, Work], Ended]


def handle(job: Job, cache: Path) -> Ended:
    """Do a job as a machine with this cache does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WATTBENCH_CACHE", str(cache))
        return read_reply(job.name, *run_request(job.request.model_dump_json()))


class MachinesInTurn:
    """An executor: one job at a time, by one machine after the other.

    Args:
        caches: of the machines.
        faults: what goes wrong when a job is done for the first time, by the first word of its
            name; it is given the job and what does it.
    """

    def __init__(self, caches: Sequence[Path], faults: dict[str, Fault] | None = None) -> None:
        self.faults = dict(faults or {})
        self.begun: list[str] = []
        self._caches = cycle(caches)
        self._jobs: list[Job] = []

    def submit(self, job: Job) -> bool:
        """Take a job if there is none."""
        if self._jobs:
            return False
        self._jobs.append(job)
        return True

    def wait(self) -> Sequence[Ended]:
        """Do the job."""
        job, cache = self._jobs.pop(), next(self._caches)
        kind = job.name.split()[0]
        self.begun.append(kind)
        if fault := self.faults.pop(kind, None):
            return [fault(job, lambda: handle(job, cache))]
        return [handle(job, cache)]

    def cancel(self) -> None:
        """Nothing runs meanwhile."""
