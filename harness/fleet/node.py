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
from harness.runner.session import measure
from harness.store import shared
from harness.store.cache import hold_lock
from harness.submissions.lookup import add_references, get_system
from harness.submissions.plan import Plan, make_plan, plan_system
from harness.tasks.registry import get_suite, get_task
from harness.tasks.task import Task
from harness.telemetry.configuration import Configuration, choose_configuration, configurations
from harness.worker import sandbox

AnyRequest = BuildRequest | SessionRequest

LOCK = "fleet-session"
"""Held on a machine while a session is measured."""


def handle(request: AnyRequest, archive: Path, log: Log) -> Reply:
    """Do what a request says.

    Args:
        request: the request.
        archive: where the records of a session are written.
        log: takes lines of progress.

    Raises:
        HarnessError: it cannot be done.
    """
    if request.code != compute_code_digest():
        raise HarnessError("wattbench is another version here. Install the same one everywhere.")
    if request.store:
        os.environ[shared.VARIABLE] = request.store
    project = open_project(request.project)
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
    """Return the largest CPU configuration with at most so many cores."""
    known = [part for part in configurations().values() if part.device == "cpu"]
    fitting = [part for part in known if part.cores <= cores and not part.find_misfit()]
    return fitting[-1] if fitting else choose_configuration()


def _measure(request: SessionRequest, project: Path, task: Task, archive: Path, log: Log) -> Reply:
    configuration, suite = choose_configuration(request.configuration), get_suite(request.suite)
    named = [get_system(name, project) for name in request.systems]
    systems = add_references(named, suite, project)
    plan = make_plan(systems, [task], request.seed, request.seeds, request.points)
    required = (suite.reference, suite.unpadded_reference)
    custom = _find_custom(plan)
    if custom and sandbox.check_sandbox():
        raise HarnessError(
            f"{', '.join(custom)}: custom code runs in the sandbox alone, and this machine has "
            "none. Install bubblewrap."
        )
    kept, left_off = [], {}
    for planned in plan.systems:
        try:
            build_missing(Plan((planned,)), configuration, log)
            kept.append(planned)
        except BuildError as error:
            if planned.system.name in required:
                raise
            left_off[planned.system.name] = str(error)
    config = RunConfig(
        request.blocks,
        server=request.server,
        isolation="sandbox" if custom else request.isolation,
        timing=SMOKE if request.smoke else Timing(),
    )
    with tempfile.TemporaryDirectory() as temporary, hold_lock(LOCK):
        results = Path(temporary)
        session = measure(Plan(tuple(kept)), suite, configuration, results, config, log)
        for path in find_record_paths(results / "records"):
            _name_inputs(path, results / "records", request)
        shutil.make_archive(str(archive.with_suffix("")), "zip", results / "records")
    return Reply(host=platform.node(), session=session, left_off=left_off)


def _name_inputs(path: Path, records: Path, request: SessionRequest) -> None:
    """Let a record name task and system as they are called where the fleet was started."""
    record = read_record(path)
    record.inputs = request.inputs[str(record.system["name"]).partition("@")[0]]
    write_record(record, read_side_file(path), records)


def _find_custom(plan: Plan) -> list[str]:
    """Return the names of the systems that are served by custom code."""
    return [
        planned.system.name
        for planned in plan.main_systems
        if planned.system.serve["offline"].module or planned.system.serve["offline"].command
    ]


def end_with_parent() -> None:
    """End this process and its children when the process that started it has died."""
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(1.0)
    os.killpg(0, signal.SIGKILL)


def main(archive: str) -> int:
    """Handle the request that comes from standard input; print the reply."""
    threading.Thread(target=end_with_parent, daemon=True).start()

    def log(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    request: AnyRequest = TypeAdapter(AnyRequest).validate_json(sys.stdin.read())
    try:
        reply = handle(request, Path(archive), log)
    except HarnessError as error:
        reply = Reply(error=str(error), host=platform.node())
    print(reply.model_dump_json())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
