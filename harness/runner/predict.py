"""Answers of a worker to a split, as the task's official server takes them."""

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
from harness.telemetry.energy import Meter
from harness.worker import sandbox

PATIENCE = 24 * 3600.0


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
    """Write a line for each example (of MultiRC: for each passage), as served `offline`.

    out: a file, or a folder (one that is there, that ends in a slash, or whose name has no
    suffix) for a file named as the server wants it. Returns: the file.
    Raises: HarnessError if the system is not built, or the task has no such split.
    """
    if not system.declares_task(task):
        raise HarnessError(f"{system.name} does not declare {task.name}. Add it to its `tasks`.")
    row = SystemRun(system, task, find_artifact(system, task, seed, root), {})
    material = EvalData.of(task, split)
    meter = Meter(configuration)
    log(f"{system.name} answers {len(material.examples)} examples of {task.name} ({split})")
    try:
        kind = sandbox.choose_isolation(
            "auto", [system.name] if has_custom_code(system) else [], log
        )
        setting = RunContext(material, configuration, meter, isolation=kind)
        with start_worker(row, setting) as worker:
            load_system(worker, row, "offline", setting)
            rows = list(range(len(material.examples)))
            window = scenarios.offline(worker, material.questions, rows, meter, PATIENCE)
    finally:
        meter.close()
    lines = (task.prediction_format or predictions_by_label(task.labels))(
        material.examples, window.answers
    )
    path = Path(out)
    if str(out).endswith("/") or path.is_dir() or not path.suffix:
        path /= f"{task.archive or task.name}.jsonl"
    write_atomically(path, "".join(json.dumps(line) + "\n" for line in lines).encode())
    return path
