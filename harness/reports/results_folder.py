"""All files in `results/` that `wattbench board` renders from records."""

from dataclasses import dataclass
from pathlib import Path

from harness.errors import HarnessError
from harness.leaderboard.board import build_board, find_complete_sections
from harness.leaderboard.formatting import shorten_list
from harness.leaderboard.markdown import render_leaderboard
from harness.leaderboard.page import render_page
from harness.leaderboard.plots import draw_ladder, draw_pareto
from harness.leaderboard.ranking import Section
from harness.leaderboard.reading import read_records
from harness.leaderboard.section import choose_main_section
from harness.leaderboard.tables import build_frame, render_json
from harness.reports.energy import render_energy_files
from harness.reports.ladder import find_rungs, render_ladders
from harness.results.state import FindState, leave_unchecked
from harness.store.cache import write_atomically
from harness.tasks.registry import all_suites

OPTIONAL_FILES = (
    *("energy-report.md", "energy-report.csv", "energy-suites.csv", "energy-suite.svg"),
    *("pareto.svg", "ladder.svg"),
)
"""Files that are only written if the records have their figures."""


@dataclass(frozen=True)
class Board:
    """A rendered leaderboard.

    Attributes:
        sections: the sections that it shows.
        faults: a message for each record that was left out.
        files: the names of the written files.
    """

    sections: list[Section]
    faults: list[str]
    files: list[str]


def write_board(results: Path, find_state: FindState = leave_unchecked) -> Board:
    """Render everything in a results folder from its records.

    Args:
        results: the folder that has the folder `records`.
        find_state: tells stale records (default: none is checked).

    Raises:
        HarnessError: no record can be read.
    """
    stored, faults = read_records(results / "records")
    sections, row_faults = build_board(stored, find_state)
    faults += row_faults
    if not sections:
        message = f"{results / 'records'}: there are no records. Run: wattbench run"
        raise HarnessError("\n".join([*shorten_list(faults), message]))
    frame = build_frame(sections)
    suites = [suite for suite in all_suites().values() if suite.ladder]
    complete = {suite.ladder: find_complete_sections(stored, suite.ladder) for suite in suites}
    ladders = render_ladders([section for sections in complete.values() for section in sections])
    ladder = choose_main_section(complete.get(all_suites()["quick"].ladder, []))
    energy_files = render_energy_files(sections)
    has_energy = bool(energy_files)
    files = {
        "README.md": render_leaderboard(
            sections, faults, ladders, has_plot=ladder is not None, has_energy=has_energy
        ),
        "leaderboard.csv": frame.to_csv(index=False, lineterminator="\n"),
        "leaderboard.json": render_json(frame),
        "index.html": render_page(sections, has_energy),
    }
    files |= energy_files
    if main := choose_main_section(sections):
        files["pareto.svg"] = draw_pareto(main)
    if ladder:
        files["ladder.svg"] = draw_ladder(ladder, find_rungs(ladder, all_suites()["quick"].ladder))
    for name, text in files.items():
        write_atomically(results / name, text.encode())
    for name in set(OPTIONAL_FILES) - set(files):  # left from records that no longer exist
        (results / name).unlink(missing_ok=True)
    return Board(sections, faults, list(files))
