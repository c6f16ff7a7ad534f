"""The accuracy pass: before the first block the whole reported split is answered, untimed, once for
all rows that give the same answers.

A padded row answers as the same row without padding does, only later: if each row answered the
split itself, the slowest would take most of a session. Instead, each of the others answers a sample
itself, which must agree, as must its timed windows.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from harness.engines.base import ServeConfig
from harness.engines.registry import ENGINES
from harness.errors import HarnessError
from harness.loadgen import scenarios
from harness.loadgen.scenarios import Window
from harness.progress import Log
from harness.results.record_parts import AccuracyPassPart
from harness.runner.evaluate import (
    check_agreement,
    check_memory,
    compute_timeout,
    load_system,
    start_worker,
)
from harness.runner.progress import Progress
from harness.runner.system_run import RunContext, SystemRun
from harness.store.cache import digest
from harness.submissions.system import System
from harness.tasks.task import Task

CHECK_EXAMPLES = 64
"""Examples that a row answers itself if another one ran its pass."""

THREAD_KEYS = ("instances", "spin")
"""Keys of `[serve]` that decide which threads answer an example, and never what the answer is."""

BATCH_KEYS = ("padding", "batch", "tokens", "order")
"""Keys of `[serve]` that decide with what an example is computed at once. Dynamic quantization
takes its scale from all of it: with batches of 32, 31 of 1,994 answers of `onnx-int8` on
`sentiment` are others, and padded to 128 tokens 36."""


class ScoredRow(NamedTuple):
    """A row of a session, as far as its answers depend on it.

    Attributes:
        system: the system.
        task: the task.
        key: the key of the artifact; '' without one.
        dtype: the precision of the artifact.
    """

    system: System
    task: Task
    key: str
    dtype: str


def group_rows(rows: Sequence[ScoredRow]) -> list[list[int]]:
    """Return the rows that share an accuracy pass, as indices; the first of each group runs it.

    They have the same task, artifact and `[serve]`, except for `THREAD_KEYS` and, unless the
    artifact is quantized, `BATCH_KEYS`. The first is the one whose settings are the fastest for
    many examples. Custom code, and an engine of another package, shares its answers with no other
    row.
    """
    groups: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        serve = row.system.serve["offline"]
        settings: Any = row.system.name
        if serve.engine in ENGINES:
            ignored = THREAD_KEYS if row.dtype == "int8" else (*THREAD_KEYS, *BATCH_KEYS)
            values = serve.to_dict()
            settings = {name: values[name] for name in values if name not in ignored}
        groups.setdefault(digest([row.task.name, row.key, settings]), []).append(index)

    def rank(index: int) -> tuple[bool, int, bool, bool]:
        return _rank_speed(rows[index].system.serve["offline"])

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
    groups = [
        [runs[index] for index in group if not runs[index].failed and not runs[index].answers]
        for group in group_rows([_describe_row(run) for run in runs])
    ]
    pending = [group for group in groups if group]
    for number, group in enumerate(pending):
        log = partial(progress.prepare, share=number / len(pending))
        _run_pass(group, contexts[group[0].task.name], log)


def _describe_row(run: SystemRun) -> ScoredRow:
    if run.artifact is None:
        return ScoredRow(run.system, run.task, "", "fp32")
    return ScoredRow(run.system, run.task, run.artifact.key, run.artifact.metadata.dtype)


def _run_pass(runs: Sequence[SystemRun], context: RunContext, log: Log) -> None:
    """Let the first row answer the split, and each other one a sample."""
    first, *others = runs
    name = first.system.name
    log(f"accuracy pass: {name} on {first.task.name}")
    try:
        answers = answer_rows(first, range(len(context.data.examples)), context).answers
    except HarnessError as error:
        for run in runs:
            shared = f" of {name}, whose answers this row shares" if run is not first else ""
            run.fail(error, f" (in the accuracy pass{shared})")
        return
    _note_answers(first, answers, {"system": name})
    sample = context.data.samples.order(seed=0)[:CHECK_EXAMPLES]
    for run in others:
        log(f"accuracy check: {run.system.name} on {run.task.name}")
        try:
            window = answer_rows(run, sample, context)
            agreement = check_agreement(run, answers, window, "in the accuracy check")
        except HarnessError as error:
            run.fail(error)
        else:
            _note_answers(run, answers, {"system": name, "agreement": round(agreement, 6)})


def _note_answers(run: SystemRun, answers: list[int], origin: AccuracyPassPart) -> None:
    run.answers = answers
    for record in run.records.values():
        record.accuracy_pass = origin


def answer_rows(run: SystemRun, rows: Sequence[int], context: RunContext) -> Window:
    """Answer some examples in a fresh worker, as in `offline`, and note the rate.

    Args:
        run: the system.
        rows: the examples.
        context: with what the worker is started and timed.

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
