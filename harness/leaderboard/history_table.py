"""All measurements of one system as tables: score and speed-ups over sessions."""

from collections.abc import Iterable, Sequence

from harness.errors import HarnessError, suggest_name
from harness.leaderboard.formatting import (
    format_interval,
    format_machine,
    format_scenario,
    format_score,
    format_table,
    shorten_session,
)
from harness.leaderboard.history import HistoryEntry, count_blocks
from harness.results.record import Record

HISTORY_HEADINGS = (
    *("session", "date", "score", "speed-up", "unpadded", "blocks", "isolation"),
    *("artifact", "measurement", "revision", "note"),
)


def format_entry(entry: HistoryEntry) -> dict[str, str]:
    """Return the cells of one session, by heading."""
    record = entry.record
    cells = (
        shorten_session(record.session),
        record.started[:10],
        "failed" if record.failure else format_score(record),
        format_interval(entry.speedup),
        format_interval(entry.unpadded_speedup),
        str(count_blocks(record)),
        record.machine["isolation"],
        str((record.artifact or {}).get("key", ""))[:8] or "-",
        str(record.measurement),
        record.software.get("revision", "-"),
        entry.note,
    )
    return dict(zip(HISTORY_HEADINGS, cells, strict=True))


def render_histories(
    histories: Sequence[tuple[Record, Sequence[HistoryEntry]]], system: str, known: Iterable[str]
) -> str:
    """Return a table of the sessions of each section that has the system.

    Args:
        histories: the latest record and the entries of each section.
        system: the name of the system.
        known: the names of all systems that were measured.

    Raises:
        HarnessError: the system was never measured.
    """
    if not histories:
        raise HarnessError(
            f"there are no records of the system {system!r}. {suggest_name(system, known)}"
        )
    parts = []
    for record, entries in histories:
        parts += [
            f"{system} on {record.task['name']}, {format_scenario(record.scenario)}, "
            f"{record.configuration['name']}, {format_machine(record)}, reference "
            f"{record.roles['reference']}",
            format_table(map(format_entry, entries)),
        ]
    return "\n\n".join(parts)
