"""What a reader should know of a section's figures, and what would make them better.

The wording follows pyperf's habit: a warning says what was seen, and what to do about it.
"""

import math
from statistics import mean

import numpy as np

from harness.leaderboard.ranking import Section
from harness.leaderboard.row import Row
from harness.results import statistics

WIDE = 0.1
DRIFTED = 0.1
SLOW_BLOCK = 0.15
ODD_ROUND = 0.25
BUSY_CORES = 0.1
STOLEN_CORES = 0.02
HARNESS_SHARE = 0.02

SMOKE_RUN = (
    "A smoke run: its windows are shorter than the standard ones. It shows that everything works; "
    "measure without --smoke to compare."
)


def remarks(section: Section) -> list[str]:
    """One sentence or two for each thing that was noticed."""
    rows = [row for row in section.rows if row.measured]
    found = [SMOKE_RUN] if any(row.record.smoke for row in section.rows) else []
    found += [*_above(section), *_course(section, rows), *_disturbed(rows), *_wide(section, rows)]
    return found + (_unheld(section) if section.scenario == "server" else _few(rows))


def _above(section: Section) -> list[str]:
    """A mark, no fault: an honest model may be better than the reference."""
    names = [row.name for row in section.systems if row.above]
    if not names:
        return []
    return [
        f"{', '.join(names)}: above the reference's score by more than chance and training seeds "
        "explain (^). Look at how it was trained before you build on it: a model that has seen the "
        "reported split looks the same."
    ]


def _course(section: Section, rows: list[Row]) -> list[str]:
    """Drift, slow blocks and odd rounds, from each row's time against its own usual one."""
    blocks = sorted(set.intersection(*(set(row.seconds) for row in rows)) if rows else ())
    if len(blocks) < 4:
        return []
    logs = np.log([[row.seconds[block] for block in blocks] for row in rows])
    logs -= np.median(logs, axis=1, keepdims=True)
    effects = np.median(logs, axis=0)
    found = []
    drift = statistics.drift(np.exp(effects).tolist())
    if drift and abs(drift.change) > DRIFTED and drift.p < 0.05:
        found.append(
            f"The machine took {abs(drift.change):.0%} "
            f"{'more' if drift.change > 0 else 'less'} time "
            "in the last block than in the first. Speed-ups are ratios within blocks and do not "
            "suffer; examples/s and latencies do. Let it cool down or come to rest, then measure "
            "again."
        )
    else:
        for place in statistics.outliers(np.exp(effects).tolist(), SLOW_BLOCK):
            found.append(
                f"Block {blocks[place]} took all systems {math.exp(effects[place]):.2f} times as "
                "long as the median block. Find what ran meanwhile (`wattbench doctor`); more "
                "blocks make it matter less."
            )
    apart = np.exp(logs - effects)
    odd = [
        f"{row.name} in block {blocks[place]} ({times[place]:.2f} times its usual time)"
        for row, times in zip(rows, apart, strict=True)
        for place in statistics.outliers(times.tolist(), ODD_ROUND)
    ]
    if odd:
        found.append(
            f"Single rounds out of line: {', '.join(odd)}. They widen the interval of these rows; "
            f"more blocks narrow it: `wattbench run --resume {section.session} --rounds "
            f"{2 * len(blocks)}`."
        )
    return found


def _disturbed(rows: list[Row]) -> list[str]:
    windows = [each for row in rows for each in row.rounds]
    others = mean(each.others for each in windows) if windows else 0.0
    stolen = mean(each.steal for each in windows) if windows else 0.0
    found = []
    if others > BUSY_CORES:
        found.append(
            f"Other processes kept {others:.2f} cores busy while it was timed. Stop them and "
            "measure again; `wattbench doctor` names them."
        )
    if stolen > STOLEN_CORES:
        found.append(
            f"The hypervisor took {stolen:.2f} cores while it was timed. Measure at another hour, "
            "or on a host of one's own."
        )
    return found


def _wide(section: Section, rows: list[Row]) -> list[str]:
    wide = {
        row.name: math.sqrt(row.speedup.high / row.speedup.low) - 1
        for row in rows
        if row.speedup and row.name != row.record.roles["null"]
    }
    wide = {name: half for name, half in wide.items() if half > WIDE}
    if not wide:
        return []
    name = max(wide, key=wide.__getitem__)
    return [
        f"The interval of {len(wide)} of {len(rows)} speed-ups is wider than ±{WIDE:.0%} (the "
        f"widest: {name}, ±{wide[name]:.0%}). `wattbench run --resume {section.session} --until "
        "5%` goes on until they are narrow."
    ]


def _few(rows: list[Row]) -> list[str]:
    """Percentiles that are withheld, and rows that are mostly harness."""
    found = []
    needed = statistics.queries_needed(0.99)
    few = {
        row.name: row.record.latency_ms["queries"]
        for row in rows
        if row.record.latency_ms and row.record.latency_ms["queries"] < needed
    }
    if few:
        name = min(few, key=few.__getitem__)
        blocks = max(len(row.seconds) for row in rows)
        found.append(
            f"Too few queries for a p99 of {', '.join(few)}: {few[name]} of {needed}. Take "
            f"--rounds {math.ceil(blocks * needed / few[name])}."
        )
    shares = [
        row.name
        for row in rows
        if row.name != row.record.roles["null"] and (row.share or 0) > HARNESS_SHARE
    ]
    if shares:
        found.append(
            f"The harness itself is more than {HARNESS_SHARE:.0%} of the time of "
            f"{', '.join(shares)}: they are a little faster than shown."
        )
    return found


def _unheld(section: Section) -> list[str]:
    """Why a row of `server` has a dash, or may be better than shown."""
    found = []
    needed = statistics.queries_needed(0.99)
    for row in section.rows:
        it, sustained = row.record, row.record.sustained
        if it.failure or not sustained or row.measured:
            continue
        rates = sustained["rates"]
        held = sum(each.examples for each in row.rounds)
        if 2 * len(row.seconds) > len(rates):
            found.append(
                f"{row.name} may hold {sustained['bound_ms']:g} ms, but {held} queries are too few "
                f"for a p99 ({needed}). More blocks settle it: `wattbench run --resume "
                f"{section.session} --rounds {math.ceil(len(rates) * needed / held)}`."
            )
        else:
            lowest = min(each.rate or 0 for each in it.rounds)
            found.append(
                f"{row.name} cannot hold {sustained['bound_ms']:g} ms: in {len(row.seconds)} of "
                f"{len(rates)} blocks it held any rate, down to {lowest:.2g} queries/s."
            )
    capped = [row.name for row in section.rows if row.capped]
    if capped:
        found.append(
            f"{', '.join(capped)}: probed only up to the rate that the driver can send on "
            "schedule, and may sustain more."
        )
    return found
