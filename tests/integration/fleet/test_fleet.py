"""A fleet of two machines: Ray nodes on this one, each with a cache of its own, and one store."""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness import build as build_module
from harness.fleet.cluster import LocalCluster, RayMachines
from harness.fleet.fleet import (
    FleetConfig,
    list_build_jobs,
    list_session_jobs,
    publish_plan,
    run_fleet,
)
from harness.fleet.jobs import Job, Progress, run_jobs
from harness.optimize.training import schedule
from harness.results import record
from harness.schema import Schema
from harness.store import shared
from harness.submissions.plan import Plan
from harness.tasks.registry import get_suite
from harness.tasks.task import Task
from tests.conftest import MIN_UPDATES
from tests.support.systems import (
    build_all,
    measure,
    plan_systems,
    quiet,
    write_submission,
)

CONFIGURATION = "cpu-1"


JOBS = 200


class ProbeRequest(Schema):
    """A request that asks for nothing."""


@pytest.fixture(autouse=True)
def usual_updates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings are as long here as on the machines, which tests cannot change."""
    monkeypatch.setattr(schedule, "MIN_UPDATES", MIN_UPDATES)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    address = f"file://{tmp_path}/store"
    monkeypatch.setenv(shared.VARIABLE, address)
    return address


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    cluster = LocalCluster(1, CONFIGURATION)
    yield cluster
    cluster.close()


@pytest.fixture
def nodes(cluster: LocalCluster, tmp_path: Path) -> list[Any]:
    """Two machines, each with an empty cache."""
    return [cluster.add_node(WATTBENCH_CACHE=str(tmp_path / name)) for name in ("one", "two")]


@pytest.fixture
def machines(cluster: LocalCluster, nodes: list[Any]) -> Iterator[RayMachines]:
    machines = RayMachines(cluster.address)
    yield machines
    machines.close()


def run(
    plan: Plan,
    store: str,
    machines: RayMachines,
    records: Path,
    log: Callable[[str], None] = quiet,
) -> Progress:
    """Build and measure with short windows; return how the jobs ended."""
    config = FleetConfig((CONFIGURATION,), store, cores=1, blocks=1, smoke=True)
    project = publish_plan(plan)
    builds = list_build_jobs(plan, project, config)
    sessions = list_session_jobs(plan, get_suite("quick"), project, config, builds)
    return run_fleet([*builds, *sessions], machines, records, log)


def find_processes(folder: Path) -> list[psutil.Process]:
    """Return the processes that handle requests with a cache in a folder."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if "harness.fleet.node" in (process.info["cmdline"] or ()):
            with suppress(psutil.NoSuchProcess):
                if process.environ().get("WATTBENCH_CACHE", "").startswith(str(folder)):
                    found.append(process)
    return found


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def find_records(records: Path) -> dict[str, Path]:
    """Return the records of `offline` by system; there is one session."""
    return {path.stem: path for path in records.glob("*/reviews/offline/*.json")}


def test_two_machines_build_and_measure_what_one_does(
    tmp_path: Path,
    project: Path,
    reviews: Task,
    store: str,
    machines: RayMachines,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = ["onnx-int8", "majority"]
    plan = plan_systems(project, names, reviews)
    progress = run(plan, store, machines, tmp_path / "records")
    assert not progress.failed
    paths = find_records(tmp_path / "records")
    assert paths.keys() == {*names, "minilm-l6", "minilm-l6-unpadded", "null"}
    monkeypatch.setattr(build_module, "_run_step", None)  # all of it comes from the store
    build_all(project, list(paths), reviews)
    session = measure(project, list(paths), reviews)
    for path in paths.values():
        here = project / "results" / "records" / session / "reviews" / "offline" / path.name
        there = record.read_record(path)
        assert there.failure is None
        assert there.score == record.read_record(here).score
    assert list_build_jobs(plan, publish_plan(plan), FleetConfig((), store, cores=1)) == []


@pytest.mark.parametrize("job", ["finetune", "session"])
def test_a_job_whose_machine_dies_is_done_on_the_other_one(
    job: str,
    tmp_path: Path,
    project: Path,
    reviews: Task,
    store: str,
    cluster: LocalCluster,
    nodes: list[Any],
    machines: RayMachines,
) -> None:
    killed: list[str] = []

    def kill(line: str) -> None:
        if f"running: {job}" in line and not killed:
            wait_for(lambda: find_processes(tmp_path))
            (node_id,) = {node_id for _, node_id in machines._running.values()}
            killed.append(node_id)
            cluster.remove_node(next(node for node in nodes if node.node_id == node_id))

    progress = run(plan_systems(project, [], reviews), store, machines, tmp_path / "records", kill)
    assert killed
    assert not progress.failed
    (name,) = (name for name in progress.tries if name.startswith(job))
    assert progress.tries[name] == 2
    paths = find_records(tmp_path / "records")
    assert paths.keys() == {"minilm-l6", "minilm-l6-unpadded", "null"}
    assert all(len(record.read_record(path).rounds) == 1 for path in paths.values())


def test_a_system_that_cannot_be_built_fails_alone(
    tmp_path: Path, project: Path, reviews: Task, store: str, machines: RayMachines
) -> None:
    write_submission(
        project,
        '[[step]]\nuse = "distill"\nlayers = [1]\nlearning_rate = 1e30',
        'engine = "pytorch"',
    )
    lines: list[str] = []
    plan = plan_systems(project, ["mine"], reviews)
    progress = run(plan, store, machines, tmp_path / "records", lines.append)
    assert [name.split()[0] for name in progress.failed] == ["distill"]
    assert any("failed: distill reviews" in line and "learning_rate" in line for line in lines)
    assert any(line.startswith("left off: mine in session reviews cpu-1") for line in lines)
    assert "mine" not in find_records(tmp_path / "records")
    assert "minilm-l6" in find_records(tmp_path / "records")


def test_a_machine_with_other_code_refuses(
    tmp_path: Path,
    project: Path,
    reviews: Task,
    store: str,
    machines: RayMachines,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("harness.fleet.fleet.compute_code_digest", lambda: "0" * 64)
    progress = run(plan_systems(project, [], reviews), store, machines, tmp_path / "records")
    assert not progress.done
    assert any("wattbench is another version here" in why for why in progress.failed.values())


def test_many_jobs_go_to_few_machines(cluster: LocalCluster, nodes: list[Any]) -> None:
    machines = RayMachines(cluster.address, lambda request: ('{"host": "vm"}', b""))
    try:
        request = ProbeRequest()
        jobs = [Job(str(number), request) for number in range(JOBS)]
        jobs += [Job("last", request, waits=frozenset(job.name for job in jobs))]
        progress = run_jobs(jobs, machines)
    finally:
        machines.close()
    assert len(progress.done) == JOBS + 1
    assert set(progress.tries.values()) == {1}
