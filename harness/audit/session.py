"""The audit of a submission: does it answer as it was measured to answer, and from the text?

Every probe starts fresh workers, in the same sandbox as in a session. RULES.md says what follows.
"""

import glob
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from harness.audit.carried import probe_carried_split
from harness.audit.context import AuditContext, ProbeResult
from harness.audit.probes import (
    probe_artifact,
    probe_closed_division,
    probe_order,
    probe_perturbed_text,
    probe_single_queries,
    probe_text,
    probe_training_text,
)
from harness.audit.repeats import probe_repeats
from harness.errors import HarnessError, WorkerError
from harness.results import record
from harness.results.record import Timing
from harness.runner.config import RunConfig
from harness.runner.evaluate import EvalData, RunContext, SystemRun, has_custom_code
from harness.submissions.manifest import System
from harness.submissions.plan import find_artifact
from harness.tasks.task import Task
from harness.telemetry.configuration import Configuration
from harness.telemetry.energy import EnergyMeter
from harness.worker import sandbox

PROBES: dict[str, Callable[[AuditContext], ProbeResult | None]] = {
    "order": probe_order,
    "timed": probe_single_queries,
    "repeats": probe_repeats,
    "text": probe_text,
    "perturbed": probe_perturbed_text,
    "training": probe_training_text,
    "carried": probe_carried_split,
    "closed": probe_closed_division,
}
"""By the names that records state."""


def audit_submission(
    system: System,
    task: Task,
    configuration: Configuration,
    root: Path,
    seed: int,
    config: RunConfig = RunConfig(),
    log: Callable[[str], None] = print,
) -> list[ProbeResult]:
    """Audit a built submission on a task.

    Args:
        system: the submission.
        task: a task that it declares.
        configuration: the hardware setting.
        root: the folder that holds baselines/ and submissions/.
        seed: the training seed.
        config: its isolation and timing are used.
        log: takes each result as a line.

    Raises:
        HarnessError: the system is not built, or does not declare the task.
    """
    custom = [system.name] if has_custom_code(system) else []
    isolation = sandbox.choose_isolation(config.isolation, custom, log)
    return _audit_isolated(system, task, configuration, root, seed, isolation, config.timing, log)


def audit_session(
    systems: Sequence[System],
    tasks: Sequence[Task],
    configuration: Configuration,
    root: Path,
    seed: int,
    timing: Timing,
    session: Path,
    log: Callable[[str], None] = print,
) -> None:
    """Audit every submission that a session measured, and state the verdict in its records.

    Args:
        systems: the systems of the session; baselines are not audited.
        tasks: the tasks of the session.
        configuration: the hardware setting.
        root: the folder that holds baselines/ and submissions/.
        seed: the training seed.
        timing: lengths of the probes' phases.
        session: the folder of the session's records. They also state the isolation to use.
        log: takes each result as a line.
    """
    for task in tasks:
        for system in systems:
            paths = sorted(session.glob(f"{task.name}/*/{glob.escape(system.name)}.json"))
            first = record.read_record(paths[0]) if paths else None
            if system.folder.parent.name == "baselines" or first is None or first.failure:
                continue
            isolation = str(first.machine["isolation"])
            results = _audit_isolated(
                system, task, configuration, root, seed, isolation, timing, log
            )
            verdict = {
                "passed": all(result.passed is not False for result in results),
                "probes": {result.probe: str(result).partition(": ")[2] for result in results},
                "failed": [result.probe for result in results if result.passed is False],
            }
            for path in paths:
                audited = replace(record.read_record(path), audit=verdict)
                record.write_record(audited, record.read_side_file(path), session.parent)


def _audit_isolated(
    system: System,
    task: Task,
    configuration: Configuration,
    root: Path,
    seed: int,
    isolation: str,
    timing: Timing,
    log: Callable[[str], None],
) -> list[ProbeResult]:
    meter = EnergyMeter(configuration)
    log(f"audit of {system.name} on {task.name} ({configuration.name}, isolation: {isolation})")
    results = []
    try:
        data = EvalData.load(task)
        context = RunContext(data, configuration, meter, isolation=isolation, timing=timing)
        for result in _run_probes(system, task, context, root, seed):
            log(str(result))
            results.append(result)
    finally:
        meter.close()
    return results


def _run_probes(
    system: System, task: Task, context: RunContext, root: Path, seed: int
) -> Iterator[ProbeResult]:
    """Yield one result per probe; a worker that fails is a result, too."""
    if not system.declares_task(task):
        raise HarnessError(f"{system.name} does not declare {task.name}. Add it to its `tasks`.")
    run = SystemRun(system, task, find_artifact(system, task, seed, root), {})
    yield probe_artifact(run, root, seed)
    try:
        audit = AuditContext(run, context, root, seed)
    except WorkerError as error:
        yield ProbeResult("answers", False, str(error))
        return
    for name, probe in PROBES.items():
        try:
            result = probe(audit)
        except WorkerError as error:
            result = ProbeResult(name, False, str(error))
        if result is not None:
            yield result
