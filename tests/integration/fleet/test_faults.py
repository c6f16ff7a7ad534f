"""What may go wrong between machines: nothing is lost, and the same command goes on."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from harness import build as build_module
from harness.fleet.cluster import read_reply, run_request
from harness.fleet.fleet import (
    FleetConfig,
    list_build_jobs,
    list_session_jobs,
    publish_plan,
    run_fleet,
    upload_built,
)
from harness.fleet.jobs import Ended, Job, Progress
from harness.results import record
from harness.store import shared
from harness.store.cache import artifact_dir
from harness.submissions.plan import Plan
from harness.tasks.registry import get_suite
from harness.tasks.task import Task
from tests.support.machines import Fault, MachinesInTurn, Work, handle
from tests.support.systems import (
    build_all,
    copy_example,
    measure,
    plan_systems,
)

CONFIGURATION = "cpu-1"
NAMES = ["onnx-int8", "tfidf-logreg", "majority"]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    monkeypatch.setenv(shared.VARIABLE, f"file://{folder}")
    return folder


@pytest.fixture
def caches(tmp_path: Path, sources: Path) -> list[Path]:
    """Those of three machines, which hold no artifacts."""
    folders = [tmp_path / name for name in ("one", "two", "three")]
    for folder in folders:
        folder.mkdir()
    return folders


def list_jobs(plan: Plan, store: Path) -> list[Job]:
    config = FleetConfig((CONFIGURATION,), f"file://{store}", cores=1, blocks=1, smoke=True)
    project = publish_plan(plan)
    builds = list_build_jobs(plan, project, config)
    return [*builds, *list_session_jobs(plan, get_suite("quick"), project, config, builds)]


def find_artifacts(store: Path, job: Job) -> list[Path]:
    """Return the files of a job's artifact in the store, the largest first."""
    folder = store / "artifacts" / job.request.key
    files = [path for path in folder.rglob("*") if path.is_file()]
    return sorted(files, key=lambda path: -path.stat().st_size)


def die(job: Job, work: Work) -> Ended:
    return Ended(job.name)


def die_after_the_work(job: Job, work: Work) -> Ended:
    work()
    return Ended(job.name)


def kill(job: Job, work: Work) -> Ended:
    """Kill the process while it works, as the kernel does where memory is short."""
    is_over = threading.Event()
    orphans: list[psutil.Process] = []

    def kill_soon() -> None:
        while not is_over.wait(0.05):
            for process in psutil.Process().children():
                with suppress(psutil.NoSuchProcess):  # it ended, or is a zombie of another test
                    if "harness.fleet.node" not in process.cmdline():
                        continue
                    builds = [
                        child for child in process.children() if "harness.build" in child.cmdline()
                    ]
                    if builds:
                        orphans.extend(builds)
                        process.kill()
                        return

    thread = threading.Thread(target=kill_soon)
    thread.start()
    try:
        ended = work()
    finally:
        is_over.set()
        thread.join()
    assert ended == Ended(job.name)
    _, alive = psutil.wait_procs(orphans, timeout=10)
    assert orphans
    assert not alive
    return ended


def damage(store: Path) -> Fault:
    """Change a byte of what the machine has written to the store."""

    def fault(job: Job, work: Work) -> Ended:
        ended = work()
        largest = find_artifacts(store, job)[0]
        content = bytearray(largest.read_bytes())
        content[len(content) // 2] ^= 1
        largest.write_bytes(content)
        return ended

    return fault


def truncate(store: Path) -> Fault:
    """Cut off what the machine has written to the store."""

    def fault(job: Job, work: Work) -> Ended:
        ended = work()
        largest = find_artifacts(store, job)[0]
        largest.write_bytes(largest.read_bytes()[:-10])
        return ended

    return fault


def lose_store(store: Path) -> Fault:
    """Let the store be away while the machine works."""

    def fault(job: Job, work: Work) -> Ended:
        away = store.with_name("away")
        store.rename(away)
        store.write_text("not a folder")
        try:
            return work()
        finally:
            store.unlink()
            away.rename(store)

    return fault


def damage_records(job: Job, work: Work) -> Ended:
    ended = work()
    reply, archive = ended.reply
    return Ended(job.name, (reply, archive[: len(archive) // 2]))


def print_nonsense(job: Job, work: Work) -> Ended:
    return read_reply(job.name, "Segmentation fault", b"")


def run(
    plan: Plan, store: Path, caches: list[Path], records: Path, **faults: Fault
) -> tuple[Progress, MachinesInTurn, list[str]]:
    lines: list[str] = []
    machines = MachinesInTurn(caches, faults)
    progress = run_fleet(
        list_jobs(plan, store), machines, records, lambda line: lines.append(str(line))
    )
    assert not machines.faults, "each one happened"
    return progress, machines, lines


def measure_here(project: Path, task: Task, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Measure with what the store holds, and build nothing."""
    names = [*NAMES, "minilm-l6", "minilm-l6-unpadded", "null"]
    monkeypatch.setattr(build_module, "_run_step", None)
    build_all(project, names, task)
    session = measure(project, names, task)
    folder = project / "results" / "records" / session / "reviews" / "offline"
    return {path.stem: record.read_record(path).score for path in folder.glob("*.json")}


@pytest.mark.slow
def test_nothing_is_lost_whatever_goes_wrong(
    tmp_path: Path,
    project: Path,
    reviews: Task,
    store: Path,
    caches: list[Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan, records = plan_systems(project, NAMES, reviews), tmp_path / "records"
    progress, machines, lines = run(
        plan,
        store,
        caches[:2],
        records,
        finetune=kill,
        export=damage(store),
        quantize=lose_store(store),
        majority=truncate(store),
        session=damage_records,
        **{"tfidf-logreg": die_after_the_work},
    )
    (failed,) = progress.failed
    assert failed == f"session reviews {CONFIGURATION}"
    assert any(f"failed: {failed}" in line for line in lines)
    assert not records.exists()
    again = {kind for kind in machines.begun if machines.begun.count(kind) > 1}
    assert again == {"finetune", "tfidf-logreg"}

    progress, machines, _ = run(plan, store, caches[2:], records, session=die)
    assert not progress.failed
    assert machines.begun.count("session") == 2
    assert set(machines.begun) == {"session"}, "all else is in the store"
    (session,) = records.iterdir()
    there = {path.stem: record.read_record(path) for path in session.glob("reviews/offline/*.json")}
    assert [row.failure for row in there.values()] == [None] * 6
    assert {name: row.score for name, row in there.items()} == measure_here(
        project, reviews, monkeypatch
    )


def test_what_is_built_here_is_not_built_there(
    tmp_path: Path,
    project: Path,
    reviews: Task,
    store: Path,
    caches: list[Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan = plan_systems(project, ["majority"], reviews)
    with monkeypatch.context() as patch:
        patch.delenv(shared.VARIABLE)
        build_all(project, ["majority", "minilm-l6"], reviews)
    student = list_jobs(plan_systems(project, ["fastformers"], reviews), store)
    kinds = ["distill", "vocabulary", "prune", "distill", "export", "quantize", "session"]
    assert [job.name.split()[0] for job in student] == kinds, "its teacher is built"
    assert upload_built(plan) == 2
    assert upload_built(plan) == 0
    progress, machines, _ = run(plan, store, caches, tmp_path / "records")
    assert machines.begun == ["session"]
    assert not progress.failed
    for key in plan.steps:
        there = caches[0] / "artifacts" / key / "artifact.json"
        assert there.read_bytes() == (artifact_dir(key) / "artifact.json").read_bytes()


def test_what_could_not_be_built_is_not_built_again_by_the_session(
    tmp_path: Path, project: Path, reviews: Task, store: Path, caches: list[Path]
) -> None:
    plan, records = plan_systems(project, ["onnx-int8"], reviews), tmp_path / "records"
    progress, _, lines = run(plan, store, caches[:1], records, export=print_nonsense)
    assert [name.split()[0] for name in progress.failed] == ["export", "quantize"]
    assert any("returned no reply: 'Segmentation fault'" in line for line in lines)
    (line,) = (line for line in lines if line.startswith("left off: onnx-int8"))
    assert line.endswith("its step export could not be built")
    progress, machines, _ = run(plan, store, caches[:1], records)
    assert machines.begun == ["export", "quantize", "session"]
    assert not progress.failed


def test_a_reference_that_could_not_be_built_fails_the_session(
    tmp_path: Path, project: Path, reviews: Task, store: Path, caches: list[Path]
) -> None:
    plan, records = plan_systems(project, [], reviews), tmp_path / "records"
    progress, _, _ = run(plan, store, caches[:1], records, finetune=print_nonsense)
    _, reason = progress.failed.values()
    assert reason == "minilm-l6: its step finetune could not be built"
    assert not records.exists()


def test_custom_code_is_refused_without_a_sandbox(
    tmp_path: Path,
    project: Path,
    reviews: Task,
    store: Path,
    caches: list[Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    copy_example(project)
    plan = plan_systems(project, ["custom-module"], reviews)
    jobs = {job.name.split()[0]: job for job in list_jobs(plan, store)}
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    ended = handle(jobs["session"], caches[0])
    assert ended.error == ""
    (reason,) = ended.reply[0].left_off.values()
    assert "custom code runs in the sandbox alone" in reason
    assert "Install bubblewrap" in reason


def test_two_machines_that_build_the_same_key_agree_in_the_end(
    project: Path,
    reviews: Task,
    store: Path,
    caches: list[Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan = plan_systems(project, [], reviews)
    finetune, _ = list_jobs(plan, store)
    with ThreadPoolExecutor() as pool:
        running = []
        for cache in caches[:2]:
            monkeypatch.setenv("WATTBENCH_CACHE", str(cache))
            running.append(pool.submit(run_request, finetune.request.model_dump_json()))
            time.sleep(1)  # the process has its environment
        ends = [read_reply("finetune", *job.result()) for job in running]
    assert [ended.error for ended in ends] == ["", ""]
    monkeypatch.setenv("WATTBENCH_CACHE", str(caches[2]))
    (step,) = plan.steps.values()
    assert shared.fetch_folder(artifact_dir(step.key)), "whole, of one of both"
