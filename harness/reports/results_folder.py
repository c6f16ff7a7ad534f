"""All files in `results/` that `wattbench board` renders from records."""

from dataclasses import dataclass
from pathlib import Path

from harness.errors import HarnessError
from harness.leaderboard.formatting import shorten_list
from harness.leaderboard.markdown import render_leaderboard
from harness.leaderboard.page import render_page
from harness.leaderboard.plots import draw_ladder, draw_pareto
from harness.leaderboard.ranking import Section, load_sections
from harness.leaderboard.row import Row
from harness.leaderboard.section import choose_main_section
from harness.leaderboard.tables import build_frame, render_json
from harness.reports.energy import render_energy_files
from harness.reports.ladder import find_rungs, render_ladders
from harness.store.cache import write_atomically
from harness.tasks.registry import all_suites

OPTIONAL_FILES = ("energy-report.md", "energy-report.csv", "pareto.svg", "ladder.svg")
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


def write_board(results: Path) -> Board:
    """Render everything in a results folder from its records.

    Args:
        results: the folder that has the folder `records`.

    Raises:
        HarnessError: no record can be read.
    """
    sections, faults = load_sections(results / "records")
    if not sections:
        message = f"{results / 'records'}: there are no records. Run: wattbench run"
        raise HarnessError("\n".join([*shorten_list(faults), message]))
    frame = build_frame(sections)
    ladders = render_ladders(sections)
    ladder = choose_main_section([section for section in sections if _find_quick_rungs(section)])
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
        files["ladder.svg"] = draw_ladder(ladder, _find_quick_rungs(ladder))
    for name, text in files.items():
        write_atomically(results / name, text.encode())
    for name in set(OPTIONAL_FILES) - set(files):  # left from records that no longer exist
        (results / name).unlink(missing_ok=True)
    return Board(sections, faults, list(files))


def _find_quick_rungs(section: Section) -> list[Row]:
    return find_rungs(section, all_suites()["quick"].ladder)
