"""What a fleet does with the sessions that come back."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from harness.fleet.fleet import find_failed, run_fleet
from harness.fleet.jobs import Ended, Job, Progress
from harness.fleet.requests import BuildRequest, Reply
from harness.schema import Schema
from harness.submissions.plan import make_plan
from harness.tasks.registry import get_task
from tests.support.sessions import write_session
from tests.support.systems import load_systems

JOBS = [
    Job("session a", None, seconds=3, configuration="cpu-1"),
    Job("session b", None, seconds=2, configuration="cpu-1"),
    Job("session c", None, seconds=1, configuration="cpu-1"),
]


class NamedRequest(Schema):
    """A request that differs from others by its name."""

    name: str
    failed: tuple[str, ...] = ()


@dataclass
class MeasuringMachine:
    """One machine, which measures a session for each job.

    Attributes:
        scratch: where it writes.
        version: part of the sessions' names.
        interrupted: the job at which the user presses Ctrl-C.
        left_off: systems that could not be built, by job.
    """

    scratch: Path
    version: str = ""
    interrupted: str = ""
    left_off: dict[str, dict[str, str]] = field(default_factory=dict)
    begun: list[str] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)

    def submit(self, job: Job) -> bool:
        if self.jobs:
            return False
        self.begun.append(job.name)
        self.jobs.append(job)
        return True

    def wait(self) -> Sequence[Ended]:
        job = self.jobs.pop()
        if job.name == self.interrupted:
            raise KeyboardInterrupt
        session = f"{job.name.replace(' ', '-')}{self.version}"
        write_session(self.scratch / session, session, 1, {"fast": 10.0})
        archive = shutil.make_archive(str(self.scratch / "records"), "zip", self.scratch / session)
        reply = Reply(host="vm", session=session, left_off=self.left_off.get(job.name, {}))
        return [Ended(job.name, (reply, Path(archive).read_bytes()))]

    def cancel(self) -> None:
        self.jobs.clear()


def make_jobs(version: str = "") -> list[Job]:
    return [replace(job, request=NamedRequest(name=job.name + version)) for job in JOBS]


def test_a_stopped_fleet_goes_on_with_the_sessions_that_are_missing(
    tmp_path: Path, cache: Path
) -> None:
    records, lines = tmp_path / "records", list[str]()
    machine = MeasuringMachine(tmp_path, interrupted="session c")
    with pytest.raises(KeyboardInterrupt):
        run_fleet(make_jobs(), machine, records, lambda line: None)
    machine = MeasuringMachine(tmp_path)
    run_fleet(make_jobs(), machine, records, lambda line: lines.append(str(line)))
    assert machine.begun == ["session c"]
    assert "measured before: session a: session session-a" in lines
    assert {path.name for path in records.iterdir()} == {"session-a", "session-b", "session-c"}

    machine = MeasuringMachine(tmp_path, version="-again")
    run_fleet(make_jobs(), machine, records, lambda line: None)
    assert len(machine.begun) == 3, "the one before was complete, so this one is new"


def test_only_whole_and_equal_sessions_count_as_measured_before(
    tmp_path: Path, cache: Path
) -> None:
    def stop(records: Path) -> None:
        machine = MeasuringMachine(
            tmp_path, interrupted="session c", left_off={"session a": {"mine": "diverged"}}
        )
        with pytest.raises(KeyboardInterrupt):
            run_fleet(make_jobs(), machine, records, lambda line: None)

    stop(tmp_path / "one")
    machine = MeasuringMachine(tmp_path, version="-again")
    run_fleet(make_jobs(), machine, tmp_path / "one", lambda line: None)
    assert machine.begun == ["session a", "session c"], "a system of the first was left off"

    stop(tmp_path / "two")
    machine = MeasuringMachine(tmp_path, version="-between")
    run_fleet(make_jobs("another fleet"), machine, tmp_path / "two", lambda line: None)
    machine = MeasuringMachine(tmp_path, version="-again")
    run_fleet(make_jobs(), machine, tmp_path / "two", lambda line: None)
    assert machine.begun == ["session a", "session c"], "whatever other fleets did meanwhile"

    stop(tmp_path / "two")
    machine = MeasuringMachine(tmp_path, version="-again")
    run_fleet(make_jobs("other systems"), machine, tmp_path / "two", lambda line: None)
    assert len(machine.begun) == 3

    stop(tmp_path / "three")
    shutil.rmtree(tmp_path / "three" / "session-b")
    machine = MeasuringMachine(tmp_path, version="-again")
    run_fleet(make_jobs(), machine, tmp_path / "three", lambda line: None)
    assert len(machine.begun) == 3


def test_a_build_that_failed_leaves_its_system_off_on_its_task_alone(project: Path) -> None:
    sentiment, boolq = get_task("sentiment"), get_task("boolq")
    plan = make_plan(load_systems(project, ["majority", "onnx-int8"]), [sentiment, boolq])
    lost = next(
        part
        for part in plan.systems
        if (part.system.name, part.task.name) == ("onnx-int8", "boolq")
    )
    (finetune, *_, quantize) = lost.steps
    for step in (finetune, quantize):
        job = Job("build", BuildRequest.model_construct(key=step.key))
        ((planned, reason),) = find_failed(plan, [job], Progress(failed={"build": "diverged"}))
        assert planned is lost
        assert reason == "build: diverged"
    assert find_failed(plan, [job], Progress(done={"build": ""})) == []
