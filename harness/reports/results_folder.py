"""All files in `results/` that `wattbench board` renders from records."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import HarnessError
from harness.leaderboard.page import render_page
from harness.leaderboard.plots import draw_ladder, draw_pareto
from harness.leaderboard.ranking import Section, load_sections
from harness.leaderboard.row import Row
from harness.leaderboard.tables import build_frame, render_leaderboard
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
        raise HarnessError("\n".join([*faults, message]))
    frame = build_frame(sections)
    files = {
        "README.md": render_leaderboard(sections, faults, _render_ladder_section(sections)),
        "leaderboard.csv": frame.to_csv(index=False, lineterminator="\n"),
        "leaderboard.json": frame.to_json(orient="records", indent=1) + "\n",
        "index.html": render_page(sections),
    }
    files |= render_energy_files(sections)
    if section := _choose_for_plot(sections):
        files["pareto.svg"] = draw_pareto(section)
    if section := _choose_for_ladder(sections):
        files["ladder.svg"] = draw_ladder(section, _find_quick_rungs(section))
    for name, text in files.items():
        write_atomically(results / name, text.encode())
    for name in set(OPTIONAL_FILES) - set(files):  # left from records that no longer exist
        (results / name).unlink(missing_ok=True)
    return Board(sections, faults, list(files))


def _choose_for_plot(sections: Sequence[Section]) -> Section | None:
    """The latest offline section, of the suite `quick` and on a CPU where there is one."""
    candidates = [
        section
        for section in sections
        if section.scenario == "offline" and section.floor is not None
    ]
    quick = all_suites()["quick"].tasks
    return max(
        candidates,
        key=lambda section: (
            section.task["name"] in quick,
            not section.on_gpu,
            section.started,
        ),
        default=None,
    )


def _choose_for_ladder(sections: Sequence[Section]) -> Section | None:
    return _choose_for_plot([section for section in sections if _find_quick_rungs(section)])


def _find_quick_rungs(section: Section) -> list[Row]:
    return find_rungs(section, all_suites()["quick"].ladder)


def _render_ladder_section(sections: Sequence[Section]) -> str:
    tables = render_ladders(sections, "github")
    if not tables:
        return ""
    plot = ["![The ladder](ladder.svg)"] if _choose_for_ladder(sections) else []
    return "\n\n".join(["## The ladder: what each optimization adds", LADDER, *plot, tables])


LADDER = (
    "As in Table 3 of Kim & Hassan (2020): the time for the whole set (`offline`, batch size 1), "
    "the speed-up over the first system, and the speed-up of each step over the system before. A "
    "score below the quality floor is marked. `wattbench ladder` prints this table."
)
