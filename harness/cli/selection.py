"""What a command's options name: the project, its results, systems, tasks and suite."""

import argparse
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from harness.errors import HarnessError
from harness.results import record
from harness.results.record import Timing
from harness.runner.config import SMOKE, RunConfig
from harness.schema import nearest
from harness.submissions.checkpoint import declare, roles
from harness.submissions.manifest import System, find_systems, read_system
from harness.tasks.registry import all_suites, get_suite, get_task
from harness.tasks.suites import Suite
from harness.tasks.task import Task


def project() -> Path:
    """The project's folder: the nearest one above that holds baselines/ and submissions/."""
    for folder in (Path.cwd(), *Path.cwd().parents):
        if (folder / "baselines").is_dir() and (folder / "submissions").is_dir():
            return folder
    raise HarnessError(
        f"{Path.cwd()}: no folder here or above holds baselines/ and submissions/. Change into a "
        "checkout of wattbench."
    )


def results(options: argparse.Namespace, root: Path) -> Path:
    """Where records and board lie; those of smoke runs apart from the others."""
    if getattr(options, "results", ""):
        return Path(options.results)
    return root / "results" / ("smoke" if getattr(options, "smoke", False) else "")


def run_config(options: argparse.Namespace) -> RunConfig:
    """How a session is run."""
    return RunConfig(
        options.rounds or (1 if options.smoke else RunConfig.blocks),
        options.until,
        options.minutes,
        options.scenario == "server",
        options.seeds,
        options.isolation,
        SMOKE if options.smoke else Timing(),
    )


def one_system(name: str, root: Path) -> System:
    """The system of this name, or in this folder.

    Raises: HarnessError that names the nearest one.
    """
    return read_system(_known(name, find_systems(root), root), root)


def systems(options: argparse.Namespace, root: Path) -> tuple[list[System], list[Task], Suite]:
    """The systems, tasks and suite that the options name; the references and `null` are always
    among the systems.
    """
    chosen = get_suite(options.suite)
    chosen_tasks = tasks(options.task or chosen.tasks)
    known = find_systems(root)
    names = list(options.system or (chosen.ladder if options.ladder else chosen.systems))
    names = list(known) if options.all else names
    if options.model:
        records = results(options, root) / "records"
        own = declare(options.model, known, options.model_name, records, options.resume)
        reference, unpadded = roles(own)
        chosen = replace(chosen, reference=reference, unpadded_reference=unpadded)
        names = [*own, *(options.system or ()), *(known if options.all else ())]
        known = {**known, **own}
    for name in (chosen.reference, chosen.unpadded_reference, "null"):
        if name not in names:
            names.append(name)
    folders = [_known(name, known, root) for name in names]
    folders = list({folder.resolve(): folder for folder in folders}.values())  # each once
    found = [read_system(folder, root) for folder in folders]
    twice = {each.name for each in found if sum(each.name == one.name for one in found) > 1}
    if twice:
        raise HarnessError(
            f"two systems are called {', '.join(sorted(twice))}. Rename the folder of one of them."
        )
    fitting = [each for each in found if any(each.declares_task(one) for one in chosen_tasks)]
    return fitting, chosen_tasks, chosen


def tasks(names: Iterable[str]) -> list[Task]:
    """The tasks of these names, or that these files declare, each once.

    Raises: HarnessError if two of them have one name, under which one's results would hide the
    other's.
    """
    found: dict[str, Task] = {}
    for name in names:
        it = get_task(name)
        other = found.setdefault(it.name, it)
        if other.path != it.path:
            raise HarnessError(
                f"{other.address} and {it.address} are two tasks of one name, {it.name!r}. Change "
                "`name` in one of them."
            )
    return list(found.values())


def suite_of(name: str) -> str:
    """The first suite that has this task; `quick`, whose references answer any, for another."""
    return next((each.name for each in all_suites().values() if name in each.tasks), "quick")


def take_up(options: argparse.Namespace, root: Path) -> None:
    """Where a session is taken up, it says which systems, tasks, scenarios and seeds it is of."""
    if not options.resume:
        return
    places = [results(options, root)]
    places += [] if options.results else [root / "results" / "smoke"]
    place = next((one for one in places if (one / "records" / options.resume).is_dir()), places[0])
    options.results = str(place)
    folder = place / "records" / options.resume
    found = [path.relative_to(folder).parts for path in folder.glob("*/*/*.json")]
    if not found:
        raise HarnessError(f"{folder}: no session to take up. Leave --resume out for a new one.")
    it = record.read_record(folder / Path(*found[0]))
    given = {each.name: each.address for each in tasks(options.task or ())}  # paths of one's own
    options.task = [given.get(name, name) for name in sorted({each[0] for each in found})]
    names = {each[2].removesuffix(".json") for each in found}
    folders = {Path(each).name: each for each in options.system or () if "/" in each}
    found_names = sorted({name.partition("@")[0] for name in names})
    options.system = [folders.get(name, name) for name in found_names]
    options.seeds = 1 + len({name.partition("@seed")[2] for name in names} - {""})
    options.suite, options.configuration = it.suite, it.configuration["name"]
    options.smoke = options.smoke or it.smoke
    if any(each[1] == "server" for each in found):
        options.scenario = "server"


def _known(name: str, known: dict[str, Path], root: Path) -> Path:
    if "/" in name and (Path(name) / "submission.toml").is_file():
        return Path(name)
    if name not in known:
        raise HarnessError(f"system {name!r} does not exist in {root}. {nearest(name, known)}")
    return known[name]
