"""Jobs on machines that are slow, die, or do not exist."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.fleet.jobs import MAX_TRIES, Ended, Job, Progress, compute_urgency, run_jobs


@dataclass
class SimulatedMachines:
    """Machines that take one job each; the last one that was begun ends first.

    Attributes:
        labels: the configuration of each machine.
        outcome: returns the end of a job.
    """

    labels: Sequence[str] = ("",)
    outcome: Callable[[Job], Ended] = lambda job: Ended(job.name, f"did {job.request}")
    begun: list[str] = field(default_factory=list)
    running: list[tuple[str, Job]] = field(default_factory=list)
    most: int = 0
    cancelled: bool = False

    def submit(self, job: Job) -> bool:
        free = list(self.labels)
        for label, _ in self.running:
            free.remove(label)
        for label in free:
            if job.configuration in ("", label):
                self.begun.append(job.name)
                self.running.append((label, job))
                self.most = max(self.most, len(self.running))
                return True
        return False

    def wait(self) -> Sequence[Ended]:
        return [self.outcome(self.running.pop()[1])]

    def cancel(self) -> None:
        self.cancelled = True


def chain(*names: str, **options: float) -> list[Job]:
    """Jobs of which each needs the one before."""
    return [
        Job(name, name, frozenset(names[max(0, number - 1) : number]), **options)  # type: ignore[arg-type]
        for number, name in enumerate(names)
    ]


def test_a_job_begins_when_what_it_needs_is_done() -> None:
    machines = SimulatedMachines(("", ""))
    progress = run_jobs(chain("teacher", "student", "int8"), machines)
    assert machines.begun == ["teacher", "student", "int8"]
    assert progress.done == {name: f"did {name}" for name in machines.begun}


def test_what_two_jobs_need_is_done_once() -> None:
    jobs = [*chain("teacher", "one"), Job("two", "two", frozenset({"teacher"}))]
    machines = SimulatedMachines(("", ""))
    run_jobs(jobs, machines)
    assert machines.begun.count("teacher") == 1
    assert machines.most == 2


def test_the_longest_path_goes_first() -> None:
    jobs = [Job("short", 0, seconds=50), *chain("long-1", "long-2", "long-3", seconds=30)]
    assert compute_urgency(jobs)["long-1"] == 90
    machines = SimulatedMachines()
    run_jobs(jobs, machines)
    assert machines.begun == ["long-1", "long-2", "short", "long-3"]


def test_a_job_whose_machine_dies_is_begun_again() -> None:
    deaths = ["teacher", "teacher"]

    def die(job: Job) -> Ended:
        if job.name in deaths:
            deaths.remove(job.name)
            return Ended(job.name)
        return Ended(job.name, "done")

    progress = run_jobs(chain("teacher", "student"), SimulatedMachines(outcome=die))
    assert progress.tries == {"teacher": 3, "student": 1}
    assert not progress.failed


def test_a_job_that_kills_every_machine_fails_and_stops_only_what_needs_it() -> None:
    jobs = [
        *chain("bad", "student", "int8"),
        Job("other", 0),
        Job("session", 0, waits=frozenset({"int8", "other"})),
    ]
    machines = SimulatedMachines(
        outcome=lambda job: Ended(job.name, None if job.name == "bad" else "done")
    )
    progress = run_jobs(jobs, machines)
    assert progress.failed == {
        "bad": f"its machine died {MAX_TRIES} times",
        "student": "needs bad, which failed",
        "int8": "needs student, which failed",
    }
    assert progress.done == {"other": "done", "session": "done"}


def test_an_error_is_not_tried_again_and_keeps_its_reason() -> None:
    machines = SimulatedMachines(outcome=lambda job: Ended(job.name, error="diverged"))
    progress = run_jobs([Job("a", 0)], machines)
    assert progress.failed == {"a": "diverged"}
    assert progress.tries == {"a": 1}


def test_a_configuration_that_no_machine_has_fails_its_jobs_alone() -> None:
    jobs = [Job("here", 0, configuration="cpu-2"), Job("there", 0, configuration="cpu-16")]
    progress = run_jobs(jobs, SimulatedMachines(("cpu-2",)))
    assert progress.done.keys() == {"here"}
    assert progress.failed == {"there": "there is no machine with the label configuration=cpu-16"}


def test_a_reply_of_no_use_fails_its_job() -> None:
    jobs = [Job("good", 0), Job("bad", 0), Job("after", 0, frozenset({"bad"}))]
    progress = run_jobs(
        jobs, SimulatedMachines(), accept=lambda job, reply: "no records" * (job.name == "bad")
    )
    assert progress.failed == {"bad": "no records", "after": "needs bad, which failed"}
    assert progress.done == {"good": "did 0"}


def test_what_a_machine_refuses_is_done_by_another_one() -> None:
    refused = ["teacher", "teacher", "teacher", "teacher"]

    def refuse(job: Job) -> Ended:
        if job.name in refused:
            refused.remove(job.name)
            return Ended(job.name, refusal="vm: another version")
        return Ended(job.name, "done")

    progress = run_jobs(chain("teacher", "student"), SimulatedMachines(outcome=refuse))
    assert not progress.failed
    assert progress.tries == {"teacher": 1, "student": 1}
    assert progress.refusals == ["vm: another version"] * 4


def test_jobs_fail_with_the_reason_when_every_machine_refuses() -> None:
    def refuse(job: Job) -> Ended:
        machines.labels = ()
        return Ended(job.name, refusal="vm: another version")

    machines = SimulatedMachines(outcome=refuse)
    progress = run_jobs(chain("teacher", "student"), machines)
    assert progress.failed == {
        "teacher": "there is no machine, except those that refuse (vm: another version)",
        "student": "needs teacher, which failed",
    }


def test_a_job_is_prepared_when_it_begins() -> None:
    jobs = [Job("bad", 0), Job("session", "", waits=frozenset({"bad"}))]

    def prepare(job: Job, progress: Progress) -> Job:
        return replace(job, request=f"without {', '.join(progress.failed)}")

    machines = SimulatedMachines(
        outcome=lambda job: Ended(job.name, job.request, error="x" * (job.name == "bad"))
    )
    progress = run_jobs(jobs, machines, prepare=prepare)
    assert progress.done == {"session": "without bad"}


def test_waiting_in_vain_is_no_end() -> None:
    waits = iter([[], [], [Ended("a", "done")]])
    machines, seen = SimulatedMachines(), list[int]()
    machines.wait = lambda: next(waits)  # type: ignore[method-assign]
    progress = run_jobs(
        [Job("a", 0)], machines, lambda progress: seen.append(len(progress.running))
    )
    assert progress.done == {"a": "done"}
    assert seen == [1, 1, 1, 0], "whoever watches is told meanwhile, too"


def test_machines_are_not_asked_again_when_none_is_free() -> None:
    """With 20,000 jobs a question for each of them whenever one ends would be 200,000,000."""
    machines, asked = SimulatedMachines(("", "cpu-2")), []
    submit = machines.submit

    def count(job: Job) -> bool:
        asked.append(job)
        return submit(job)

    machines.submit = count  # type: ignore[method-assign]
    labels, count_jobs = ("", "cpu-2"), 20_000
    jobs = [Job(str(i), i, configuration=labels[i % 2]) for i in range(count_jobs)]
    jobs += [Job("last", None, waits=frozenset(job.name for job in jobs))]
    progress = run_jobs(jobs, machines)
    assert len(machines.begun) == count_jobs + 1
    assert progress.ended[-1] == "last"
    assert len(asked) < 3 * count_jobs


def test_a_job_fails_once_though_two_that_it_needs_fail() -> None:
    jobs = [Job("a", 0), Job("b", 0), Job("c", 0, frozenset({"a", "b"})), Job("d", 0)]
    machines = SimulatedMachines(
        ("", ""), outcome=lambda job: Ended(job.name, "done", error="diverged" * (job.name in "ab"))
    )
    progress = run_jobs(jobs, machines)
    assert progress.failed.keys() == {"a", "b", "c"}
    assert sorted(progress.ended) == ["a", "b", "c", "d"]
    assert "c" not in machines.begun


def test_ctrl_c_stops_the_jobs() -> None:
    def interrupt(job: Job) -> Ended:
        raise KeyboardInterrupt

    machines = SimulatedMachines(outcome=interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_jobs([Job("a", 0)], machines)
    assert machines.cancelled


@st.composite
def graphs(draw: st.DrawFn) -> list[Job]:
    """Graphs of up to twelve jobs."""
    count = draw(st.integers(1, 12))
    jobs: list[Job] = []
    for number in range(count):
        earlier = [job.name for job in jobs]
        needs = frozenset(draw(st.sets(st.sampled_from(earlier)))) if earlier else frozenset()
        waits = frozenset(draw(st.sets(st.sampled_from(earlier)))) if earlier else frozenset()
        jobs.append(Job(str(number), number, needs, waits, draw(st.floats(0, 100))))
    return jobs


@given(graphs(), st.integers(1, 4), st.integers(0, 2**16))
def test_every_job_ends_once_whatever_happens(jobs: list[Job], count: int, seed: int) -> None:
    fate = random.Random(seed)
    ended: list[str] = []

    def end(job: Job) -> Ended:
        known = {**dict.fromkeys(progress_of.done), **progress_of.failed}
        assert job.needs <= progress_of.done.keys()
        assert job.waits <= known.keys()
        kind = fate.choice(["done", "done", "died", "failed"])
        if kind != "died":
            ended.append(job.name)
        return Ended(job.name, "done" if kind == "done" else None, "x" * (kind == "failed"))

    progress_of = Progress()

    def note(progress: Progress) -> None:
        nonlocal progress_of
        progress_of = progress

    machines = SimulatedMachines([""] * count, end)
    progress = run_jobs(jobs, machines, note)
    assert progress.done.keys() | progress.failed.keys() == {job.name for job in jobs}
    assert not progress.done.keys() & progress.failed.keys()
    assert not progress.waiting
    assert not progress.running
    assert len(ended) == len(set(ended))
    assert sorted(progress.ended) == sorted(job.name for job in jobs)
    for job in jobs:
        if job.needs & progress.failed.keys():
            assert job.name in progress.failed
