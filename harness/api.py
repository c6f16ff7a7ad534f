"""The public face in Python: what the command does, without the command."""

from collections.abc import Sequence
from pathlib import Path

import pandas

from harness.build import build
from harness.errors import HarnessError
from harness.leaderboard.ranking import load_sections
from harness.leaderboard.tables import build_frame
from harness.runner.config import RunConfig
from harness.runner.session import measure
from harness.submissions.manifest import System, read_system
from harness.submissions.plan import find_artifact
from harness.tasks.registry import get_suite as find_suite
from harness.tasks.registry import get_task as find_task
from harness.telemetry.configuration import choose_configuration


def load_submission(folder: str | Path) -> System:
    """Read and check a system's manifest. Raises: ManifestError with every fault."""
    return read_system(Path(folder))


def build_submission(folder: str | Path, task: str, seed: int = 0) -> Path | None:
    """Build what a system lacks for a task.

    Returns: the artifact's folder; None where the recipe leaves none. Raises: HarnessError.
    """
    system = read_system(Path(folder))
    root = system.folder.resolve().parent.parent
    build([system], [find_task(task)], choose_configuration(), root, seed)
    artifact = find_artifact(system, find_task(task), seed, root)
    return artifact.folder if artifact else None


def measure_submissions(
    folders: Sequence[str | Path],
    suite: str = "quick",
    configuration: str = "",
    results: str | Path = "results",
    rounds: int = 5,
    server: bool = False,
    tasks: Sequence[str] = (),
) -> str:
    """Measure built systems in one session; the suite's references are always among them.

    rounds: blocks. server: whether the `server` scenario is played too. tasks: names, or paths of
    `task.toml` files, instead of the suite's.

    Returns: the session's name. Raises: HarnessError.
    """
    chosen = find_suite(suite)
    systems = [read_system(Path(folder)) for folder in folders]
    if not systems:
        raise HarnessError("no folder was given; name at least one.")
    root = systems[0].folder.resolve().parent.parent
    present = {each.name for each in systems}
    roles = (chosen.reference, chosen.unpadded_reference, "null")
    systems += [
        read_system(root / "baselines" / name, root) for name in roles if name not in present
    ]
    chosen_tasks = [find_task(name) for name in tasks or chosen.tasks]
    config = RunConfig(rounds, server=server)
    return measure(
        systems,
        chosen_tasks,
        chosen,
        choose_configuration(configuration),
        root,
        Path(results),
        config,
    )


def load_records(records: str | Path) -> pandas.DataFrame:
    """One tidy line per (machine, configuration, task, scenario, system): the columns of
    `leaderboard.csv`. Raises: HarnessError if there are none.
    """
    found, faults = load_sections(Path(records))
    if not found:
        raise HarnessError("\n".join([*faults, f"{records}: there is no record."]))
    return build_frame(found)
