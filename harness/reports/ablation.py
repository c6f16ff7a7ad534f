"""Ablation: a submission against itself with one choice left out at a time."""

from pathlib import Path

from harness.errors import HarnessError
from harness.leaderboard.columns import get_column
from harness.leaderboard.formatting import (
    describe_ratio,
    format_interval,
    format_number,
    format_table,
)
from harness.leaderboard.ranking import Section, compute_speedup, load_sections
from harness.leaderboard.row import Row
from harness.leaderboard.template import render_template
from harness.leaderboard.warnings import find_caveats
from harness.reports.comparison import compare_scores


def render_ablation(session: Path, system: str) -> str:
    """Return the ablation of a system as Markdown.

    Args:
        session: the folder of the records of the session that measured the system and its variants.
        system: the name of the system.

    Raises:
        HarnessError: the session has no figures of the system itself.
    """
    sections, _ = load_sections(session.parent, session.name)
    parts = []
    for section in sections:
        whole = section.measured_rows.get(system)
        if whole is None:
            reason = _find_failure(section, system)
            raise HarnessError(f"{session}: {system} was not measured: {reason}")
        parts.append(_describe_section(section, whole))
    return render_template("reports/ablation.md.j2", system=system, parts=parts)


def _find_failure(section: Section, system: str) -> str:
    failure = next((row.record.failure for row in section.rows if row.name == system), None)
    return failure["reason"] if failure else "see its records."


def _describe_section(section: Section, whole: Row) -> dict[str, object]:
    """Return what the template shows of a section; `total` is None without both references."""
    padded, unpadded = (
        section.measured_rows.get(section.roles[role])
        for role in ("reference", "unpadded_reference")
    )
    has_references = padded is not None and unpadded is not None
    return {
        "section": section,
        "rate": format_number(whole.throughput),
        "total": describe_ratio(whole.speedup) if has_references else None,
        "padding": describe_ratio(compute_speedup(padded, unpadded)) if unpadded else None,
        "rest": describe_ratio(whole.unpadded_speedup),
        "table": _format_variants(section, whole),
        "caveats": find_caveats(section),
        "failures": {
            row.record.system["title"]: row.record.failure["reason"]
            for row in section.rows
            if row.record.failure
        },
    }


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
