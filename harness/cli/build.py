"""`wattbench build`."""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.console import Console
from harness.cli.options import SystemOptions, results_folder
from harness.errors import BuildError
from harness.submissions.project import find_project

if TYPE_CHECKING:
    from harness.submissions.plan import Plan
    from harness.telemetry.configuration import Configuration


def build(
    options: SystemOptions,
    console: Console,
    only_plan: Annotated[
        bool,
        typer.Option("--plan", help="print what is missing and how long it takes; build nothing"),
    ] = False,
) -> None:
    """Build systems: run those steps that the cache does not hold.

    Without --system the suite's default systems are taken, with --ladder those of its ladder, with
    --all every system that declares one of its tasks; the reference, the unpadded reference and
    `null` are always among them.

    The result of every step is kept under a key that hashes all it is made of, so a change of a
    manifest builds only what depends on it. An interrupted build continues with the first step
    that is missing.

    --plan estimates times from the size of models and data and the present speed of this machine,
    so they are too long while it is busy. What several systems share is counted for the first one.
    """
    from harness.cli.resolve import make_session_plan
    from harness.telemetry.configuration import choose_configuration

    root = find_project()
    plan, _ = make_session_plan(options, root, results_folder(root))
    if only_plan:
        print_plan(plan, console)
    else:
        build_systems(plan, choose_configuration(options.configuration), console)


def print_plan(plan: "Plan", console: Console) -> None:
    """Print what is missing, with the estimated time of each system."""
    from harness.submissions.build_time import estimate_build_seconds, format_duration

    missing = {
        step.key: step
        for planned in plan.systems
        for step in planned.find_missing(lambda step: step.is_built)
    }
    unknown = {key for key, step in missing.items() if not step.task.available_locally()}
    seconds = estimate_build_seconds(step for key, step in plan.steps.items() if key not in unknown)
    total, rows = sum(seconds.get(key, 0.0) for key in missing), []
    for planned in plan.systems:
        own = [missing.pop(step.key) for step in planned.steps if step.key in missing]
        if not own:
            continue
        task = planned.task.training_task
        names = (
            step.use if step.task.name == task.name else f"{step.use} on {step.task.name}"
            for step in own
        )
        time_needed = format_duration(sum(seconds.get(step.key, 0.0) for step in own))
        if any(step.key in unknown for step in own):
            time_needed = "unknown: the data is not available locally"
        rows.append(
            {
                "system": planned.system.name,
                "task": task.name,
                "steps": " > ".join(names),
                "time": time_needed,
            }
        )
    if not rows:
        console("everything is built")
        return
    console.print_table(rows)
    console(
        f"in all about {format_duration(total)}, within a factor of two if this machine is quiet"
    )


def build_systems(plan: "Plan", configuration: "Configuration", console: Console) -> "Plan":
    """Build what is missing.

    Returns:
        What is built. An optional system is left out where it cannot be built: the int8 form of a
        user's model whose architecture cannot be exported.
    """
    from harness.build import build_missing
    from harness.runner.prerequisites import check_gpu
    from harness.submissions.checkpoint import is_optional
    from harness.submissions.plan import Plan

    check_gpu(plan, configuration, console)
    started = time.monotonic()
    built = [planned for planned in plan.systems if not is_optional(planned.system.folder)]
    build_missing(Plan(tuple(built)), configuration, console)
    for planned in plan.systems:
        if planned in built:
            continue
        try:
            build_missing(Plan((planned,)), configuration, console)
            built.append(planned)
        except BuildError as error:
            console(f"left out: {error}")
    plan = Plan(tuple(planned for planned in plan.systems if planned in built))
    names = ", ".join(task.name for task in plan.tasks)
    count = len({planned.system.name for planned in plan.main_systems})
    console(f"built: {count} systems for {names} ({time.monotonic() - started:.0f} s)")
    return plan
