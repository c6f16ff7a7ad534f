"""The part of a fleet that runs on its machines: `python -m harness.fleet.node RECORDS.zip`.

It takes one request from standard input and prints the reply. A process of its own has neither the
threads nor the environment variables of Ray's workers.
"""

import os
import platform
import shutil
import signal
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from pydantic import TypeAdapter

from harness.build import build_missing
from harness.errors import BuildError, HarnessError
from harness.fleet.project import DATA, open_project
from harness.fleet.requests import BuildRequest, Reply, SessionRequest, compute_code_digest
from harness.progress import Log
from harness.results.record import (
    Timing,
    find_record_paths,
    read_record,
    read_side_file,
    write_record,
)
from harness.runner.config import SMOKE, RunConfig
from harness.runner.evaluate import has_custom_code
from harness.runner.session import measure
from harness.store import shared
from harness.store.cache import hold_lock
from harness.submissions.lookup import add_references, get_system
from harness.submissions.plan import Plan, PlannedSystem, make_plan, plan_system
from harness.tasks.registry import get_suite, get_task
from harness.tasks.task import Task
from harness.telemetry.configuration import Configuration, choose_configuration, configurations
from harness.worker import sandbox

AnyRequest = BuildRequest | SessionRequest

LOCK = "fleet-session"
"""Held on a machine while a session is measured."""


class RefusalError(HarnessError):
    """No job can be done on this machine."""


def handle(request: AnyRequest, archive: Path, log: Log) -> Reply:
    """Do what a request says.

    Args:
        request: the request.
        archive: where the records of a session are written.
        log: takes lines of progress.

    Raises:
        RefusalError: this machine can do no job.
        HarnessError: the job cannot be done.
    """
    if request.code != compute_code_digest():
        raise RefusalError("wattbench is another version here. Install the same one everywhere.")
    if request.store:
        os.environ[shared.VARIABLE] = request.store
    try:
        project = open_project(request.project)
    except HarnessError as error:
        raise RefusalError(str(error)) from None
    os.environ["WATTBENCH_DATA"] = str(project / DATA)
    os.chdir(project)
    address = request.task
    task = get_task(str(project / DATA / address) if address.endswith(".toml") else address)
    if isinstance(request, BuildRequest):
        _build(request, project, task, log)
        return Reply(host=platform.node())
    return _measure(request, project, task, archive, log)


def _build(request: BuildRequest, project: Path, task: Task, log: Log) -> None:
    planned = plan_system(get_system(request.system, project), task, request.seed)
    keys = [step.key for step in planned.steps]
    if request.key not in keys:  # another instruction set: a session builds it on its machine
        log(f"{request.system}: this machine builds other artifacts than the one that planned")
        return
    steps = planned.steps[: keys.index(request.key) + 1]
    plan = Plan((replace(planned, steps=steps),))
    build_missing(plan, choose_build_configuration(request.cores), log)


def choose_build_configuration(cores: int) -> Configuration:
    """Return the largest CPU configuration with at most so many cores; 0 for all there are."""
    if not cores:
        return choose_configuration()
    known = [part for part in configurations().values() if part.device == "cpu"]
    fitting = [part for part in known if part.cores <= cores and not part.find_misfit()]
    return fitting[-1] if fitting else choose_configuration()


def _measure(request: SessionRequest, project: Path, task: Task, archive: Path, log: Log) -> Reply:
    configuration, suite = choose_configuration(request.configuration), get_suite(request.suite)
    named = [get_system(name, project) for name in request.systems]
    systems = add_references(named, suite, project)
    plan = make_plan(systems, [task], request.seed, request.seeds, request.points)
    required = (suite.reference, suite.unpadded_reference)
    kept: list[PlannedSystem] = []
    left_off: dict[str, str] = {}
    for planned in plan.systems:
        reason = _find_obstacle(planned, request) or _try_build(planned, configuration, log)
        if not reason:
            kept.append(planned)
        elif planned.system.name in required:
            raise HarnessError(f"{planned.system.name}: {reason}")
        else:
            left_off[planned.system.name] = reason
    config = RunConfig(
        request.blocks,
        server=request.server,
        isolation="sandbox"
        if any(has_custom_code(part.system) for part in kept)
        else request.isolation,
        timing=SMOKE if request.smoke else Timing(),
    )
    with tempfile.TemporaryDirectory() as temporary, hold_lock(LOCK):
        results = Path(temporary)
        session = measure(Plan(tuple(kept)), suite, configuration, results, config, log)
        for path in find_record_paths(results / "records"):
            _name_inputs(path, results / "records", request)
        shutil.make_archive(str(archive.with_suffix("")), "zip", results / "records")
    return Reply(host=platform.node(), session=session, left_off=left_off)


def _find_obstacle(planned: PlannedSystem, request: SessionRequest) -> str:
    """Return why a system is not to be built or measured on this machine, or ''."""
    if has_custom_code(planned.system) and sandbox.check_sandbox():
        return (
            "custom code runs in the sandbox alone, and this machine has none. Install bubblewrap."
        )
    failed = [step.use for step in planned.steps if step.key in request.failed]
    return f"its step {failed[0]} could not be built" if failed else ""


def _try_build(planned: PlannedSystem, configuration: Configuration, log: Log) -> str:
    """Build a system if it is missing, and return why it cannot be built, or ''."""
    try:
        build_missing(Plan((planned,)), configuration, log)
    except BuildError as error:
        return str(error)
    return ""


def _name_inputs(path: Path, records: Path, request: SessionRequest) -> None:
    """Let a record name task, system and code as they are where the fleet was started."""
    record = read_record(path)
    name = str(record.system["name"]).partition("@")[0]
    record.inputs = request.inputs[name]
    if name in request.digests:
        record.system["code"] = request.digests[name]
    write_record(record, read_side_file(path), records)


def end_with_parent() -> None:
    """End this process and its children when the process that started it has died."""
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(1.0)
    os.killpg(0, signal.SIGKILL)


def main(archive: str) -> int:
    """Handle the request that comes from standard input; print the reply."""
    threading.Thread(target=end_with_parent, daemon=True).start()
    with suppress(PermissionError):  # Ray's workers have a lower priority, unless it is told
        os.setpriority(os.PRIO_PROCESS, 0, 0)

    def log(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    request: AnyRequest = TypeAdapter(AnyRequest).validate_json(sys.stdin.read())
    try:
        reply = handle(request, Path(archive), log)
    except HarnessError as error:
        is_refusal = isinstance(error, RefusalError)
        reply = Reply(error=str(error), refused=is_refusal, host=platform.node())
    print(reply.model_dump_json())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
