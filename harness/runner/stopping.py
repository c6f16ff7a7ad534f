"""When a session has enough blocks."""

import math
from collections.abc import Sequence

from harness.results import statistics
from harness.runner.config import RunConfig
from harness.runner.progress import Progress
from harness.runner.system_run import SystemRun


def has_enough_blocks(
    done: int, runs: Sequence[SystemRun], config: RunConfig, progress: Progress
) -> bool:
    """Return whether a session with so many blocks may end; log what is still missing.

    It has at least `config.blocks`. With `config.until` it continues until the widest interval is
    that narrow, or another block would take it past `config.minutes`.
    """
    if done < config.blocks or config.until is None:
        return done >= config.blocks
    widest = widest_interval(runs)
    state = f"after {done} blocks the widest interval is ±{widest:.1%}"
    if widest <= config.until:
        progress.log(state)
        return True
    if progress.minutes_after_another_block > config.minutes:
        progress.log(f"{state}; the time of {config.minutes:g} minutes is up")
        return True
    progress.log(f"{state}: another one")
    progress.blocks += 1
    return False


def widest_interval(runs: Sequence[SystemRun]) -> float:
    """Return half the width of the widest 95% interval of an offline speed-up over its task's
    reference, as a share of its value.

    The null system does not count. Infinite where two systems share fewer than two blocks.
    """
    times = {
        (run.task.name, run.system.name): {
            window.block: window.seconds / window.examples
            for window in run.records["offline"].rounds
        }
        for run in runs
        if not run.failed
    }
    widest = 0.0
    for run in runs:
        roles = run.records["offline"].roles
        if run.failed or run.system.name in (roles["reference"], roles["null"]):
            continue
        reference = times.get((run.task.name, roles["reference"]))
        system = times[run.task.name, run.system.name]
        if reference is None:
            return math.inf
        blocks = sorted(set(reference) & set(system))
        if len(blocks) < 2:
            return math.inf
        speedup = statistics.estimate_ratio(
            [reference[block] for block in blocks], [system[block] for block in blocks]
        )
        widest = max(widest, math.sqrt(speedup.high / speedup.low) - 1)
    return widest
