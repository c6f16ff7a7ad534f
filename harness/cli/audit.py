"""`wattbench audit`."""

from typing import Annotated

import typer

from harness.cli.console import Console
from harness.cli.options import TASK_HELP, Configuration, Isolation, Seed, SessionOptions, Smoke
from harness.submissions.project import find_project


def audit(
    console: Console,
    name: Annotated[str, typer.Argument(metavar="SUBMISSION", help="its name, or its folder")],
    task_names: Annotated[
        list[str] | None,
        typer.Option("--task", metavar="NAME", help=f"only this one, {TASK_HELP}; repeatable"),
    ] = None,
    configuration: Configuration = "",
    seed: Seed = 0,
    isolation: Isolation = "auto",
    smoke: Smoke = False,
) -> int:
    """Query a submission in ways that reveal caches and memorising.

    The submission must be built. The probes, after MLPerf's compliance tests: another order and
    other batches, repeated examples, other words of the same length, lightly changed text, timed
    answers against those of the accuracy pass, the artifact, and in the closed division the
    weights. The exit status is 1 when a probe fails; such a submission is not ranked.
    """
    from harness.audit.session import audit_submission
    from harness.cli.resolve import find_places, find_system, make_run_config, select_tasks
    from harness.submissions.plan import plan_system
    from harness.telemetry.configuration import choose_configuration

    root = find_project()
    places = find_places(root)
    system = find_system(name, root, places)
    machine = choose_configuration(configuration)
    config = make_run_config(SessionOptions(isolation=isolation, smoke=smoke))
    passed = True
    for task in select_tasks(task_names or system.get_task_addresses(), places, system):
        planned = plan_system(system, task, seed)
        results = audit_submission(planned, machine, config, console)
        passed = passed and all(result.passed is not False for result in results)
    return int(not passed)
