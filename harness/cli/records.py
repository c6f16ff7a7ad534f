"""The records that commands read, with what is wrong with them on stderr."""

import glob
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.submissions.project import find_project

if TYPE_CHECKING:
    from harness.leaderboard.ranking import Section


def read_sections(records: Path, session: str = "", systems: Sequence[str] = ()) -> "list[Section]":
    """Return what a folder of records shows.

    Records that cannot be read are named on stderr.

    Args:
        records: the folder of the sessions.
        session: only this one.
        systems: of each machine and configuration, take the latest session that has these.
    """
    from harness.leaderboard.ranking import load_sections

    sections, faults = load_sections(records, glob.escape(session) or "*", systems)
    report_faults(faults)
    return sections


def read_board(records: Path) -> "list[Section]":
    """Return what the board shows of a folder of records: each system's latest comparable row.

    Records that cannot be read are named on stderr.
    """
    from harness.leaderboard.board import load_board
    from harness.submissions.staleness import StalenessCheck

    sections, faults = load_board(records, StalenessCheck(find_project()).find_state)
    report_faults(faults)
    return sections


def report_faults(faults: Sequence[str]) -> None:
    """Name records that cannot be read on stderr."""
    from harness.leaderboard.formatting import shorten_list

    for fault in shorten_list(faults):
        print(f"wattbench: left out: {fault}", file=sys.stderr)


def find_session(records: Path, name: str) -> Path | None:
    """Return the folder of a session, by its name, its path or the end of its name; None if no
    session is called so, or several are.
    """
    endings = list(records.glob(f"*{glob.escape(name)}")) if "/" not in name else []
    places = (records / name, Path(name), *(endings if len(endings) == 1 else ()))
    return next((place for place in places if any(place.glob("*/*/*.json"))), None)
