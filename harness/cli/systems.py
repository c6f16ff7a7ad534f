"""`wattbench systems`."""

from typing import TYPE_CHECKING

from harness.cli.console import Console
from harness.errors import HarnessError
from harness.submissions.project import find_project

if TYPE_CHECKING:
    from harness.submissions.system import System


def systems(console: Console) -> None:
    """List baselines and submissions, and whether they are built."""
    from harness.submissions.manifest import find_systems, read_system

    root = find_project()
    lines, faults = [], []
    for folder in find_systems(root).values():
        try:
            lines.append(_describe(read_system(folder, root)))
        except HarnessError as error:
            faults.append(str(error))
    if lines:
        console.print_table(lines)
    if faults:
        raise HarnessError("\n".join(faults))


def _describe(system: "System") -> dict[str, str]:
    others = [system.teacher] if system.teacher else system.members
    model = " + ".join(other.name for other in others) or system.encoder
    recipe = [model, *(step_config.use for step_config in system.recipe)]
    return {
        "system": system.name,
        "division": system.division,
        "recipe": " > ".join(filter(None, recipe)) or "-",
        "engine": system.serve["offline"].engine,
        "built for": ", ".join(_find_built_tasks(system)) or "-",
        "title": system.title,
    }


def _find_built_tasks(system: "System") -> list[str]:
    from harness.submissions.plan import plan_system
    from harness.tasks.registry import all_tasks

    built = []
    for task in all_tasks().values():
        if task.trains_on or not task.available_locally():
            continue
        if system.declares_task(task) and plan_system(system, task, 0).is_built:
            built.append(task.name)
    return built
