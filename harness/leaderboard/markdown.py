"""The leaderboard in Markdown: `results/README.md`."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from harness.leaderboard.commands import MODEL, write_session_command
from harness.leaderboard.formatting import format_fingerprint
from harness.leaderboard.history import count_blocks
from harness.leaderboard.ranking import Section
from harness.leaderboard.section import (
    choose_main_section,
    describe_floor,
    find_notes,
    format_section,
)
from harness.leaderboard.suites import find_measured_suites, format_suite_table
from harness.leaderboard.tables import format_overview
from harness.leaderboard.template import render_template
from harness.results.record import Record
from harness.results.record_parts import ConfigurationPart
from harness.tasks.metrics import METRICS


@dataclass(frozen=True)
class SessionText:
    """What the template shows of a session.

    Attributes:
        name: the name of the session.
        blocks: the number of blocks.
        examples: the number of examples of the reported split.
        metric: the metric, with the parts of the score.
        machine: the hardware, the system and the isolation.
        configuration: the configuration, as in the records.
        software: the versions of the software, and the revision of the code.
        command: the command that measures the session again.
        model: the system whose path the command needs as `MODEL`, or ''.
    """

    name: str
    blocks: int
    examples: int
    metric: str
    machine: str
    configuration: ConfigurationPart
    software: str
    command: str
    model: str


@dataclass(frozen=True)
class SectionText:
    """What the template shows of a section.

    Attributes:
        section: the section.
        sessions: its sessions that no section above describes, the latest first.
        table: the table of the systems.
        floor: the quality floor, in words.
        notes: the notes on the figures.
    """

    section: Section
    sessions: list[SessionText]
    table: str
    floor: str
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
    return render_template(
        "leaderboard/leaderboard.md.j2",
        main=main,
        main_floor=main and describe_floor(main),
        summary=main and format_overview(sections, main, short=True),
        suites=[
            (measured, format_suite_table(measured)) for measured in find_measured_suites(sections)
        ],
        places=_describe_places(sections),
        ladders=ladders,
        has_plot=has_plot,
        has_energy=has_energy,
        faults=faults,
    )


def _describe_places(sections: Sequence[Section]) -> dict[str, list[SectionText]]:
    """Group sections by task, configuration, machine and reference."""
    places: dict[str, list[SectionText]] = {}
    references: dict[str, set[str]] = {}
    for section in sections:
        references.setdefault(_name_place(section), set()).add(section.roles["reference"])
    for section in sections:
        heading = _name_place(section)
        if len(references[heading]) > 1:
            heading += f", reference {section.roles['reference']}"
        place = places.setdefault(heading, [])
        known = {session.name for text in place for session in text.sessions}
        place.append(_describe_section(section, sections, known))
    return places


def _name_place(section: Section) -> str:
    return f"{section.task['name']} on {section.configuration['name']}, {section.machine}"


def _describe_section(
    section: Section, sections: Sequence[Section], known: Collection[str]
) -> SectionText:
    with_server = {
        row.record.session for other in sections if other.scenario == "server" for row in other.rows
    }
    return SectionText(
        section=section,
        sessions=[
            _describe_session(part, part.session in with_server)
            for part in section.split_sessions()
            if part.session not in known
        ],
        table=format_section(section),
        floor=describe_floor(section),
        notes=find_notes(section),
    )


def _describe_session(section: Section, has_server: bool) -> SessionText:
    """Describe the session of a section whose rows are all of one."""
    record = section.latest.record
    versions = record.software.items()
    names = ("python", "torch", "onnxruntime", "wattbench", "revision")
    command = write_session_command(section, has_server)
    return SessionText(
        name=section.session,
        blocks=max((count_blocks(row.record) for row in section.rows), default=0),
        examples=record.score["examples"] if record.score else 0,
        metric=_describe_metric(record),
        machine=format_fingerprint(record.machine),
        configuration=record.configuration,
        software=", ".join(f"{name} {version}" for name, version in versions if name in names),
        command=command,
        model=section.roles["reference"] if f"--model {MODEL} " in command else "",
    )


def _describe_metric(record: Record) -> str:
    """`accuracy`, or `mean of accuracy and macro-F1`, in the order of the score's parts."""
    parts = list((record.score or {}).get("parts", {}))
    averaged = len(METRICS[record.task["metric"]].parts)
    if not parts:
        return str(record.task["metric"])
    text = f"mean of {' and '.join(parts[:averaged])}" if averaged > 1 else parts[0]
    return text + "".join(f"; also {name}" for name in parts[averaged:])
