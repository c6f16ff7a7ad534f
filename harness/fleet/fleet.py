"""Builds a plan on a cluster, measures its sessions there, and collects the records."""

import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.errors import HarnessError
from harness.fleet.jobs import Executor, Job, Progress, run_jobs
from harness.fleet.project import PublishedProject, get_folder, publish_project
from harness.fleet.requests import BuildRequest, Reply, SessionRequest, compute_code_digest
from harness.fleet.status import get_status_file, read_complete_sessions, write_status
from harness.kit.records import Limits, add_records
from harness.progress import Log, ProgressLine
from harness.runner.evaluate import has_custom_code
from harness.runner.records import describe_inputs
from harness.store import shared
from harness.store.cache import artifact_dir, cache_dir, digest, folder_digest
from harness.submissions.build_time import estimate_build_seconds
from harness.submissions.plan import Plan, PlannedStep, PlannedSystem
from harness.tasks.suites import Suite
from harness.tasks.task import Task

SESSION_SECONDS = 600.0
"""How long a session of a task takes, for the order of jobs."""

STATUS_SECONDS = 1.0
"""How often it is written where the jobs stand, unless a session is complete."""

NAMED = 4
"""How many running jobs a line of progress names."""

RECORD_LIMITS = Limits(archive_bytes=1 << 30, unpacked_bytes=8 << 30, files=200_000)
"""A session of 3,000 systems has 12,000 files of 150 MB."""


@dataclass(frozen=True)
class FleetConfig:
    """How a fleet measures.

    Attributes:
        configurations: the names of the configurations; each task is measured under each.
        store: the address of the shared store; '' for the cache alone.
        cores: cores of a build; 0 for all that a machine has.
        blocks: the least number of blocks of a session.
        seed: the first training seed.
        seeds: the number of training seeds.
        points: systems that are measured at their operating points; None for all.
        server: whether the scenario `server` is measured too.
        isolation: one of `sandbox.CHOICES`.
        smoke: whether windows are short.
    """

    configurations: tuple[str, ...]
    store: str
    cores: int = 0
    blocks: int = 5
    seed: int = 0
    seeds: int = 1
    points: tuple[str, ...] | None = None
    server: bool = False
    isolation: str = "auto"
    smoke: bool = False


def list_build_jobs(plan: Plan, project: PublishedProject, config: FleetConfig) -> list[Job]:
    """Return a job for each step that neither the cache nor the shared store has.

    Args:
        plan: the systems on their tasks.
        project: where the machines find both.
        config: how the fleet measures.
    """
    stored = _list_stored()
    missing: dict[str, PlannedStep] = {}
    owners: dict[str, PlannedSystem] = {}
    for planned in plan.systems:
        for step in planned.find_missing(lambda step: step.key in stored or step.is_built):
            missing[step.key] = step
            owners.setdefault(step.key, planned)
    seconds = estimate_build_seconds(plan.steps.values()) if missing else {}
    names = {key: f"{step.use} {owners[key].task.name} {key[:12]}" for key, step in missing.items()}
    jobs = []
    for key, step in missing.items():
        planned = owners[key]
        request = BuildRequest(
            code=compute_code_digest(),
            project=project.digest,
            store=config.store,
            task=project.tasks[planned.task.training_task.name],
            seed=planned.seed,
            system=planned.system.name.partition("@")[0],
            key=key,
            cores=config.cores,
        )
        needs = frozenset(names[other] for other in step.inputs if other in names)
        jobs.append(Job(names[key], request, needs, seconds=seconds.get(key, 0.0)))
    return jobs


def upload_built(plan: Plan) -> int:
    """Copy into the shared store what is built here and missing there, and return how much it was.

    These are the results of recipes, and what missing steps begin with.

    Args:
        plan: the systems on their tasks.
    """
    stored = _list_stored()
    keys = {planned.key for planned in plan.systems if planned.steps}
    for planned in plan.systems:
        for step in planned.find_missing(lambda step: step.key in stored or step.is_built):
            keys |= set(step.inputs)
    missing = sorted(key for key in keys - stored if artifact_dir(key).is_dir())
    for key in missing:
        shared.publish_folder(artifact_dir(key))
    return len(missing)


def _list_stored() -> set[str]:
    """Return the keys of the artifacts in the shared store, from one listing."""
    store = shared.get_shared_store()
    folders = store.list_folders(cache_dir() / "artifacts") if store else []
    return {folder.name for folder in folders}


def list_session_jobs(
    plan: Plan, suite: Suite, project: PublishedProject, config: FleetConfig, builds: Sequence[Job]
) -> list[Job]:
    """Return a job for the session of each task under each configuration.

    It begins when all builds have ended, and measures the systems that could be built.
    """
    built = {job.request.key: job.name for job in builds}
    jobs = []
    for configuration in config.configurations:
        for task in plan.tasks:
            planned = [part for part in plan.systems if part.task.name == task.name]
            steps = {step.key for part in planned for step in part.steps}
            request = SessionRequest(
                code=compute_code_digest(),
                project=project.digest,
                store=config.store,
                task=project.tasks[task.name],
                seed=config.seed,
                suite=suite.name,
                systems=tuple(
                    part.system.name for part in plan.main_systems if part.task.name == task.name
                ),
                points=config.points,
                seeds=config.seeds,
                configuration=configuration,
                blocks=config.blocks,
                server=config.server,
                isolation=config.isolation,
                smoke=config.smoke,
                inputs={
                    part.system.name.partition("@")[0]: describe_inputs(part.system, task)
                    for part in planned
                },
                digests={
                    part.system.name.partition("@")[0]: folder_digest(part.system.folder)
                    for part in planned
                    if has_custom_code(part.system)
                },
            )
            waits = frozenset(built[key] for key in steps if key in built)
            name = f"session {task.name} {configuration}"
            jobs.append(
                Job(
                    name, request, waits=waits, seconds=SESSION_SECONDS, configuration=configuration
                )
            )
    return jobs


def publish_plan(plan: Plan) -> PublishedProject:
    """Copy what the machines need to know of a plan into the shared store."""
    systems = {part.system.folder: part.system for part in plan.main_systems}
    trained = {step.task.name: step.task for step in plan.steps.values()}
    tasks: dict[str, Task] = trained | {task.name: task for task in plan.tasks}
    encoders = dict.fromkeys(step.encoder for step in plan.steps.values() if step.encoder)
    return publish_project(systems.values(), list(tasks.values()), encoders)


def check_store(project: PublishedProject) -> None:
    """Check that the shared store has a project.

    Raises:
        HarnessError: it does not, because it could not be written or read.
    """
    store = shared.get_shared_store()
    if store and not store.has(get_folder(project.digest)):
        raise HarnessError(
            f"{store.address}: the store cannot be written or read. A fleet needs one."
        )


def find_failed(
    plan: Plan, builds: Sequence[Job], progress: Progress
) -> list[tuple[PlannedSystem, str]]:
    """Return the systems, each on a task, that could not be built, with the reason.

    Args:
        plan: the systems on their tasks.
        builds: the jobs that were to build what was missing.
        progress: how they ended.
    """
    reasons = {
        job.request.key: f"{job.name}: {progress.failed[job.name]}"
        for job in builds
        if job.name in progress.failed
    }
    failed = []
    for planned in plan.systems:
        found = [reasons[step.key] for step in planned.steps if step.key in reasons]
        if found and not planned.is_built:
            failed.append((planned, found[0]))
    return failed


def run_fleet(jobs: Sequence[Job], executor: Executor, records: Path, log: Log) -> Progress:
    """Run jobs, and add the records of sessions as they come back.

    If a fleet with the same sessions was stopped, or something failed in it, then the sessions that
    it has measured whole are not measured again.

    Args:
        jobs: builds and sessions.
        executor: the machines.
        records: the folder of the sessions.
        log: takes lines of progress.

    Returns:
        How the jobs ended.
    """
    started = time.monotonic()
    run = _Run(jobs, records, log)
    progress = run_jobs(run.jobs, executor, run.report, run.accept, run.prepare)
    run.report(progress)
    log(
        f"{len(progress.done)} jobs done, {len(progress.failed)} failed "
        f"({time.monotonic() - started:.0f} s)"
    )
    return progress


class _Run:
    """What happens around the jobs of a fleet: requests, records, status and lines of progress.

    Args:
        jobs: builds and sessions.
        records: the folder of the sessions.
        log: takes lines of progress.

    Attributes:
        jobs: those that no earlier fleet with these sessions has done.
    """

    def __init__(self, jobs: Sequence[Job], records: Path, log: Log) -> None:
        self._records, self._log, self._began = records, log, time.time()
        self._hashes = {job.name: digest(job.request.model_dump(mode="json")) for job in jobs}
        self._keys = {job.name: job.request.key for job in jobs if not _is_session(job)}
        sessions = sorted(self._hashes[job.name] for job in jobs if _is_session(job))
        self._status = get_status_file(digest(sessions or sorted(self._hashes.values())))
        self._complete = {
            key: session
            for key, session in read_complete_sessions(self._status).items()
            if (records / session).is_dir()
        }
        for job in jobs:
            if session := self._complete.get(self._hashes[job.name]):
                log(f"measured before: {job.name}: session {session}")
        self.jobs = [job for job in jobs if self._hashes[job.name] not in self._complete]
        self._left_off = False
        self._ended = self._refusals = 0  # how many of them were logged
        self._written, self._saved = -math.inf, 0  # when, and with how many complete sessions

    def prepare(self, job: Job, progress: Progress) -> Job:
        """Tell a session what could not be built."""
        if not _is_session(job):
            return job
        failed = tuple(self._keys[name] for name in job.waits if name in progress.failed)
        return replace(job, request=job.request.model_copy(update={"failed": failed}))

    def accept(self, job: Job, answer: tuple[Reply, bytes]) -> str:
        """Add the records of a session; return why they are of no use, or ''."""
        reply, archive = answer
        try:
            _add(archive, self._records)
        except HarnessError as error:
            return str(error)
        if reply.left_off:
            self._left_off = True
        elif reply.session:
            self._complete[self._hashes[job.name]] = reply.session
        return ""

    def report(self, progress: Progress) -> None:
        """Log what has ended, and write where the jobs stand."""
        for reason in progress.refusals[self._refusals :]:
            self._log(f"a machine refuses: {reason}")
        for name in progress.ended[self._ended :]:
            self._report_end(name, progress)
        self._ended, self._refusals = len(progress.ended), len(progress.refusals)
        count, complete = len(self.jobs), len(self._complete)
        is_old = time.monotonic() - self._written > STATUS_SECONDS
        if is_old or self._ended == count or complete > self._saved:
            write_status(self._status, progress, self._began, self._complete, self._left_off)
            self._written, self._saved = time.monotonic(), complete
        running = _shorten(list(progress.running))
        done = self._ended / count if count else 1.0
        self._log(ProgressLine(f"{self._ended} of {count} jobs, running: {running}", done))

    def _report_end(self, name: str, progress: Progress) -> None:
        if name in progress.failed:
            self._log(f"failed: {name}: {progress.failed[name]}")
            return
        reply, _ = progress.done[name]
        progress.done[name] = reply, b""  # its records are added
        for system, reason in reply.left_off.items():
            self._log(f"left off: {system} in {name} on {reply.host}: {reason}")
        if reply.session:
            self._log(f"measured: {name} on {reply.host}: session {reply.session}")


def _shorten(names: Sequence[str]) -> str:
    rest = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return (", ".join(names[:NAMED]) or "nothing") + rest


def _is_session(job: Job) -> bool:
    """Return whether a job is a session; a build may run on any machine."""
    return bool(job.configuration)


def _add(archive: bytes, records: Path) -> None:
    if archive:
        with tempfile.TemporaryDirectory() as temporary:
            path = Path(temporary) / "records.zip"
            path.write_bytes(archive)
            add_records(path, records, RECORD_LIMITS)
