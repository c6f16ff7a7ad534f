"""`wattbench predict`."""

from typing import Annotated, Literal

import typer

from harness.cli.console import Console
from harness.cli.options import TASK_HELP, Configuration, Seed
from harness.errors import HarnessError
from harness.submissions.project import find_project


def predict(
    console: Console,
    name: Annotated[str, typer.Argument(metavar="SYSTEM", help="the system that answers")],
    task: Annotated[
        str, typer.Option(metavar="NAME", help=f"one task, {TASK_HELP}", show_default=False)
    ] = "",
    suite: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="all tasks of a suite that the system is built for, and a zip file of them",
            show_default=False,
        ),
    ] = "",
    split: Annotated[Literal["test", "validation"], typer.Option(help="to answer")] = "test",
    out: Annotated[
        str, typer.Option(metavar="PATH", help="file (a name with a suffix), or folder")
    ] = ".",
    configuration: Configuration = "",
    seed: Seed = 0,
) -> None:
    """Write a system's answers in the format of the official server.

    The system must be built. One file for a task, named as the SuperGLUE server wants it
    (BoolQ.jsonl, RTE.jsonl, ...), from the answers of the system's own worker. --suite superglue
    writes those of all its tasks and diagnostics, and SUITE.zip, which the server takes.
    """
    from harness.cli.resolve import find_places, find_system, find_task
    from harness.runner.predict import predict as write_predictions
    from harness.runner.predict import predict_suite
    from harness.submissions.plan import plan_system
    from harness.tasks.registry import get_suite
    from harness.telemetry.configuration import choose_configuration

    if bool(task) == bool(suite):
        raise HarnessError("give --task NAME for one task, or --suite NAME for all of a suite.")
    root = find_project()
    places = find_places(root)
    system = find_system(name, root, places)
    chosen = choose_configuration(configuration)
    if suite:
        path = predict_suite(system, get_suite(suite), split, chosen, out, seed, console)
    else:
        planned = plan_system(system, find_task(task, places, system), seed)
        path = write_predictions(planned, split, chosen, out, console)
    console(f"written: {path}")
