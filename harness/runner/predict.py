"""A system's answers to a split, in the format of the task's official server."""

import json
from pathlib import Path

from harness.loadgen import scenarios
from harness.progress import Log
from harness.runner.evaluate import (
    EvalData,
    RunContext,
    SystemRun,
    has_custom_code,
    load_system,
    start_worker,
)
from harness.store.cache import expand_home, write_atomically
from harness.submissions.plan import PlannedSystem
from harness.tasks.task import predictions_by_label
from harness.telemetry.configuration import Configuration
from harness.telemetry.energy import EnergyMeter
from harness.worker import sandbox

TIMEOUT_SECONDS = 24 * 3600.0


def predict(
    planned: PlannedSystem,
    split: str,
    configuration: Configuration,
    out: Path | str,
    log: Log = print,
) -> Path:
    """Write one line for each example (of MultiRC: for each passage), as answered in `offline`.

    Args:
        planned: a built system on a task that it declares.
        split: the split to answer.
        configuration: the hardware setting.
        out: a file, or a folder (that exists, that ends in a slash, or whose name has no suffix)
            for a file with the name that the server expects.
        log: takes lines of progress.

    Returns:
        The file.

    Raises:
        HarnessError: the system is not built, or the task has no such split.
    """
    system, task = planned.system, planned.task
    planned.check_declared()
    run = SystemRun(system, task, planned.find_artifact(), {})
    data = EvalData.load(task, split)
    meter = EnergyMeter(configuration)
    log(f"{system.name} answers {len(data.examples)} examples of {task.name} ({split})")
    try:
        custom = [system.name] if has_custom_code(system) else []
        isolation = sandbox.choose_isolation("auto", custom, log)
        context = RunContext(data, configuration, meter, isolation=isolation)
        with start_worker(run, context) as worker:
            load_system(worker, run, "offline", context)
            rows = range(len(data.examples))
            window = scenarios.offline(worker, data.samples, rows, meter, TIMEOUT_SECONDS)
    finally:
        meter.close()
    format_predictions = task.prediction_format or predictions_by_label(task.labels)
    lines = format_predictions(data.examples, window.answers)
    path = expand_home(out)
    if str(out).endswith("/") or path.is_dir() or not path.suffix:
        path /= f"{task.archive or task.name}.jsonl"
    write_atomically(path, "".join(json.dumps(line) + "\n" for line in lines).encode())
    return path
