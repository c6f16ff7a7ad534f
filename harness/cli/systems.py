"""`wattbench systems`."""

from pathlib import Path

from harness.cli.console import Console
from harness.cli.options import find_project
from harness.submissions.manifest import System


def systems(console: Console) -> None:
    """List baselines and submissions, and whether they are built."""
    from tabulate import tabulate

    from harness.submissions.manifest import find_systems, read_system

    root = find_project()
    lines = [_describe(read_system(folder, root), root) for folder in find_systems(root).values()]
    console(tabulate(lines, headers="keys", tablefmt="simple"))


def _describe(system: System, root: Path) -> dict[str, str]:
    model = system.teacher or system.pretrained or " + ".join(system.members)
    recipe = [model, *(step.step.name for step in system.recipe)]
    return {
        "system": system.name,
        "division": system.division,
        "recipe": " > ".join(filter(None, recipe)) or "-",
        "engine": system.serve["offline"].engine,
        "built for": ", ".join(_find_built_tasks(system, root)) or "-",
        "title": system.title,
    }


def _find_built_tasks(system: System, root: Path) -> list[str]:
    from harness.store.cache import artifact_dir
    from harness.submissions.plan import plan_build
    from harness.tasks.registry import builtin_tasks

    built = []
    for task in builtin_tasks().values():
        if task.trains_on or not task.available_locally():
            continue
        steps = plan_build(system, task, 0, root) if system.declares_task(task) else []
        if not steps or artifact_dir(steps[-1].key).is_dir():
            built.append(task.name)
    return built
