"""`wattbench build`."""

import time
from collections.abc import Sequence
from pathlib import Path

from harness.cli.console import Console
from harness.cli.options import SystemOptions, find_project, results_folder, select_systems
from harness.errors import BuildError
from harness.submissions.manifest import System
from harness.tasks.task import Task


def build(options: SystemOptions, console: Console) -> None:
    """Build systems: run those steps that the cache does not hold.

    Without --system the suite's default systems are taken, with --ladder those of its ladder, with
    --all every system that declares one of its tasks; the reference, the unpadded reference and
    `null` are always among them.

    The result of every step is kept under a key that hashes all it is made of, so a change of a
    manifest builds only what depends on it. An interrupted build continues with the first step
    that is missing.
    """
    root = find_project()
    systems, tasks, _ = select_systems(options, root, results_folder(root))
    build_systems(systems, tasks, options, root, console)


def build_systems(
    systems: Sequence[System],
    tasks: Sequence[Task],
    options: SystemOptions,
    root: Path,
    console: Console,
) -> list[System]:
    """Build what is missing, with all training seeds.

    Returns:
        The systems that are built. An optional one is left out where it cannot be built: the int8
        form of a user's model whose architecture cannot be exported.
    """
    from harness.build import build_missing
    from harness.submissions.checkpoint import is_optional
    from harness.submissions.plan import is_trained
    from harness.telemetry.configuration import choose_configuration

    configuration = choose_configuration(options.configuration)
    started = time.monotonic()
    required = [system for system in systems if not is_optional(system.folder)]
    build_missing(required, tasks, configuration, root, options.seed, console)
    built = list(systems)
    for system in systems:
        if system in required:
            continue
        try:
            build_missing([system], tasks, configuration, root, options.seed, console)
        except BuildError as error:
            console(f"left out: {error}")
            built.remove(system)
    for seed in range(options.seed + 1, options.seed + options.seeds):
        for task in tasks:
            trained = [
                system
                for system in built
                if system.declares_task(task) and is_trained(system, task, root)
            ]
            build_missing(trained, [task], configuration, root, seed, console)
    names = ", ".join(task.name for task in tasks)
    console(f"built: {len(built)} systems for {names} ({time.monotonic() - started:.0f} s)")
    return built
