"""`wattbench tasks`."""

from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.console import Console
from harness.cli.options import TASK_HELP
from harness.submissions.project import find_project

if TYPE_CHECKING:
    from harness.tasks.task import Task


def tasks(
    console: Console,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[TASK]...", help=f"only these, {TASK_HELP}")
    ] = None,
) -> None:
    """List the tasks: sizes, metric, majority score, licence, source."""
    from harness.cli.resolve import find_places, select_tasks
    from harness.tasks.registry import all_suites, all_tasks
    from harness.tasks.splits import count_repeated_examples

    places = find_places(find_project())
    selected = select_tasks(names or all_tasks(), places)
    console.print_table([_describe(task) for task in selected])
    for task in selected:
        if task.path and (count := count_repeated_examples(task)):
            console(
                f"\n{task.name}: {count} of the {len(task.examples('validation'))} validation "
                "examples are also in the training data. Remove them from one of the two: the "
                "score of a system that is trained on them is too high."
            )
    if names:
        return
    for suite in all_suites().values():
        console(
            f"\nsuite {suite.name}: tasks {', '.join(suite.tasks)}; reference {suite.reference}; "
            f"systems {', '.join(suite.systems)}"
        )


def _describe(task: "Task") -> dict[str, object]:
    """Return a line of the table; sizes and majority only of data that needs no download."""
    from harness.tasks.metrics import METRICS

    sizes, majority, local = "-", "-", "no: fetched when first used"
    if task.archive and task.name != "boolq":
        local = "no: set WATTBENCH_DATA to SuperGLUE's folder, or let the hub be reached"
    if task.path or task.available_locally():
        splits = ("validation",) if task.trains_on else ("train", "selection", "validation")
        counts = [len(task.examples(split)) for split in splits]
        sizes, local = " / ".join(map(str, counts)), "yes"
        if not task.available_locally():  # any other file is missed above
            local = "all but [splits] test: there is no such file"
        official = (sum(task.sizes[:1]), task.sizes[1])
        if any(task.sizes) and (sum(counts[:-1]), counts[-1]) != official:
            local = f"a part: {sum(counts)} of {sum(official)} examples"
        truths = [example.truth for example in task.examples("validation")]
        majority = f"{METRICS[task.metric].majority_value(truths):.4f}"
    return {
        "task": task.name,
        "train / selection / validation": sizes,
        "metric": task.metric,
        "majority": majority,
        "max length": task.max_length,
        "licence": task.licence,
        "source": task.source,
        "available locally": local,
    }
