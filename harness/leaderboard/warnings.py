"""Warnings about a section's figures, each with its remedy, in the manner of pyperf."""

import math
from statistics import fmean

import numpy as np

from harness.leaderboard.commands import resume_command
from harness.leaderboard.ranking import Section
from harness.leaderboard.row import Row
from harness.results import statistics

WIDE_INTERVAL = 0.1
DRIFT = 0.1
SLOW_BLOCK = 0.15
SLOW_ROUND = 0.25
BUSY_CORES = 0.1
STOLEN_CORES = 0.02
HARNESS_SHARE = 0.02

SMOKE_RUN = (
    "Smoke run: its windows are shorter than the standard ones, so its figures only show that "
    "everything works. Measure without --smoke to compare systems."
)


def find_warnings(section: Section) -> list[str]:
    """Return the warnings about a section: what is noteworthy, and what to do about it."""
    rows = [row for row in section.rows if row.measured]
    warnings = [SMOKE_RUN] if any(row.record.smoke for row in section.rows) else []
    warnings += _warn_of_high_scores(section)
    warnings += _warn_of_unsteady_times(section, rows)
    warnings += _warn_of_disturbances(rows)
    warnings += _warn_of_wide_intervals(section, rows)
    if section.scenario == "server":
        return warnings + _explain_server_rates(section)
    return warnings + _warn_of_few_queries(rows) + _warn_of_harness_share(rows)


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
    """Drift, slow blocks and slow rounds, from each row's times relative to its own median."""
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
            f"Block {blocks[index]} took all systems {math.exp(block_effects[index]):.2f} times as "
            "long as the median block. Find out what else was running (`wattbench doctor`); more "
            "blocks reduce its influence."
            for index in statistics.find_outliers(np.exp(block_effects).tolist(), SLOW_BLOCK)
        ]
    relative = np.exp(logs - block_effects)
    odd_rounds = [
        f"{row.name} in block {blocks[index]} ({times[index]:.2f} times its median time)"
        for row, times in zip(rows, relative, strict=True)
        for index in statistics.find_outliers(times.tolist(), SLOW_ROUND)
    ]
    if odd_rounds:
        warnings.append(
            f"Outlier rounds: {', '.join(odd_rounds)}. They widen the confidence intervals of "
            "these rows. More blocks narrow them: "
            f"`{resume_command(section.rows, '--rounds', str(2 * len(blocks)))}`."
        )
    return warnings


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
    return warnings


def _warn_of_wide_intervals(section: Section, rows: list[Row]) -> list[str]:
    half_widths = {
        row.name: math.sqrt(row.speedup.high / row.speedup.low) - 1
        for row in rows
        if row.speedup and row.name != row.record.roles["null"]
    }
    wide = {name: width for name, width in half_widths.items() if width > WIDE_INTERVAL}
    if not wide:
        return []
    widest = max(wide, key=wide.__getitem__)
    return [
        f"The confidence intervals of {len(wide)} of {len(rows)} speed-ups are wider than "
        f"±{WIDE_INTERVAL:.0%} (the widest: {widest}, ±{wide[widest]:.0%}). To continue until they "
        f"are narrow: `{resume_command(section.rows, '--until', '5%')}`."
    ]


def _warn_of_few_queries(rows: list[Row]) -> list[str]:
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
    return [
        f"Too few queries for a p99 of {', '.join(queries)}: {fewest} of {needed}. Measure with "
        f"--rounds {math.ceil(blocks * needed / fewest)}."
    ]


def _warn_of_harness_share(rows: list[Row]) -> list[str]:
    names = [
        row.name
        for row in rows
        if row.name != row.record.roles["null"] and (row.harness_share or 0) > HARNESS_SHARE
    ]
    if not names:
        return []
    return [
        f"The harness itself takes more than {HARNESS_SHARE:.0%} of the time of "
        f"{', '.join(names)}: the true speed is slightly higher than the figures."
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
            rounds = math.ceil(len(rates) * needed / queries)
            notes.append(
                f"{row.name} may sustain {bound}, but {queries} of the {needed} queries that a p99 "
                f"needs were measured. More blocks decide it: "
                f"`{resume_command(section.rows, '--rounds', str(rounds))}`."
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
