"""A system's answers to a split, in the format of the task's official server."""

import io
import json
import zipfile
from pathlib import Path

from harness.errors import HarnessError
from harness.loadgen import scenarios
from harness.progress import Log
from harness.runner.evaluate import has_custom_code, load_system, start_worker
from harness.runner.system_run import EvalData, RunContext, SystemRun
from harness.store.cache import expand_home, write_atomically
from harness.submissions.plan import PlannedSystem, plan_system
from harness.submissions.system import System
from harness.tasks.registry import all_tasks
from harness.tasks.suites import Suite
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


def predict_suite(
    system: System,
    suite: Suite,
    split: str,
    configuration: Configuration,
    out: Path | str,
    seed: int = 0,
    log: Log = print,
) -> Path:
    """Write the files of all tasks of a suite that a system is built for, and a zip file of them.

    The diagnostics of a task, which have no training split, are answered by the system that is
    built for the task.

    Args:
        system: the system.
        suite: the suite.
        split: the split to answer.
        configuration: the hardware setting.
        out: a folder.
        seed: the training seed.
        log: takes lines of progress, and which tasks are left out and why.

    Returns:
        The zip file, named after the suite.

    Raises:
        HarnessError: the system is built for none of the tasks.
    """
    folder, paths, left_out = expand_home(out), [], []
    if folder.is_file() or folder.suffix:
        raise HarnessError(f"--out {out}: with --suite it is a folder, for one file a task.")
    tasks = [task for task in all_tasks().values() if task.training_task.name in suite.tasks]
    for task in sorted(tasks, key=lambda task: task.trains_on is not None):
        try:
            planned = plan_system(system, task, seed)
            path = predict(planned, split, configuration, f"{folder}/", log)
        except HarnessError as error:
            left_out.append(f"left out: {error}")
            continue
        paths.append(path)
    for line in left_out:
        log(line)
    if not paths:
        raise HarnessError(
            f"{system.name} is built for no task of {suite.name}. Run: wattbench build --suite "
            f"{suite.name} --system {system.name.partition('@')[0]}"
        )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in paths:
            archive.write(path, path.name)
    target = folder / f"{suite.name}.zip"
    write_atomically(target, buffer.getvalue())
    log(f"{len(paths)} of {len(tasks)} files: {', '.join(path.stem for path in paths)}")
    return target
