"""Everything in `results/` that is drawn from records: what `wattbench board` writes."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import HarnessError
from harness.leaderboard.page import page
from harness.leaderboard.plots import pareto, staircase
from harness.leaderboard.ranking import Section, load_sections
from harness.leaderboard.row import Row
from harness.leaderboard.tables import frame, markdown
from harness.reports.energy import energy_report, entries_of
from harness.reports.ladder import ladders, rungs
from harness.store.cache import write_atomically
from harness.tasks.registry import all_suites


@dataclass(frozen=True)
class Drawn:
    """What a board was drawn from, the faults of records that were left out, and the files."""

    sections: list[Section]
    faults: list[str]
    files: list[str]


def write_board(results: Path) -> Drawn:
    """Render everything below `results` from its records.

    Raises: HarnessError if there is no record that can be read.
    """
    found, faults = load_sections(results / "records")
    if not found:
        raise HarnessError(
            "\n".join(
                [*faults, f"{results / 'records'}: there is no record to draw. Run: wattbench run"]
            )
        )
    table = frame(found)
    lines = json.loads(table.to_json(orient="records"))
    files = {
        "README.md": markdown(found, faults, _ladder_section(found)),
        "leaderboard.csv": table.to_csv(index=False, lineterminator="\n"),
        "leaderboard.json": json.dumps(lines, indent=1) + "\n",
        "index.html": page(found),
    }
    if any(each.scenario == "offline" and entries_of(each) for each in found):
        files |= {
            "energy-report.md": energy_report(found, "md"),
            "energy-report.csv": energy_report(found, "csv"),
        }
    if shown := _pictured(found):
        files["pareto.svg"] = pareto(shown)
    if shown := _pictured([each for each in found if _ladder_of(each)]):
        files["ladder.svg"] = staircase(shown, _ladder_of(shown))
    for name, text in files.items():
        write_atomically(results / name, text.encode())
    for name in set(DRAWN) - set(files):  # of records that are no longer there
        (results / name).unlink(missing_ok=True)
    return Drawn(found, faults, list(files))


DRAWN = ("energy-report.md", "energy-report.csv", "pareto.svg", "ladder.svg")
"""What is drawn where the records have it."""


def _pictured(found: Sequence[Section]) -> Section | None:
    """The latest offline section of the suite `quick`, else the latest of all."""
    offline = [each for each in found if each.scenario == "offline" and each.floor is not None]
    first = all_suites()["quick"].tasks
    return max(offline, key=lambda each: (each.task["name"] in first, each.started), default=None)


def _ladder_section(found: Sequence[Section]) -> str:
    table = ladders(found, "github")
    if not table:
        return ""
    pictured = _pictured([each for each in found if _ladder_of(each)])
    picture = ["![The ladder](ladder.svg)"] if pictured else []
    heading = "## The ladder: what each optimization adds"
    return "\n\n".join([heading, LADDER, *picture, table])


LADDER = (
    "Printed by `wattbench ladder`, as in Table 3 of Kim & Hassan (2020): the time for the whole "
    "set, `offline`, batch size 1; the speed-up over the first rung, and of each step over the one "
    "before. A rung whose score is below the floor says so."
)


def _ladder_of(section: Section) -> list[Row]:
    return rungs(section, all_suites()["quick"].ladder)
