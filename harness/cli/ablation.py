"""`wattbench ablation` (formerly `waterfall`)."""

from typing import Annotated

import typer

from harness.cli.console import Console
from harness.cli.options import (
    TASK_HELP,
    Configuration,
    Results,
    Rounds,
    Seed,
    SessionOptions,
    Smoke,
    results_folder,
)
from harness.submissions.project import find_project


def ablation(
    console: Console,
    name: Annotated[str, typer.Argument(metavar="SUBMISSION", help="its name, or its folder")],
    task_name: Annotated[str, typer.Option("--task", metavar="NAME", help=TASK_HELP)] = "sentiment",
    retrain: Annotated[
        bool, typer.Option("--retrain", help="also leave out each step that trains (slow)")
    ] = False,
    rounds: Rounds = None,
    configuration: Configuration = "",
    seed: Seed = 0,
    smoke: Smoke = False,
    results: Results = "",
) -> None:
    """Measure a submission with each of its choices left out in turn.

    Each choice of [serve] is set back to its default in turn, padding to the task's max length
    among them, and each step that only executes the model differently is left out. All variants are
    measured in one session, which RESULTS/ablation keeps apart from the leaderboard. With --retrain
    also the steps that train are left out, each variant being built first.
    """
    from harness.build import build_missing
    from harness.cli.resolve import (
        find_places,
        find_system,
        find_task,
        get_suite_of,
        make_run_config,
    )
    from harness.reports.ablation import render_ablation
    from harness.runner.session import measure
    from harness.store.cache import write_atomically
    from harness.submissions.ablation import create_variants
    from harness.submissions.lookup import add_references
    from harness.submissions.plan import make_plan
    from harness.telemetry.configuration import choose_configuration

    root = find_project()
    places = find_places(root, results)
    system = find_system(name, root, places)
    task = find_task(task_name, places, system)
    suite, machine = get_suite_of(task), choose_configuration(configuration)
    systems = add_references([system, *create_variants(system, root, retrain)], suite, root)
    plan = make_plan(systems, [task], seed)
    build_missing(plan, machine, console)
    folder = results_folder(root, results, smoke) / "ablation"
    config = make_run_config(SessionOptions(rounds=rounds, smoke=smoke))
    session = measure(plan, suite, machine, folder, config, console)
    text = render_ablation(folder / "records" / session, system.name)
    path = folder / f"{system.name}-{task.name}.md"
    write_atomically(path, text.encode())
    console.print_markdown(text)
    console(f"written: {path}")
