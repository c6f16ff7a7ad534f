"""`wattbench predict`."""

from typing import Annotated, Literal

import typer

from harness.cli.console import Console
from harness.cli.options import TASK_HELP, Configuration, Seed
from harness.submissions.project import find_project


def predict(
    console: Console,
    name: Annotated[str, typer.Argument(metavar="SYSTEM", help="the system that answers")],
    task: Annotated[str, typer.Option(metavar="NAME", help=TASK_HELP)],
    split: Annotated[Literal["test", "validation"], typer.Option(help="to answer")] = "test",
    out: Annotated[
        str, typer.Option(metavar="PATH", help="file (a name with a suffix), or folder")
    ] = ".",
    configuration: Configuration = "",
    seed: Seed = 0,
) -> None:
    """Write a system's answers in the format of the official server.

    The system must be built. One file for a task, named as the SuperGLUE server wants it
    (BoolQ.jsonl, RTE.jsonl, ...), from the answers of the system's own worker.
    """
    from harness.cli.resolve import find_places, find_system, find_task
    from harness.runner.predict import predict as write_predictions
    from harness.submissions.plan import plan_system
    from harness.telemetry.configuration import choose_configuration

    root = find_project()
    places = find_places(root)
    system = find_system(name, root, places)
    path = write_predictions(
        plan_system(system, find_task(task, places, system), seed),
        split,
        choose_configuration(configuration),
        out,
        console,
    )
    console(f"written: {path}")
