"""The commands that only look: at records, systems, tasks, steps, the machine."""

import argparse
import glob
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli import selection
from harness.errors import HarnessError
from harness.submissions.manifest import find_systems, read_system
from harness.tasks.registry import all_suites, builtin_tasks, get_suite
from harness.tasks.task import Task

if TYPE_CHECKING:
    from harness.leaderboard.ranking import Section

Log = Callable[[str], None]


def board(options: argparse.Namespace, console: Log) -> None:
    """Render everything from records."""
    from harness.leaderboard.tables import format_summary
    from harness.reports.results_folder import write_board

    results = selection.results(options, selection.project())
    drawn = write_board(results)
    for fault in drawn.faults:
        print(f"wattbench: left out: {fault}", file=sys.stderr)
    console(format_summary(drawn.sections))
    console(f"drawn in {results}: {', '.join(drawn.files)}")


def report(options: argparse.Namespace, console: Log) -> None:
    """One session's energy, for an organiser or a paper."""
    from harness.reports.energy import render_energy_report

    records = selection.results(options, selection.project()) / "records"
    if options.session and not (records / options.session).is_dir():
        raise HarnessError(f"{records / options.session}: there is no such session.")
    found = sections_of(records, options.session)
    console(render_energy_report(found, options.format, options.task).rstrip())


def compare(options: argparse.Namespace, console: Log) -> int:
    """Two systems, or two sessions. Returns: 1 where a session is worse than the one before."""
    from harness.reports.comparison import compare_systems
    from harness.reports.sessions import compare_sessions

    records = selection.results(options, selection.project()) / "records"
    names = options.one, options.other
    folders = [_session(records, name) for name in names]
    if any(folders) or any("/" in name for name in names):
        for name, folder in zip(names, folders, strict=True):
            if folder is None:
                raise HarnessError(
                    f"{name!r} is no session: neither a folder of records nor the name of one in "
                    f"{records}. Name two sessions, or two systems."
                )
        found = [sections_of(each.parent, each.name) for each in folders if each]
        text, worse = compare_sessions(found[0], found[1], options.tolerance, options.task)
        console(text)
        return int(worse)
    console(compare_systems(sections_of(records, needs=names), *names, options.task))
    return 0


def _session(records: Path, name: str) -> Path | None:
    """The folder of a session, by its name, a path, or the end of one name; None if there is
    none.
    """
    ends = list(records.glob(f"*{glob.escape(name)}")) if "/" not in name else []
    places = (records / name, Path(name), *(ends if len(ends) == 1 else ()))
    return next((each for each in places if any(each.glob("*/*/*.json"))), None)


def sections_of(records: Path, session: str = "", needs: Sequence[str] = ()) -> list["Section"]:
    """What a folder of records shows; those that cannot be read are named on stderr."""
    from harness.leaderboard.ranking import load_sections

    found, faults = load_sections(records, glob.escape(session) or "*", needs)
    for fault in faults:
        print(f"wattbench: left out: {fault}", file=sys.stderr)
    for name in sorted({one.session for one in found if any(row.record.smoke for row in one.rows)}):
        print(f"wattbench: {name} is a smoke run, and compares nothing", file=sys.stderr)
    return found


def show_ladder(options: argparse.Namespace, console: Log) -> None:
    """The rungs of one session, for the terminal."""
    from harness.reports.ladder import render_ladder

    found = sections_of(selection.results(options, selection.project()) / "records")
    console(render_ladder(found, get_suite(options.suite), "simple"))


def show_steps(options: argparse.Namespace, console: Log) -> None:
    """Each step's dataclass is its documentation."""
    from harness.optimize.base import STEP_MODULES, describe_step, get_step

    for name in [options.step] if options.step else STEP_MODULES:
        console(describe_step(get_step(name)))


def show_doctor(options: argparse.Namespace, console: Log) -> None:
    """What the machine is like, as a ruler."""
    from harness.runner.doctor import examine

    for finding in examine():
        console(finding)


def show_tasks(options: argparse.Namespace, console: Log) -> None:
    """A table of tasks, and the suites."""
    from tabulate import tabulate

    lines = [_described(each) for each in selection.tasks(options.task or builtin_tasks())]
    console(tabulate(lines, headers="keys", tablefmt="simple"))
    for one in () if options.task else all_suites().values():
        console(
            f"\nsuite {one.name}: tasks {', '.join(one.tasks)}; reference {one.reference}; systems "
            f"{', '.join(one.systems)}"
        )


def _described(each: Task) -> dict[str, object]:
    from harness.tasks.metrics import METRICS

    sizes, majority, hand = "-", "-", "no: fetched when first used"
    if each.archive and each.name != "boolq":
        hand = "no: set WATTBENCH_DATA to SuperGLUE's folder, or let the hub be reached"
    if each.path or each.available_locally():
        splits = ("validation",) if each.trains_on else ("train", "selection", "validation")
        counts = [len(each.examples(split)) for split in splits]
        sizes, hand = " / ".join(map(str, counts)), "yes"
        whole = (sum(each.sizes[:1]), each.sizes[1])
        if any(each.sizes) and (sum(counts[:-1]), counts[-1]) != whole:
            hand = f"a part: {sum(counts)} of {sum(whole)} examples"
        truths = [one.truth for one in each.examples("validation")]
        majority = f"{METRICS[each.metric].majority(truths):.4f}"
    return {
        "task": each.name,
        "train / selection / validation": sizes,
        "metric": each.metric,
        "majority": majority,
        "max length": each.max_length,
        "licence": each.licence,
        "source": each.source,
        "at hand": hand,
    }


def show_systems(options: argparse.Namespace, console: Log) -> None:
    """A table of systems."""
    from tabulate import tabulate

    from harness.store.cache import artifact_dir
    from harness.submissions.plan import plan_build

    root = selection.project()
    lines = []
    for name, folder in find_systems(root).items():
        system = read_system(folder, root)
        built = []
        for each in builtin_tasks().values():
            if each.trains_on or not each.available_locally():
                continue
            steps = plan_build(system, each, 0, root) if system.declares_task(each) else []
            if not steps or artifact_dir(steps[-1].key).is_dir():
                built.append(each.name)
        origin = system.teacher or system.pretrained or " + ".join(system.members)
        lines.append(
            {
                "system": name,
                "division": system.division,
                "recipe": " > ".join(
                    part
                    for part in (origin, *(step_config.step.name for step_config in system.recipe))
                    if part
                )
                or "-",
                "engine": system.serve["offline"].engine,
                "built for": ", ".join(built) or "-",
                "title": system.title,
            }
        )
    console(tabulate(lines, headers="keys", tablefmt="simple"))


def check(options: argparse.Namespace, console: Log) -> None:
    """Validate one folder, and say how long building it will take."""
    from harness.submissions.check import check as faults_of
    from harness.submissions.check import describe

    folder = Path(options.folder)
    root = selection.project()
    system, faults = faults_of(folder, root)
    if faults or system is None:
        raise HarnessError("\n".join(faults))
    for line in describe(system, root):
        console(line)
