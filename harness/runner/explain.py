"""What a session would measure, for how long and why: `wattbench run --explain`."""

from collections.abc import Sequence
from pathlib import Path

from harness.errors import RecordError
from harness.loadgen import server
from harness.results import record, statistics
from harness.runner import doctor
from harness.runner.config import RunConfig
from harness.runner.evaluate import WARM_UP_QUERIES
from harness.runner.progress import USUAL_ROUND_SECONDS
from harness.runner.session import expand_systems
from harness.submissions.manifest import System
from harness.tasks.suites import Suite
from harness.tasks.task import Task
from harness.telemetry.configuration import Configuration
from harness.telemetry.energy import Meter

STOPPING_SECONDS = 0.3


def explain(
    systems: Sequence[System],
    tasks: Sequence[Task],
    suite: Suite,
    configuration: Configuration,
    root: Path,
    results: Path,
    config: RunConfig,
) -> str:
    """The whole text. Nothing has to be built; times come from earlier records where there are."""
    pairs = expand_systems(systems, tasks, root, 0, config.seeds)
    known = _known(results / "records", config.timing.window)
    guessed = sum((one.name, each.name) not in known for one, each in pairs)
    usual = (USUAL_ROUND_SECONDS, 0.0, 0.0)
    seconds = [known.get((one.name, each.name), usual) for one, each in pairs]
    first, later = (
        sum(each[0] + each[1] for each in seconds) / 60,
        sum(each[0] for each in seconds) / 60,
    )
    if config.server:
        first += sum(_serving(each[2], config, probes=7) for each in seconds) / 60
        later += sum(_serving(each[2], config, probes=4) for each in seconds) / 60
    meter = Meter(configuration)
    text = f"""
{len(pairs)} rows: {len(systems)} systems on {", ".join(each.name for each in tasks)}, {suite.reference!r} and \
{suite.unpadded_reference!r} as references, 'null' to measure the harness.
Configuration {configuration.name}: {configuration.title}. Workers are pinned to {configuration.cores} cores.

Each block plays one round of every row, in shuffled order: speed-ups are ratios within a block, so
that a machine that becomes slower hurts both sides alike. A round is a fresh process, since memory
layout and thread placement differ from start to start:
  load            timed apart, with its energy
  warm-up         {WARM_UP_QUERIES} queries of training text, never of the reported split
  single_stream   {config.timing.window:g} s, the next query when the last is answered: latency
  offline         {config.timing.window:g} s, everything at once: throughput, cost, energy; in the first block the
                  whole reported split, which gives the score{_server_text(tasks, config)}

Blocks: {_blocks(config)}
Intervals: 95%, Student's t on the logarithms of the blocks' ratios, from {statistics.BOOTSTRAP_FROM} blocks on a bootstrap.
Percentiles: p90 from {statistics.queries_needed(0.9)} queries on, p99 from {statistics.queries_needed(0.99)} (MLPerf's early-stopping test), else a dash.
Energy: {meter.source}.
Time: about {first:.1f} min for the first block and {later:.1f} min for each other one, \
{first + later * (config.blocks - 1):.0f} min for {config.blocks}{_guess(guessed, len(pairs))}.
"""
    meter.close()
    found = doctor.warnings()
    text += "\nThis machine (wattbench doctor says more):\n" + "\n".join(found) if found else ""
    return text.strip()


def _blocks(config: RunConfig) -> str:
    if config.until is None:
        return f"{config.blocks}."
    return (
        f"{config.blocks}, then more until the interval of every offline speed-up is within "
        f"{config.until:.1%} of its value, or {config.minutes:g} minutes have passed."
    )


def _server_text(tasks: Sequence[Task], config: RunConfig) -> str:
    if not config.server:
        return ""
    bounds = ", ".join(f"{each.latency_bound_ms:g} ms on {each.name}" for each in tasks)
    shares = ", ".join(f"{each:g}" for each in server.STARTING)
    return f"""
  server          random arrivals at {shares} of the offline rate, then between them to 5%; at
                  each rate {config.timing.probe:g} to {config.timing.longest_probe:g} s, for {server.queries_a_round(config.blocks)} queries if it can: the highest rate whose p99 is
                  within the bound ({bounds})"""


def _guess(guessed: int, rows: int) -> str:
    if not guessed:
        return ", as long as the last session took"
    return f" ({guessed} of {rows} rows were never measured here: guessed)"


def _serving(rate: float, config: RunConfig, probes: int) -> float:
    """Seconds for so many probes around three quarters of a rate."""
    rate = min(0.75 * rate, server.DRIVER_RATE) or 100.0
    return probes * server.probe_seconds(rate, server.queries_a_round(config.blocks), config.timing)


def _known(records: Path, window: float) -> dict[tuple[str, str], tuple[float, float, float]]:
    """Of each (system, task) measured before: seconds of a round, what the accuracy pass adds, and
    the offline rate. window: seconds of a timed window.
    """
    found = {}
    for path in record.paths(records):
        if path.parent.name != "offline":
            continue
        try:
            it = record.read_record(path)
        except RecordError:
            continue
        if it.rounds and it.score:
            last = it.rounds[-1]
            rate = last.examples / last.seconds
            usual = last.load_seconds + STOPPING_SECONDS + 2 * window
            whole = max(0.0, it.score["examples"] / rate - window)
            found[it.system["name"], it.task["name"]] = (usual, whole, rate)
    return found
