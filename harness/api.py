"""The Python interface: what the command does, as functions."""

from collections.abc import Sequence
from pathlib import Path

import pandas

from harness.build import build_missing
from harness.errors import HarnessError
from harness.export.standalone import write_export
from harness.leaderboard.board import load_board
from harness.leaderboard.tables import build_frame
from harness.runner.config import RunConfig
from harness.runner.session import measure
from harness.store.cache import expand_home
from harness.submissions.lookup import add_references, get_system
from harness.submissions.manifest import read_system
from harness.submissions.plan import Plan, make_plan, plan_system
from harness.submissions.project import find_project
from harness.submissions.staleness import StalenessCheck
from harness.submissions.system import System
from harness.tasks.registry import get_suite, get_task
from harness.telemetry.configuration import choose_configuration

SystemOrFolder = System | str | Path
"""A system that `load_submission` returned, or the folder or name of one."""


def load_submission(folder: str | Path) -> System:
    """Read and check the manifest of a system.

    Args:
        folder: a folder with a `submission.toml`, or the name of a system: in a checkout one of
            `baselines/` and `submissions/`, elsewhere one of the package or of `./submissions/`.

    Raises:
        ManifestError: the manifest has faults; the message names all of them.
        HarnessError: there is no such system.
    """
    return _load(folder)


def build_submission(system: SystemOrFolder, task: str, seed: int = 0) -> Path | None:
    """Build what a system lacks for a task.

    Args:
        system: the system, its folder or its name.
        task: the name of a task, or the path of its `task.toml`.
        seed: the training seed.

    Returns:
        The folder of the artifact; None if the recipe has no artifact.

    Raises:
        HarnessError: the system cannot be built.
    """
    planned = plan_system(_load(system), get_task(task), seed)
    planned.check_declared()
    build_missing(Plan((planned,)), choose_configuration())
    artifact = planned.find_artifact()
    return artifact.folder if artifact else None


def measure_submissions(
    systems: Sequence[SystemOrFolder],
    suite: str = "quick",
    configuration: str = "",
    results: str | Path = "results",
    rounds: int = 5,
    server: bool = False,
    tasks: Sequence[str] = (),
) -> str:
    """Measure built systems in one session; the reference systems of the suite are always included.

    Args:
        systems: the systems, their folders or their names.
        suite: the name of the suite.
        configuration: the name of the configuration; the largest that fits this machine if ''.
        results: records are written to `results/records`.
        rounds: the number of blocks.
        server: whether the scenario `server` is measured too.
        tasks: names, or paths of `task.toml` files, instead of the tasks of the suite.

    Returns:
        The name of the session.

    Raises:
        HarnessError: a system is not built, or cannot be measured here.
    """
    loaded = [_load(system) for system in systems]
    if not loaded:
        raise HarnessError("no system to measure. Give at least one folder.")
    root, chosen_suite = _find_root(loaded[0]), get_suite(suite)
    plan = make_plan(
        add_references(loaded, chosen_suite, root),
        [get_task(name) for name in tasks or chosen_suite.tasks],
    )
    return measure(
        plan,
        chosen_suite,
        choose_configuration(configuration),
        expand_home(results),
        RunConfig(rounds, server=server),
    )


def export_system(
    system: SystemOrFolder,
    folder: str | Path,
    task: str = "sentiment",
    seed: int = 0,
    results: str | Path = "results",
) -> Path:
    """Write a built system as a folder that answers without the project.

    Args:
        system: the system, its folder or its name.
        folder: the folder to write; it must not exist.
        task: the name of a task, or the path of its `task.toml`.
        seed: the training seed.
        results: the results folder that the figures of the model card come from.

    Returns:
        The folder.

    Raises:
        HarnessError: the system is not built, has no artifact, or the folder exists.
    """
    planned = plan_system(_load(system), get_task(task), seed)
    write_export(planned, expand_home(results), expand_home(folder))
    return expand_home(folder)


def load_records(records: str | Path) -> pandas.DataFrame:
    """Load records into a table.

    Args:
        records: a folder of sessions, e.g. `results/records`.

    Returns:
        The latest comparable row for each (machine, configuration, task, scenario, reference,
        system), with the columns of `leaderboard.csv`.

    Raises:
        HarnessError: there are no records.
    """
    sections, faults = load_board(expand_home(records), StalenessCheck(find_project()).find_state)
    if not sections:
        raise HarnessError("\n".join([*faults, f"{records}: there is no record."]))
    return build_frame(sections)


def _load(system: SystemOrFolder) -> System:
    if isinstance(system, System):
        return system
    folder = expand_home(system)
    if (folder / "submission.toml").is_file() or folder.name != str(system):
        return read_system(folder)
    return get_system(str(system), find_project())


def _find_root(system: System) -> Path:
    """Return the project of a system."""
    return system.folder.resolve().parent.parent
