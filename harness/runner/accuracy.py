"""The accuracy pass: before the first block the whole reported split is answered, untimed, once for
all rows that give the same answers.

A padded row answers as the same row without padding does, only later: if each row answered the
split itself, the slowest would take most of a session. Instead, each of the others answers a sample
itself, which must agree, as must its timed windows.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from harness.engines.base import ServeConfig
from harness.engines.registry import ENGINES
from harness.errors import HarnessError
from harness.loadgen import scenarios
from harness.loadgen.scenarios import Window
from harness.runner.evaluate import (
    RunContext,
    SystemRun,
    check_agreement,
    check_memory,
    compute_timeout,
    load_system,
    start_worker,
)
from harness.runner.progress import Progress
from harness.store.cache import digest
from harness.submissions.system import System
from harness.tasks.task import Task

CHECK_EXAMPLES = 64
"""Examples that a row answers itself if another one ran its pass."""

SCHEDULING_KEYS = ("padding", "batch", "tokens", "order", "instances", "spin")
"""Keys of `[serve]` that say how examples are grouped and by which threads they are answered, and
not what the answers are."""


def group_rows(rows: Sequence[tuple[System, Task, str]]) -> list[list[int]]:
    """Return the rows that share an accuracy pass, as indices; the first of each group runs it.

    They have the same task, artifact and `[serve]`, except for `SCHEDULING_KEYS`. The first is the
    one whose settings are the fastest for many examples. Custom code, and an engine of another
    package, shares its answers with no other row.

    Args:
        rows: system, task and key of the artifact.
    """
    groups: dict[str, list[int]] = {}
    for index, (system, task, key) in enumerate(rows):
        serve = system.serve["offline"]
        settings: Any = system.name
        if serve.engine in ENGINES:
            values = serve.to_dict()
            settings = {name: values[name] for name in values if name not in SCHEDULING_KEYS}
        groups.setdefault(digest([task.name, key, settings]), []).append(index)

    def rank(index: int) -> tuple[bool, int, bool, bool]:
        return _rank_speed(rows[index][0].serve["offline"])

    return [sorted(group, key=rank, reverse=True) for group in groups.values()]


def _rank_speed(serve: ServeConfig) -> tuple[bool, int, bool, bool]:
    """Return what orders settings by their speed on many examples: padding costs the most."""
    by_length, several = serve.order == "by-length", serve.instances != 1
    return serve.padding == "longest", serve.batch, by_length, several


def run_accuracy_passes(
    runs: Sequence[SystemRun], contexts: Mapping[str, RunContext], progress: Progress
) -> None:
    """Give each row its answers to the reported split; rows of a resumed session have them already.

    If a pass fails, all rows that share it are out for the session; if a row's own sample fails or
    does not agree, that row is.

    Args:
        runs: all rows of the session; changed in place.
        contexts: by the name of the task.
        progress: logs each pass and each sample.
    """
    rows = [(run.system, run.task, run.artifact.key if run.artifact else "") for run in runs]
    for group in group_rows(rows):
        pending = [runs[index] for index in group]
        pending = [run for run in pending if not run.failed and not run.answers]
        if pending:
            _run_pass(pending, contexts[pending[0].task.name], progress)


def _run_pass(runs: Sequence[SystemRun], context: RunContext, progress: Progress) -> None:
    """Let the first row answer the split, and each other one a sample."""
    first, *others = runs
    name = first.system.name
    progress.step(f"accuracy pass: {name} on {first.task.name}")
    try:
        answers = _answer(first, range(len(context.data.examples)), context).answers
    except HarnessError as error:
        for run in runs:
            shared = f" of {name}, whose answers this row shares" if run is not first else ""
            run.fail(error, f" (in the accuracy pass{shared})")
        return
    sample = context.data.samples.order(seed=0)[:CHECK_EXAMPLES]
    for run in runs:
        for record in run.records.values():
            record.accuracy_pass = {"system": name}
    first.answers = answers
    for run in others:
        progress.step(f"accuracy check: {run.system.name} on {run.task.name}")
        try:
            window = _answer(run, sample, context)
            agreement = check_agreement(run, answers, window, "in the accuracy check")
        except HarnessError as error:
            run.fail(error)
            continue
        run.answers = answers
        for record in run.records.values():
            record.accuracy_pass = {"system": name, "agreement": round(agreement, 6)}


def _answer(run: SystemRun, rows: Sequence[int], context: RunContext) -> Window:
    """Answer some examples in a fresh worker, as in `offline`, and note the rate.

    Raises:
        HarnessError: the worker fails, or needs too much memory.
    """
    samples, timing, meter = context.data.samples, context.timing, context.meter
    with start_worker(run, context) as worker:
        load_system(worker, run, "offline", context)
        order = samples.order(seed=0)
        single = scenarios.single_stream(worker, samples, order, meter, timing)  # for the timeout
        timeout = compute_timeout(single, len(rows))
        window = scenarios.offline(worker, samples, rows, meter, timeout)
        check_memory(worker, run, context)
    run.rate = len(rows) / window.seconds
    return window
