"""Warnings about a section's figures, each with its remedy, in the manner of pyperf."""

import math
from collections.abc import Callable
from statistics import fmean

import numpy as np

from harness.leaderboard.commands import resume_command
from harness.leaderboard.formatting import format_number
from harness.leaderboard.ranking import Section
from harness.leaderboard.row import Row
from harness.results import statistics
from harness.results.record import LEAST_BATCHES

WIDE_INTERVAL = 0.1
DRIFT = 0.1
ODD_BLOCK = 0.15
ODD_ROUND = 0.25
BUSY_CORES = 0.1
STOLEN_CORES = 0.02
THROTTLED_SHARE = 0.05
HARNESS_SHARE = 0.02
DIFFERENT_RATIO = 0.1
MAX_BLOCKS = 30
"""More blocks than these are not recommended."""

SMOKE_RUN = (
    "Smoke run: its windows are shorter than the standard ones, so its figures only show that "
    "everything works. Measure without --smoke to compare systems."
)


def find_warnings(section: Section) -> list[str]:
    """Return the warnings about a section: what is noteworthy, and what to do about it.

    Where its rows come from several sessions, these are the warnings about each session.
    """
    return _collect(section, _find_warnings)


def _collect(section: Section, find: Callable[[Section], list[str]]) -> list[str]:
    """Return what a function finds in each session of a section, after the session's name."""
    parts = section.split_sessions()
    if len(parts) == 1:
        return find(parts[0])
    return [f"Session {part.session}: {text}" for part in parts for text in find(part)]


def find_newer_rows(section: Section) -> list[str]:
    """Return the newer measurements of systems that do not replace the rows that are shown."""
    return [f"{row.name}: {newer}" for row in section.rows for newer in row.newer]


def find_stale_rows(section: Section) -> list[str]:
    """Return why rows are stale, with the systems that it holds for, and what to do."""
    systems: dict[str, list[str]] = {}
    for row in section.system_rows:
        if row.state.name == "stale":
            systems.setdefault("; ".join(row.state.reasons), []).append(row.name)
    return [
        f"Stale, because {reason}: {', '.join(names)}. Measure again to replace "
        f"{'these rows' if names[1:] else 'this row'}."
        for reason, names in systems.items()
    ]


def _find_warnings(section: Section) -> list[str]:
    if section.is_smoke:  # nothing else that its figures suggest is worth following
        return [SMOKE_RUN, *_warn_of_partial_training(section)]
    rows = [row for row in section.rows if row.measured]
    warnings = _warn_of_partial_training(section) + _warn_of_high_scores(section)
    warnings += _warn_of_unsteady_times(section, rows)
    warnings += _warn_of_disturbances(rows)
    warnings += _warn_of_few_batches(section, rows)
    warnings += _warn_of_one_block(section)
    warnings += _warn_of_wide_intervals(section, rows)
    warnings += _explain_other_ratios(section, rows)
    if section.scenario == "server":
        return warnings + _explain_server_rates(section)
    return warnings + _warn_of_few_queries(section, rows) + _warn_of_harness_share(rows)


def find_caveats(section: Section) -> list[str]:
    """Return what a report must say beside the figures of a section: that they are those of a smoke
    run, of one block, or of systems that are trained on a part of the data.
    """
    return _collect(section, _find_caveats)


def compare_measurements(before: Section, after: Section) -> list[str]:
    """Return that two sections were measured in different ways, if they were."""
    versions = [section.latest.record.measurement for section in (before, after)]
    if versions[0] == versions[1]:
        return []
    return [
        f"The sessions were measured under version {versions[0]} and version {versions[1]} of the "
        "measurement, which differ in their figures (docs/methodology/measurement.md): a change "
        "may come from how it was measured."
    ]


def _find_caveats(section: Section) -> list[str]:
    blocks = [SMOKE_RUN] if section.is_smoke else _warn_of_one_block(section)
    return blocks + _warn_of_partial_training(section)


def _warn_of_partial_training(section: Section) -> list[str]:
    examples = section.task.get("training_examples")
    if examples is None:
        return []
    return [
        f"Trained on a part of the training split ({examples:,} examples): compare the scores only "
        "within this table. To train on all of it, build where the complete data is."
    ]


def _warn_of_high_scores(section: Section) -> list[str]:
    names = [row.name for row in section.system_rows if row.above_reference]
    if not names:
        return []
    return [
        f"{', '.join(names)}: the score is above the reference's by more than chance and training "
        "seeds explain (^). That is possible for an honest model, and a model that has seen the "
        "reported split looks the same: check how it was trained before you build on it."
    ]


def _warn_of_unsteady_times(section: Section, rows: list[Row]) -> list[str]:
    """Drift, odd blocks and odd rounds, from each row's times relative to its own median."""
    blocks = sorted(set.intersection(*(set(row.seconds) for row in rows)) if rows else ())
    if len(blocks) < 4:
        return []
    logs = np.log([[row.seconds[block] for block in blocks] for row in rows])
    logs -= np.median(logs, axis=1, keepdims=True)
    block_effects = np.median(logs, axis=0)
    warnings = []
    drift = statistics.estimate_drift(np.exp(block_effects).tolist())
    if drift and abs(drift.change) > DRIFT and drift.p < 0.05:
        warnings.append(
            f"The last block took {abs(drift.change):.0%} "
            f"{'more' if drift.change > 0 else 'less'} time than the first: the machine drifted. "
            "Speed-ups are ratios within blocks and are not affected; examples/s and latencies "
            "are. Wait until the machine has cooled down or is idle, then measure again."
        )
    else:
        warnings += [
            _describe_odd_block(blocks[index], math.exp(block_effects[index]))
            for index in statistics.find_outliers(np.exp(block_effects).tolist(), ODD_BLOCK)
        ]
    relative = np.exp(logs - block_effects)
    odd_rounds = [
        f"{row.name} in block {blocks[index]} ({times[index]:.2f} times its median time)"
        for row, times in zip(rows, relative, strict=True)
        for index in statistics.find_outliers(times.tolist(), ODD_ROUND)
    ]
    if odd_rounds:
        warnings.append(
            f"Outlier rounds: {', '.join(odd_rounds)}. They widen the confidence intervals of "
            f"these rows; {advise_more_blocks(section)}."
        )
    return warnings


def _describe_odd_block(block: int, effect: float) -> str:
    times = f"Block {block} took all systems {effect:.2f} times as long as the median block"
    if effect > 1:
        cause = ". Find out what else was running (`wattbench doctor`)"
    else:
        cause = (
            ", so it was faster: something slowed the other blocks down, or the clock rate "
            "changed. Find out what is running (`wattbench doctor`)"
        )
    return f"{times}{cause}; more blocks reduce its influence."


def advise_more_blocks(section: Section, is_wide: bool = False) -> str:
    """Return what makes the intervals of a section narrower, as a clause.

    Args:
        section: the section.
        is_wide: whether they are so wide that the machine is to blame.
    """
    doctor = "see what disturbs the machine (`wattbench doctor`)"
    blocks = max(len(row.seconds) for row in section.rows)
    if section.scenario == "offline":  # what --until looks at
        command = resume_command(section.rows, "--until", "5%")
        advice = f"to continue until they are narrow: `{command}`"
    elif blocks < MAX_BLOCKS:
        command = resume_command(section.rows, "--rounds", str(min(max(2 * blocks, 5), MAX_BLOCKS)))
        advice = f"more blocks narrow them: `{command}`"
    else:
        return doctor
    return f"{doctor}; {advice}" if is_wide else advice


def _warn_of_disturbances(rows: list[Row]) -> list[str]:
    windows = [window for row in rows for window in row.rounds]
    other_cores = fmean(window.others for window in windows) if windows else 0.0
    stolen_cores = fmean(window.steal for window in windows) if windows else 0.0
    warnings = []
    if other_cores > BUSY_CORES:
        warnings.append(
            f"Noisy machine: other processes kept {other_cores:.2f} cores busy during the timed "
            "windows. Stop them (`wattbench doctor` names them) and measure again."
        )
    if stolen_cores > STOLEN_CORES:
        warnings.append(
            f"Noisy machine: the hypervisor took {stolen_cores:.2f} cores during the timed "
            "windows. Measure at another time, or on a dedicated host."
        )
    throttled = fmean(window.throttled or 0.0 for window in windows) if windows else 0.0
    if throttled > THROTTLED_SHARE:
        warnings.append(
            f"The CPU limit of a control group paused the workers in {throttled:.0%} of the "
            "scheduler's periods: figures are those of the limit, not of the machine. Raise the "
            "container's CPU limit, or pin whole cores (--cpuset-cpus), and measure again."
        )
    return warnings


def _warn_of_few_batches(section: Section, rows: list[Row]) -> list[str]:
    if section.scenario != "offline":
        return []
    names = [
        row.name
        for row in rows
        if min(window.examples for window in row.rounds) < row.least_examples
    ]
    if not names:
        return []
    return [
        f"Windows of fewer than {LEAST_BATCHES} batches, as in older sessions: {', '.join(names)}. "
        "All texts are padded to the longest of the window there, so batches look slower than they "
        "are. Measure again."
    ]


def _warn_of_one_block(section: Section) -> list[str]:
    names = [row.name for row in section.rows if row.speedup and not row.speedup.is_known]
    if not names:
        return []
    return [
        f"Measured in one block, so without confidence intervals: {', '.join(names)}. How far "
        "these speed-ups are from the truth is not known. Measure more: "
        f"`{resume_command(section.rows, '--rounds', '5')}`."
    ]


def _warn_of_wide_intervals(section: Section, rows: list[Row]) -> list[str]:
    speedups = {
        row.name: row.speedup
        for row in rows
        if row.speedup and row.name != row.record.roles["null"]
    }
    half_widths = {
        name: math.sqrt(speedup.high / speedup.low) - 1
        for name, speedup in speedups.items()
        if speedup.is_known
    }
    wide = {name: width for name, width in half_widths.items() if width > WIDE_INTERVAL}
    if not wide:
        return []
    widest = max(wide, key=wide.__getitem__)
    speedup = speedups[widest]
    width = f"±{wide[widest]:.0%}"
    if speedup.is_wide:
        width = f"{format_number(speedup.low)}x to {format_number(speedup.high)}x"
    return [
        f"The confidence intervals of {len(wide)} of {len(rows)} speed-ups are wider than "
        f"±{WIDE_INTERVAL:.0%} (the widest: {widest}, {width}); "
        f"{advise_more_blocks(section, speedup.is_wide)}."
    ]


def _explain_other_ratios(section: Section, rows: list[Row]) -> list[str]:
    """Say why a speed-up is not the ratio of the rates beside it, where a reader would notice."""
    reference = section.measured_rows.get(section.roles["reference"])
    if reference is None:
        return []
    ratios = {
        row.name: (row.throughput / reference.throughput, row.speedup.value)
        for row in rows
        if row.speedup and row.name != row.record.roles["null"]
    }
    factors = {name: math.exp(abs(math.log(a / b))) - 1 for name, (a, b) in ratios.items()}
    most = max(factors, key=factors.__getitem__, default="")
    if not most or factors[most] <= DIFFERENT_RATIO:
        return []
    rate, speedup = ratios[most]
    return [
        "Speed-ups are not the ratios of the rates beside them (the largest difference: "
        f"{most}, {format_number(speedup)}x and {format_number(rate)}x). A speed-up is the "
        "geometric mean of the ratios within the blocks, a rate counts all blocks together, where "
        "slow blocks weigh more."
    ]


def _warn_of_few_queries(section: Section, rows: list[Row]) -> list[str]:
    needed = statistics.count_needed_queries(0.99)
    queries = {
        row.name: row.record.latency_ms["queries"]
        for row in rows
        if row.record.latency_ms and row.record.latency_ms["queries"] < needed
    }
    if not queries:
        return []
    fewest = min(queries.values())
    blocks = max(len(row.seconds) for row in rows)
    blocks = math.ceil(blocks * needed / max(fewest, 1))
    remedy = f"More blocks give one: `{resume_command(section.rows, '--rounds', str(blocks))}`."
    if blocks > MAX_BLOCKS:
        remedy = f"That would take {blocks} blocks: compare the p50 instead."
    return [f"Too few queries for a p99 of {', '.join(queries)}: {fewest} of {needed}. {remedy}"]


def _warn_of_harness_share(rows: list[Row]) -> list[str]:
    shares = {
        row.name: min(1.0, row.harness_share or 0.0)  # an estimate, so it may be larger
        for row in rows
        if row.name != row.record.roles["null"] and (row.harness_share or 0.0) > HARNESS_SHARE
    }
    if not shares:
        return []
    largest = max(shares, key=shares.__getitem__)
    return [
        f"The harness itself takes more than {HARNESS_SHARE:.0%} of the time of "
        f"{', '.join(shares)} (the largest share: {largest}, {shares[largest]:.0%}): the true "
        "speed is higher than the figures."
    ]


def _explain_server_rates(section: Section) -> list[str]:
    """Say why a row of `server` has no rate, or may sustain a higher one."""
    notes = []
    needed = statistics.count_needed_queries(0.99)
    for row in section.rows:
        record, sustained = row.record, row.record.sustained
        if record.failure or not sustained or row.measured:
            continue
        bound = f"a p99 of {sustained['bound_ms']:g} ms"
        rates = sustained["rates"]
        queries = sum(window.examples for window in row.rounds)
        if 2 * len(row.seconds) > len(rates):
            blocks = math.ceil(len(rates) * needed / queries)
            command = resume_command(section.rows, "--rounds", str(blocks))
            remedy = f"More blocks decide it: `{command}`."
            if blocks > MAX_BLOCKS:
                remedy = f"To decide it would take {blocks} blocks."
            notes.append(
                f"{row.name} may sustain {bound}, but {queries} of the {needed} queries that a p99 "
                f"needs were measured. {remedy}"
            )
        else:
            lowest = min(window.rate or 0 for window in record.rounds)
            notes.append(
                f"{row.name} cannot sustain {bound}: only {len(row.seconds)} of {len(rates)} "
                f"blocks sustained any rate, down to {lowest:.2g} queries/s."
            )
    capped = [row.name for row in section.rows if row.capped]
    if capped:
        notes.append(
            f"{', '.join(capped)}: measured only up to the rate that the driver can send on "
            "schedule; the system may sustain more."
        )
    return notes
