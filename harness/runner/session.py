"""A session: the accuracy passes, then blocks of one round of every system in shuffled order, and
the records that it leaves.

Records are written after each whole block. An interrupted session loses the block it was in, and
can be resumed with a new one.
"""

import random
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from harness.errors import HarnessError
from harness.loadgen import server
from harness.progress import Log
from harness.runner import resume
from harness.runner.accuracy import run_accuracy_passes
from harness.runner.config import RunConfig
from harness.runner.evaluate import has_custom_code, run_round
from harness.runner.prerequisites import check_gpu
from harness.runner.progress import Progress
from harness.runner.records import (
    FIXED_FIELDS,
    make_run,
    make_session_fields,
    restore_runs,
    write_run,
)
from harness.runner.stopping import has_enough_blocks, widest_interval
from harness.runner.system_run import EvalData, RunContext, SystemRun
from harness.store.cache import digest
from harness.submissions.lookup import check_device
from harness.submissions.plan import Plan
from harness.tasks.suites import Suite
from harness.telemetry.configuration import Configuration
from harness.telemetry.energy import EnergyMeter
from harness.worker import sandbox


def measure(
    plan: Plan,
    suite: Suite,
    configuration: Configuration,
    results: Path,
    config: RunConfig = RunConfig(),
    log: Log = print,
) -> str:
    """Measure all systems of a plan in one session.

    If an earlier process with the same settings was killed, its session is found and continued,
    even without `config.resume`.

    Args:
        plan: the systems on their tasks, the references among them (see `submissions.lookup`).
        suite: names the references.
        configuration: the hardware setting.
        results: records are written to `results/records`.
        config: how much is measured, and the session to resume.
        log: takes lines of progress.

    Returns:
        The name of the session.

    Raises:
        HarnessError: there is nothing to measure, a system is not built or needs a GPU
            configuration, the machine lacks something for the GPU, the session cannot be resumed,
            or there is no sandbox where one is required.
    """
    if not plan.systems:
        raise HarnessError(
            "none of the systems declares one of the tasks. Add the task to a manifest's `tasks`."
        )
    systems = [planned.system for planned in plan.main_systems]
    check_device(systems, configuration.device)
    check_gpu(plan, configuration, log)
    records = results / "records"
    custom = list(dict.fromkeys(system.name for system in systems if has_custom_code(system)))
    isolation = sandbox.choose_isolation(config.isolation, custom, log)
    data = {task.name: EvalData.load(task) for task in plan.tasks}
    meter = EnergyMeter(configuration)
    try:
        fields = make_session_fields(configuration, suite, meter, isolation, config)
        runs = [make_run(planned, fields, config) for planned in plan.systems]
        settings_digest = _digest_settings(runs, config)
        session, done = _resume(runs, str(fields["session"]), settings_digest, records, config, log)
        queries = server.queries_per_rate(None if config.until else config.blocks)
        contexts = {
            name: RunContext(task_data, configuration, meter, queries, isolation, config.timing)
            for name, task_data in data.items()
        }
        progress = Progress(len(runs), max(1, config.blocks - done), log)
        is_new = not (records / session).exists()
        try:
            with resume.running(records / session, settings_digest):
                run_accuracy_passes(runs, contexts, progress)
                progress.start_blocks()
                while not has_enough_blocks(done, runs, config, progress):
                    done += 1
                    _run_block(runs, done, session, contexts, progress)
                    for run in runs:
                        write_run(run, data[run.task.name], records)
        except (KeyboardInterrupt, HarnessError):
            if done > 1:
                log(f"whole blocks are kept; the same command continues with --resume {session}")
            elif is_new:  # without a whole block nothing can be resumed
                shutil.rmtree(records / session, ignore_errors=True)
            raise
    finally:
        meter.close()
    return session


def _digest_settings(runs: Sequence[SystemRun], config: RunConfig) -> str:
    """Return the same digest for two runs that measure the same."""
    records = [asdict(record) for run in runs for record in run.records.values()]
    fixed = [{name: record[name] for name in FIXED_FIELDS} for record in records]
    return digest([asdict(replace(config, resume="")), *fixed])


def _resume(
    runs: Sequence[SystemRun],
    session: str,
    settings_digest: str,
    records: Path,
    config: RunConfig,
    log: Log,
) -> tuple[str, int]:
    """Return the session to write to, and how many blocks it has.

    That is the session to resume, or one of the same settings whose run was killed, or else the
    new one.
    """
    if config.resume:
        done = restore_runs(runs, session, records)
        until = config.until
        if done >= config.blocks and not (until and widest_interval(runs) > until):
            raise HarnessError(
                f"session {session} has {done} blocks already. To continue, give a larger "
                "--rounds, or a narrower --until."
            )
        return session, done
    all_records = [record for run in runs for record in run.records.values()]
    paths = [str(record.path(Path()).relative_to(session)) for record in all_records]
    killed = resume.find_killed_session(records, settings_digest, paths)
    if not killed:
        return session, 0
    log(f"continuing session {killed}, whose process was killed")
    for record in all_records:
        record.session = killed
    return killed, restore_runs(runs, killed, records)


def _run_block(
    runs: Sequence[SystemRun],
    block: int,
    session: str,
    contexts: dict[str, RunContext],
    progress: Progress,
) -> None:
    """Play one round of every run, in an order that session and block determine."""
    order = list(runs)
    random.Random(f"{session} {block}").shuffle(order)
    for run in order:
        progress.step(f"block {block}: {run.system.name} on {run.task.name}")
        run_round(run, block, contexts[run.task.name])
        progress.done()
