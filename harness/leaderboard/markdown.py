"""The leaderboard in Markdown: `results/README.md`."""

from collections.abc import Sequence
from dataclasses import dataclass

from harness.leaderboard.commands import MODEL, write_session_command
from harness.leaderboard.formatting import format_fingerprint
from harness.leaderboard.ranking import Section
from harness.leaderboard.section import choose_main_section, find_notes, format_section
from harness.leaderboard.suites import find_complete_suites, format_suite_table
from harness.leaderboard.tables import format_overview
from harness.leaderboard.template import render_template
from harness.results.record import Record
from harness.tasks.metrics import METRICS


@dataclass(frozen=True)
class SectionText:
    """What the template shows of a section.

    Attributes:
        section: the section.
        starts_session: whether it is the first one of its session below its heading.
        blocks: the number of blocks.
        examples: the number of examples of the reported split.
        metric: the metric, with the parts of the score.
        machine: the hardware, the system and the isolation.
        software: the versions of the software.
        command: the command that measures the session again.
        model: the system whose path the command needs as `MODEL`, or ''.
        table: the table of the systems.
        notes: the notes on the figures.
    """

    section: Section
    starts_session: bool
    blocks: int
    examples: int
    metric: str
    machine: str
    software: str
    command: str
    model: str
    table: str
    notes: list[str]


def render_leaderboard(
    sections: Sequence[Section],
    faults: Sequence[str],
    ladders: str = "",
    has_plot: bool = False,
    has_energy: bool = False,
) -> str:
    """Return `results/README.md`.

    Args:
        sections: the sections of the board, in order.
        faults: the messages about records that were left out.
        ladders: the tables of the ladders, '' for none.
        has_plot: whether there is a plot of a ladder.
        has_energy: whether there is an energy report.
    """
    main = choose_main_section(sections)
    suites = find_complete_suites(sections)
    return render_template(
        "leaderboard/leaderboard.md.j2",
        main=main,
        summary=main and format_overview(sections, main, short=True),
        suites={heading: format_suite_table(tasks) for heading, tasks in suites.items()},
        places=_describe_places(sections),
        ladders=ladders,
        has_plot=has_plot,
        has_energy=has_energy,
        faults=faults,
    )


def _describe_places(sections: Sequence[Section]) -> dict[str, list[SectionText]]:
    """Group sections by task, configuration and machine."""
    places: dict[str, list[SectionText]] = {}
    for section in sections:
        heading = f"{section.task['name']} on {section.configuration['name']}, {section.machine}"
        place = places.setdefault(heading, [])
        is_known = any(text.section.session == section.session for text in place)
        has_server = any(
            other.scenario == "server" and other.session == section.session for other in sections
        )
        place.append(_describe_section(section, not is_known, has_server))
    return places


def _describe_section(section: Section, starts_session: bool, has_server: bool) -> SectionText:
    record = section.rows[0].record
    versions = record.software.items()
    names = ("python", "torch", "onnxruntime", "wattbench")
    blocks = (window.block for row in section.rows for window in row.record.rounds)
    command = write_session_command(section, has_server)
    return SectionText(
        section=section,
        starts_session=starts_session,
        blocks=max(blocks, default=0),
        examples=record.score["examples"] if record.score else 0,
        metric=_describe_metric(record),
        machine=format_fingerprint(section.fingerprint),
        software=", ".join(f"{name} {version}" for name, version in versions if name in names),
        command=command,
        model=section.roles["reference"] if f"--model {MODEL} " in command else "",
        table=format_section(section),
        notes=find_notes(section),
    )


def _describe_metric(record: Record) -> str:
    """`accuracy`, or `mean of accuracy and macro-F1`, in the order of the score's parts."""
    parts = list((record.score or {}).get("parts", {}))
    averaged = len(METRICS[record.task["metric"]].parts)
    if not parts:
        return str(record.task["metric"])
    text = f"mean of {' and '.join(parts[:averaged])}" if averaged > 1 else parts[0]
    return text + "".join(f"; also {name}" for name in parts[averaged:])
