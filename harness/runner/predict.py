"""A system's answers to a split, in the format of the task's official server."""

import json
from collections.abc import Callable
from pathlib import Path

from harness.errors import HarnessError
from harness.loadgen import scenarios
from harness.runner.evaluate import (
    EvalData,
    RunContext,
    SystemRun,
    has_custom_code,
    load_system,
    start_worker,
)
from harness.store.cache import write_atomically
from harness.submissions.manifest import System
from harness.submissions.plan import find_artifact
from harness.tasks.task import Task, predictions_by_label
from harness.telemetry.configuration import Configuration
from harness.telemetry.energy import EnergyMeter
from harness.worker import sandbox

TIMEOUT_SECONDS = 24 * 3600.0


def predict(
    system: System,
    task: Task,
    split: str,
    configuration: Configuration,
    root: Path,
    seed: int,
    out: Path | str,
    log: Callable[[str], None] = print,
) -> Path:
    """Write one line for each example (of MultiRC: for each passage), as answered in `offline`.

    Args:
        system: a built system.
        task: a task that it declares.
        split: the split to answer.
        configuration: the hardware setting.
        root: the folder that holds baselines/ and submissions/.
        seed: the training seed.
        out: a file, or a folder (that exists, that ends in a slash, or whose name has no suffix)
            for a file with the name that the server expects.
        log: takes lines of progress.

    Returns:
        The file.

    Raises:
        HarnessError: the system is not built, or the task has no such split.
    """
    if not system.declares_task(task):
        raise HarnessError(f"{system.name} does not declare {task.name}. Add it to its `tasks`.")
    run = SystemRun(system, task, find_artifact(system, task, seed, root), {})
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
    path = Path(out)
    if str(out).endswith("/") or path.is_dir() or not path.suffix:
        path /= f"{task.archive or task.name}.jsonl"
    write_atomically(path, "".join(json.dumps(line) + "\n" for line in lines).encode())
    return path
