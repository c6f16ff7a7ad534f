"""The audit of a submission: does it answer as it was measured to answer, and from the text?

Every probe starts fresh workers, in the same sandbox as in a session. RULES.md says what follows.
"""

import glob
from collections.abc import Callable, Iterator
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
from harness.errors import WorkerError
from harness.progress import Log
from harness.results import record
from harness.results.record import Timing
from harness.runner.config import RunConfig
from harness.runner.evaluate import has_custom_code
from harness.runner.system_run import EvalData, RunContext, SystemRun
from harness.submissions.plan import Plan, PlannedSystem
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
    planned: PlannedSystem,
    configuration: Configuration,
    config: RunConfig = RunConfig(),
    log: Log = print,
) -> list[ProbeResult]:
    """Audit a built submission on a task.

    Args:
        planned: the submission on a task that it declares.
        configuration: the hardware setting.
        config: its isolation and timing are used.
        log: takes each result as a line.

    Raises:
        HarnessError: the system is not built, or does not declare the task.
    """
    custom = [planned.system.name] if has_custom_code(planned.system) else []
    isolation = sandbox.choose_isolation(config.isolation, custom, log)
    return _audit_isolated(planned, configuration, isolation, config.timing, log)


def audit_session(
    plan: Plan,
    configuration: Configuration,
    timing: Timing,
    session: Path,
    log: Log = print,
) -> None:
    """Audit every submission that a session measured, and state the verdict in its records.

    Args:
        plan: what the session measured; baselines, further operating points and seeds are not
            audited.
        configuration: the hardware setting.
        timing: lengths of the probes' phases.
        session: the folder of the session's records. They also state the isolation to use.
        log: takes each result as a line.
    """
    for planned in plan.main_systems:
        system, task = planned.system, planned.task
        paths = sorted(session.glob(f"{task.name}/*/{glob.escape(system.name)}.json"))
        first = record.read_record(paths[0]) if paths else None
        if system.folder.parent.name == "baselines" or first is None or first.failure:
            continue
        isolation = str(first.machine["isolation"])
        results = _audit_isolated(planned, configuration, isolation, timing, log)
        verdict = {
            "passed": all(result.passed is not False for result in results),
            "probes": {result.probe: str(result).partition(": ")[2] for result in results},
            "failed": [result.probe for result in results if result.passed is False],
        }
        for path in paths:
            audited = replace(record.read_record(path), audit=verdict)
            record.write_record(audited, record.read_side_file(path), session.parent)


def _audit_isolated(
    planned: PlannedSystem,
    configuration: Configuration,
    isolation: str,
    timing: Timing,
    log: Log,
) -> list[ProbeResult]:
    meter, system, task = EnergyMeter(configuration), planned.system, planned.task
    log(f"audit of {system.name} on {task.name} ({configuration.name}, isolation: {isolation})")
    results = []
    try:
        data = EvalData.load(task)
        context = RunContext(data, configuration, meter, isolation=isolation, timing=timing)
        for result in _run_probes(planned, context):
            log(str(result))
            results.append(result)
    finally:
        meter.close()
    return results


def _run_probes(planned: PlannedSystem, context: RunContext) -> Iterator[ProbeResult]:
    """Yield one result per probe; a worker that fails is a result, too."""
    system, task = planned.system, planned.task
    planned.check_declared()
    run = SystemRun(system, task, planned.find_artifact(), {})
    yield probe_artifact(run, planned.key)
    try:
        audit = AuditContext(run, context, planned.seed)
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
