"""`wattbench export`."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.console import Console
from harness.cli.options import TASK_HELP, Results, Seed, results_folder
from harness.submissions.project import find_project


def export(
    console: Console,
    name: Annotated[str, typer.Argument(metavar="SYSTEM", help="a system that is built")],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="to write; must not exist yet")],
    task: Annotated[str, typer.Option(metavar="NAME", help=TASK_HELP)] = "sentiment",
    seed: Seed = 0,
    results: Results = "",
) -> None:
    """Write a built system as a folder that runs on its own.

    The folder holds the model, its tokenizer, the engine's own code, predict.py, requirements.txt
    with what that needs and no more, and a model card with the figures that RESULTS has of the
    system.
    """
    from harness.cli.resolve import find_places, find_system, find_task
    from harness.export.standalone import write_export
    from harness.submissions.plan import plan_system

    root = find_project()
    places = find_places(root, results)
    system = find_system(name, root, places)
    planned = plan_system(system, find_task(task, places, system), seed)
    write_export(planned, results_folder(root, results), folder)
    console(f"written: {folder}. Try: cd {shlex.quote(str(folder))} && python predict.py TEXT")
