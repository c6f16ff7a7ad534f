"""What each choice of a submission is worth: the whole against itself with one left out."""

from pathlib import Path

from tabulate import tabulate

from harness.errors import HarnessError
from harness.leaderboard.formatting import interval, number
from harness.leaderboard.ranking import Section, faster, load_sections
from harness.leaderboard.row import Row
from harness.leaderboard.warnings import SMOKE_RUN
from harness.reports.comparison import paired

EXPLAINED = (
    "*Worth*: how many times as long the variant takes for an example, block by block. *Changes "
    "score*: the variant's score less the whole's, on the same examples. The padding stands first: "
    "whoever pads nothing has it for free, and it is no optimization of the model. Choices overlap "
    "(more instances gain less where a graph is not fused), so that their product is not the "
    "headline."
)


def waterfall(session: Path, system: str) -> str:
    """Markdown out of the records of one session, in which `system` and its variants were measured.

    Raises: HarnessError if the system itself was not.
    """
    found, _ = load_sections(session.parent, session.name)
    parts = [f"# {system}: what each choice is worth", EXPLAINED]
    for section in found:
        whole = next((row for row in section.rows if row.name == system and row.measured), None)
        if whole is None:
            raise HarnessError(f"{session}: {system} was not measured; {_reason(section, system)}")
        scenario = section.scenario.replace("_", " ")
        place = f"{section.configuration['name']}, {section.machine}"
        parts += [
            f"## {section.task['name']}, {scenario}, {place}, session `{section.session}`",
            _headline(section, whole),
            _table(section, whole),
            *([SMOKE_RUN] if whole.record.smoke else []),
        ]
        parts += [
            f"- {row.record.system['title']} failed: {row.record.failure['reason']}"
            for row in section.rows
            if row.record.failure
        ]
    return "\n\n".join(parts) + "\n"


def _reason(section: Section, system: str) -> str:
    failure = next((row.record.failure for row in section.rows if row.name == system), None)
    return failure["reason"] if failure else "see its records"


def _headline(section: Section, whole: Row) -> str:
    by_name = {row.name: row for row in section.rows if row.measured}
    roles = whole.record.roles
    padded, unpadded = (by_name.get(roles[each]) for each in ("reference", "unpadded_reference"))
    if padded is None or unpadded is None:
        return f"{number(whole.throughput)} examples/s."
    return (
        f"{number(whole.throughput)} examples/s: {interval(whole.speedup)} of {padded.name}. Of "
        f"that the reference's padding is {interval(faster(padded, unpadded))}; "
        f"{interval(whole.unpadded)} are left against {unpadded.name}."
    )


def _table(section: Section, whole: Row) -> str:
    variants = [
        row
        for row in section.rows
        if row.name.startswith(f"{whole.name}-without-") and row.measured
    ]
    variants.sort(key=lambda row: (not row.name.endswith("-padding"), row.throughput, row.name))
    lines = []
    for row in variants:
        apart = paired(row, whole)
        moved = f"{apart.difference.value:+.4f} (p {apart.p:.2g})" if apart else "-"
        lines.append(
            {
                "left out": row.name.partition("-without-")[2],
                "instead": row.record.system["title"],
                "worth": interval(faster(row, whole)),
                "examples/s": number(row.throughput),
                "changes score": moved,
                "memory MB": number(row.columns().get("memory_mb")),
            }
        )
    return tabulate(lines, headers="keys", tablefmt="github", disable_numparse=True)
