"""What a session would measure, for how long and why: `wattbench run --explain`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import RecordError
from harness.loadgen import scenarios, server
from harness.results import record, statistics
from harness.results.record import Record
from harness.runner.accuracy import CHECK_EXAMPLES, ScoredRow, group_rows
from harness.runner.config import RunConfig
from harness.runner.doctor import find_quick_warnings
from harness.runner.progress import USUAL_ROUND_SECONDS
from harness.submissions.plan import Plan
from harness.tasks.suites import Suite
from harness.tasks.task import Task
from harness.telemetry.configuration import Configuration
from harness.telemetry.energy import EnergyMeter

SHUTDOWN_SECONDS = 0.3
FIRST_BLOCK_PROBES, LATER_BLOCK_PROBES = 7, 4
"""Rates that the scenario `server` tries in the first block, and in each later one."""


@dataclass(frozen=True)
class RoundCost:
    """How long a round takes.

    Attributes:
        round_seconds: loading, the timed windows of single_stream and offline, and shutdown.
        pass_seconds: the accuracy pass, if this row runs it.
        check_seconds: the sample that it answers itself, if another row runs the pass.
        rate: offline examples per second; 0 if unknown.
    """

    round_seconds: float = USUAL_ROUND_SECONDS
    pass_seconds: float = USUAL_ROUND_SECONDS
    check_seconds: float = USUAL_ROUND_SECONDS
    rate: float = 0.0


def explain(
    plan: Plan,
    suite: Suite,
    configuration: Configuration,
    results: Path,
    config: RunConfig,
) -> str:
    """Return what a session would measure, as text for the terminal.

    Nothing has to be built. Times are estimated from earlier records in `results`, if there are
    any.
    """
    rows = [(planned.system.name, planned.task.name) for planned in plan.systems]
    systems, tasks = {planned.system.name for planned in plan.main_systems}, plan.tasks
    groups = group_rows(
        [ScoredRow(row.system, row.task, row.key, row.system.spec.dtype) for row in plan.systems]
    )
    known = _read_costs(results / "records", config.timing.window)
    meter = EnergyMeter(configuration)
    text = f"""
{len(rows)} rows: {len(systems)} systems on {", ".join(task.name for task in tasks)}, {suite.reference!r} and \
{suite.unpadded_reference!r} as references, 'null' to measure the harness.
Configuration {configuration.name}: {configuration.title}. Workers are pinned to {configuration.cores} cores.

Before the first block the whole reported split is answered, untimed, which gives the score: once for
all rows with the same artifact and engine ({len(groups)} {"pass" if len(groups) == 1 else "passes"}). Each other row answers {CHECK_EXAMPLES} of the
examples itself; these answers and those of all timed windows must agree with the pass.

Each block plays one round of every row, in shuffled order: speed-ups are ratios within a block, so
that a machine that becomes slower affects both sides alike. A round is a fresh process, since
memory layout and thread placement differ from start to start:
  load            timed apart, with its energy
  warm-up         {scenarios.WARM_UP_SECONDS:g} s at most of training text, never of the reported split
  single_stream   {config.timing.window:g} s, the next query when the last is answered: latency
  offline         {config.timing.window:g} s, everything at once: throughput, cost, energy{_describe_server(tasks, config)}

Blocks: {_describe_blocks(config)}
Intervals: 95%, Student's t on the logarithms of the blocks' ratios, from {statistics.BOOTSTRAP_FROM} blocks on a bootstrap.
Percentiles: p90 from {statistics.count_needed_queries(0.9)} queries on, p99 from {statistics.count_needed_queries(0.99)} (MLPerf's early-stopping test), else a dash.
Energy: {meter.source}.
Time: {_estimate_time(rows, groups, known, config)}.
"""
    meter.close()
    if warnings := find_quick_warnings():
        text += "\nThis machine (for more: wattbench doctor):\n" + "\n".join(warnings)
    return text.strip()


def _describe_blocks(config: RunConfig) -> str:
    if config.until is None:
        return f"{config.blocks}."
    return (
        f"{config.blocks}, then more until the interval of every offline speed-up is within "
        f"{config.until:.1%} of its value, or {config.minutes:g} minutes have passed."
    )


def _describe_server(tasks: Sequence[Task], config: RunConfig) -> str:
    if not config.server:
        return ""
    bounds = ", ".join(f"{task.latency_bound_ms:g} ms on {task.name}" for task in tasks)
    shares = ", ".join(f"{share:g}" for share in server.FIRST_SHARES)
    return f"""
  server          random arrivals at {shares} of the offline rate, then between them to 5%; at
                  each rate {config.timing.probe:g} to {config.timing.longest_probe:g} s, for {server.queries_per_rate(config.blocks)} queries if possible: the highest rate
                  whose p99 is within the bound ({bounds})"""


def _estimate_time(
    rows: Sequence[tuple[str, str]],
    groups: Sequence[Sequence[int]],
    known: Mapping[tuple[str, str], RoundCost],
    config: RunConfig,
) -> str:
    costs = [known.get(row, RoundCost()) for row in rows]
    passes = sum(costs[first].pass_seconds for first, *_ in groups) / 60
    passes += sum(costs[index].check_seconds for _, *others in groups for index in others) / 60
    first = later = sum(cost.round_seconds for cost in costs) / 60
    if config.server:
        rates = [cost.rate for cost in costs]
        first += sum(_server_seconds(rate, config, FIRST_BLOCK_PROBES) for rate in rates) / 60
        later += sum(_server_seconds(rate, config, LATER_BLOCK_PROBES) for rate in rates) / 60
    guessed = sum(row not in known for row in rows)
    basis = (
        f" ({guessed} of {len(rows)} rows were never measured here: guessed)"
        if guessed
        else ", as long as the last session took"
    )
    return (
        f"about {passes:.1f} min for the accuracy passes, {first:.1f} min for the first block and "
        f"{later:.1f} min for each other one, {passes + first + later * (config.blocks - 1):.0f} "
        f"min for {config.blocks}{basis}"
    )


def _server_seconds(rate: float, config: RunConfig, probes: int) -> float:
    """Return the seconds for so many probes around three quarters of a rate."""
    probed = min(0.75 * rate, server.MAX_DRIVER_RATE) or 100.0
    queries = server.queries_per_rate(config.blocks)
    return probes * server.probe_seconds(probed, queries, config.timing)


def _read_costs(records: Path, window: float) -> dict[tuple[str, str], RoundCost]:
    """Return the costs of each (system, task) that was measured before; window: in seconds."""
    costs = {}
    for path in record.find_record_paths(records):
        if path.parent.name != "offline":
            continue
        try:
            offline = record.read_record(path)
        except RecordError:
            continue
        if offline.rounds and offline.score:
            row = offline.system["name"], offline.task["name"]
            costs[row] = _estimate_cost(offline, offline.score["examples"], window)
    return costs


def _estimate_cost(offline: Record, examples: int, window: float) -> RoundCost:
    last = offline.rounds[-1]
    rate = last.examples / last.seconds
    batches = max(0.0, last.seconds - offline.timing.window)  # several of them may take longer
    worker = last.load_seconds + SHUTDOWN_SECONDS
    return RoundCost(
        worker + 2 * window + batches,
        worker + window + examples / rate,
        worker + window + CHECK_EXAMPLES / rate,
        rate,
    )
