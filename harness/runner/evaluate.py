"""One round: a fresh worker plays the scenarios of one system on one task."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.errors import HarnessError, WorkerError
from harness.loadgen import scenarios, server
from harness.loadgen.scenarios import Window
from harness.results import statistics
from harness.results.record import Round, count_least_examples
from harness.runner.system_run import RunContext, SystemRun
from harness.submissions.system import System
from harness.worker.driver import BUILT_IN, Worker
from harness.worker.sandbox import SandboxSpec

WARM_UP_BATCH = 32
OFFLINE_TRIES = 5
"""Tries to fill a window of `offline`: a rate that comes from a window of a millisecond is wrong,
and each window improves it."""

AGREEMENT_LEVEL = 0.01
"""Level of the test whether an agreement is below the required one: in a window of few examples one
answer may differ by chance."""


@dataclass(frozen=True)
class MemoryUse:
    """Peak memory of a worker in 10^6 bytes.

    Attributes:
        host_mb: of its process tree.
        gpu_mb: of the GPU; None for a CPU configuration.
    """

    host_mb: float
    gpu_mb: float | None


def run_round(run: SystemRun, block: int, context: RunContext) -> None:
    """Play all scenarios of a system in a fresh worker, after the accuracy pass.

    A failure ends this system for the session, and no other; it is stated in its records.
    """
    if run.failed:
        return
    if context.meter.gpu:
        run.gpu_mb_before = context.meter.gpu.used_memory_mb()
    try:
        with start_worker(run, context) as worker:
            _play_scenarios(worker, run, block, context)
    except HarnessError as error:
        run.fail(error)


def has_custom_code(system: System) -> bool:
    """Return whether the submission's folder holds the code that serves it."""
    return bool(system.serve["offline"].module or system.serve["offline"].command)


def start_worker(run: SystemRun, context: RunContext) -> Worker:
    """Start a worker that can read what the system needs and nothing else."""
    serve, folder = run.system.serve["offline"], run.system.folder.resolve()
    custom = has_custom_code(run.system)
    artifact = (run.artifact.folder,) if run.artifact else ()
    spec = SandboxSpec(
        isolation=context.isolation,
        readable=(*artifact, folder) if custom else artifact,
        folder=folder if custom else None,
        memory_gb=context.configuration.memory_gb,
        gpu=context.configuration.device == "gpu",
    )
    return Worker(context.configuration.cores, serve.command or BUILT_IN, spec)


def load_system(worker: Worker, run: SystemRun, scenario: str, context: RunContext) -> Window:
    """Load a system as the scenario is served, and warm it up on training text.

    Returns:
        The window of loading, without the warm-up.
    """
    metadata = {"labels": len(run.task.labels), "max_length": run.task.max_length}
    if run.artifact:
        metadata |= run.artifact.engine_metadata
    message = {
        "artifact": str(run.artifact.folder) if run.artifact else "",
        "about": metadata,
        "serve": run.system.serve[scenario].to_dict(),
        "threads": context.configuration.cores,
        "device": context.configuration.torch_device,
        "folder": str(run.system.folder.resolve()) if has_custom_code(run.system) else "",
    }
    loading = Window()
    with scenarios.timed(worker, context.meter, loading):
        worker.load(message, context.timing.load_timeout)
    batch = 0 if scenario == "single_stream" else WARM_UP_BATCH
    scenarios.warm_up(worker, context.data.training, batch, context.timing.query_timeout)
    worker.has_stages = run.artifact is not None and run.artifact.format in ("stages", "cascade")
    if worker.has_stages:
        worker.read_stage_counts()  # the warm-up does not count
    return loading


@dataclass(frozen=True)
class TimedScenarios:
    """What a worker did in `single_stream` and `offline`.

    Attributes:
        loading: the window of loading for `single_stream`.
        single: the window of `single_stream`.
        single_memory: peak memory after it.
        offline: the window of `offline`.
        memory: peak memory after it.
    """

    loading: Window
    single: Window
    single_memory: MemoryUse
    offline: Window
    memory: MemoryUse


def time_scenarios(
    worker: Worker, run: SystemRun, order: list[int], context: RunContext
) -> TimedScenarios:
    """Load a system and time `single_stream` and `offline`; its rate is kept for the next time.

    Args:
        worker: a worker that was started for the system.
        run: the system.
        order: the examples of the split, in the order in which they are sent.
        context: with what the round is played.
    """
    samples, meter = context.data.samples, context.meter
    loading = load_system(worker, run, "single_stream", context)
    single = scenarios.single_stream(worker, samples, order, meter, context.timing)
    single_memory = check_memory(worker, run, context)
    if run.system.serve["offline"] != run.system.serve["single_stream"]:
        load_system(worker, run, "offline", context)
    run.rate = run.rate or len(single.rows) / single.seconds
    offline = _fill_offline_window(worker, run, order, context, single)
    memory = check_memory(worker, run, context)
    return TimedScenarios(loading, single, single_memory, offline, memory)


def _play_scenarios(worker: Worker, run: SystemRun, block: int, context: RunContext) -> None:
    order = context.data.samples.order(seed=block)
    timed = time_scenarios(worker, run, order, context)
    loading = timed.loading
    _add_window(run, "single_stream", block, loading, timed.single, timed.single_memory)
    _add_window(run, "offline", block, loading, timed.offline, timed.memory)
    if "server" in run.records:
        if run.system.serve["server"] != run.system.serve["offline"]:
            load_system(worker, run, "server", context)
        _find_sustained_rate(worker, run, block, loading, order, context)


def compute_timeout(single: Window, examples: int) -> float:
    """Return the seconds that so many examples may take: five times as long as single queries took,
    and a minute.
    """
    return 60 + 5 * examples * single.seconds / len(single.rows)


def _fill_offline_window(
    worker: Worker, run: SystemRun, order: list[int], context: RunContext, single: Window
) -> Window:
    """Play a window of `offline`, with as many examples as the rate so far suggests, and with
    several batches.

    Where that rate was so wrong (it came from single queries, or from few examples) that the window
    lasts less than half a short one, it is played again with the new rate.
    """
    most = scenarios.MAX_PASSES * len(order)
    serve = run.system.serve["offline"]
    instances = serve.count_instances(context.configuration.cores)
    least = count_least_examples(serve.batch, instances)
    for _ in range(OFFLINE_TRIES):
        rows = scenarios.choose_offline_rows(order, run.rate, context.timing, least)
        timeout = compute_timeout(single, len(rows))
        window = scenarios.offline(worker, context.data.samples, rows, context.meter, timeout)
        run.rate = len(rows) / window.seconds
        if window.seconds >= context.timing.short_window / 2 or len(rows) == most:
            break
    return window


def _find_sustained_rate(
    worker: Worker,
    run: SystemRun,
    block: int,
    loading: Window,
    order: list[int],
    context: RunContext,
) -> None:
    """Probe rates until the round has its highest one, beginning with that of the last round."""
    sustained = run.sustained = run.sustained or {
        "offline": min(run.rate, server.MAX_DRIVER_RATE),
        "bound_ms": run.task.latency_bound_ms,
        "capped": run.rate > server.MAX_DRIVER_RATE,
        "rates": {},
    }
    earlier = [rate for rate in sustained["rates"].values() if rate]
    start = round(earlier[-1] / sustained["offline"], 4) if earlier else None  # a probed share
    search = server.RateSearch(sustained["offline"], start)
    bound = sustained["bound_ms"] / 1000
    while len(search.results) < server.MAX_PROBES and (share := search.next_share()) is not None:
        rate = search.rate(share)
        window = server.poisson(
            worker,
            context.data.samples,
            order,
            rate,
            math.ceil(rate * server.probe_seconds(rate, context.queries_per_rate, context.timing)),
            block,
            bound,
            context.meter,
            context.timing.query_timeout,
        )
        late = sum(latency > bound for latency in window.latencies)
        search.results[share] = server.meets_bound(len(window.rows), late)
        memory = check_memory(worker, run, context)
        _add_window(run, "server", block, loading, window, memory)
        probe = run.records["server"].rounds[-1]
        probe.rate, probe.late = rate, late
    best, _ = search.bracket
    sustained["rates"][str(block)] = search.rate(best) if best else None


def check_memory(worker: Worker, run: SystemRun, context: RunContext) -> MemoryUse:
    """Return the peak memory.

    That of the GPU is what is in use now beyond what was before the worker started: PyTorch and
    onnxruntime keep the memory that they once needed.

    Raises:
        WorkerError: it is more than the configuration allows.
    """
    used, configuration = worker.peak_memory_mb(), context.configuration
    if used > configuration.memory_gb * 2**30 / 1e6:
        allowed = f"{configuration.name} allows {configuration.memory_gb:g} GiB"
        raise WorkerError(f"it used {used:.0f} MB, but {allowed}")
    gpu = context.meter.gpu
    return MemoryUse(used, max(0.0, gpu.used_memory_mb() - run.gpu_mb_before) if gpu else None)


def _add_window(
    run: SystemRun,
    scenario: str,
    block: int,
    loading: Window,
    window: Window,
    memory: MemoryUse,
) -> None:
    """Add a window of a round to the record of its scenario, if its answers agree.

    Args:
        run: the system.
        scenario: the scenario.
        block: the number of the block.
        loading: the window of loading.
        window: the window of the scenario.
        memory: peak memory.
    """
    agreement = check_agreement(run, run.answers, window, f"in {scenario} (block {block})")
    run.records[scenario].rounds.append(
        Round(
            block=block,
            load_seconds=round(loading.seconds, 4),
            load_wh=_round_digits(sum(filter(None, loading.energy.to_dict().values()))),
            seconds=round(window.seconds, 6),
            examples=len(window.rows),
            repeats=round(len(window.rows) / len(run.answers), 3),
            cpu_seconds=round(window.cpu_seconds, 4),
            driver_cpu_seconds=round(window.driver_cpu_seconds, 4),
            others=round(window.others, 3),
            steal=round(window.steal, 3),
            energy={name: _round_digits(wh) for name, wh in window.energy.to_dict().items()},
            memory_mb=round(memory.host_mb, 1),
            gpu_memory_mb=None if memory.gpu_mb is None else round(memory.gpu_mb, 1),
            agreement=_round_digits(agreement),
            left=window.left,
            throttled=_round_digits(window.throttled),
        )
    )
    if window.latencies:
        run.queries.setdefault(scenario, []).append(window.rows)
        run.latencies.setdefault(scenario, []).append(
            [round(latency * 1e6) for latency in window.latencies]
        )


def check_agreement(run: SystemRun, answers: Sequence[int], window: Window, where: str) -> float:
    """Return the share of a window's answers that equal those of the accuracy pass.

    Args:
        run: the system.
        answers: those of the accuracy pass, to all examples of the split.
        window: the window.
        where: names the window in the message.

    Raises:
        WorkerError: the share is significantly below the required one.
    """
    pairs = zip(window.rows, window.answers, strict=True)
    same = sum(answer == answers[row] for row, answer in pairs)
    agreement, count = same / len(window.rows), len(window.rows)
    if statistics.binomial_p_value(same, count, run.required_agreement) < AGREEMENT_LEVEL:
        raise WorkerError(
            f"{agreement:.2%} of its {count} answers {where} equal those of the accuracy pass; at "
            f"least {run.required_agreement:.1%} must"
        )
    return agreement


def _round_digits(value: Any) -> Any:
    """Return a number with six significant digits, which keeps records small."""
    return None if value is None else float(f"{value:.6g}")
