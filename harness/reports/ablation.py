"""Ablation: a submission against itself with one choice left out at a time."""

from pathlib import Path

from harness.errors import HarnessError
from harness.leaderboard.columns import get_column
from harness.leaderboard.formatting import (
    format_interval,
    format_number,
    format_scenario,
    format_table,
)
from harness.leaderboard.ranking import Section, compute_speedup, load_sections
from harness.leaderboard.row import Row
from harness.leaderboard.warnings import SMOKE_RUN
from harness.reports.comparison import compare_scores

INTRODUCTION = (
    "*Speed-up*: how many times as long the variant takes per example, block by block, which is "
    "what the choice contributes. *Score change*: the variant's score less the submission's, on "
    "the same examples. Padding is listed first, because not padding is not an optimization of the "
    "model. The contributions overlap (more instances gain less if a graph is not fused), so their "
    "product is not the total speed-up."
)


def render_ablation(session: Path, system: str) -> str:
    """Return the ablation of a system as Markdown.

    Args:
        session: the folder of the records of the session that measured the system and its variants.
        system: the name of the system.

    Raises:
        HarnessError: the session has no figures of the system itself.
    """
    sections, _ = load_sections(session.parent, session.name)
    parts = [f"# {system}: ablation", INTRODUCTION]
    for section in sections:
        whole = section.measured_rows.get(system)
        if whole is None:
            reason = _find_failure(section, system)
            raise HarnessError(f"{session}: {system} was not measured: {reason}")
        parts += [
            f"## {section.task['name']}, {format_scenario(section.scenario)}, "
            f"{section.configuration['name']}, {section.machine}, session `{section.session}`",
            _describe_total(section, whole),
            _format_variants(section, whole),
            *([SMOKE_RUN] if whole.record.smoke else []),
        ]
        parts += [
            f"- {row.record.system['title']} failed: {row.record.failure['reason']}"
            for row in section.rows
            if row.record.failure
        ]
    return "\n\n".join(parts) + "\n"


def _find_failure(section: Section, system: str) -> str:
    failure = next((row.record.failure for row in section.rows if row.name == system), None)
    return failure["reason"] if failure else "see its records."


def _describe_total(section: Section, whole: Row) -> str:
    rate = f"{format_number(whole.throughput)} examples/s"
    padded, unpadded = (
        section.measured_rows.get(section.roles[role])
        for role in ("reference", "unpadded_reference")
    )
    if padded is None or unpadded is None:
        return f"{rate}."
    total, padding, rest = map(
        format_interval,
        (whole.speedup, compute_speedup(padded, unpadded), whole.unpadded_speedup),
    )
    return (
        f"{rate}, a speed-up of {total} over {padded.name}: {padding} by not padding, and {rest} "
        f"over {unpadded.name}."
    )


def _format_variants(section: Section, whole: Row) -> str:
    variants = [
        row
        for row in section.rows
        if row.name.startswith(f"{whole.name}-without-") and row.measured
    ]
    variants.sort(key=lambda row: (not row.name.endswith("-padding"), row.throughput, row.name))
    lines = []
    for row in variants:
        comparison = compare_scores(row, whole)
        change = "-"
        if comparison:
            change = f"{comparison.difference.value:+.4f} (p {comparison.p:.2g})"
        lines.append(
            {
                "left out": row.name.partition("-without-")[2],
                "variant": row.record.system["title"],
                "speed-up": format_interval(compute_speedup(row, whole)),
                "examples/s": format_number(row.throughput),
                "score change": change,
                "memory MB": get_column("memory_mb").text(row),
            }
        )
    return format_table(lines)
