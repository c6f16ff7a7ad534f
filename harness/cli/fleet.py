"""`wattbench fleet`."""

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from harness.cli.board import draw_board
from harness.cli.console import Console
from harness.cli.options import TASK_HELP, Isolation, Results, Rounds, Seed, Smoke, results_folder
from harness.errors import HarnessError, suggest_name
from harness.submissions.project import find_project

if TYPE_CHECKING:
    from harness.fleet.fleet import FleetConfig
    from harness.submissions.plan import Plan
    from harness.tasks.suites import Suite


@dataclass(frozen=True)
class FleetOptions:
    """Options of `fleet`."""

    address: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS", help="of a Ray cluster: auto, HOST:PORT", show_default=False
        ),
    ] = ""
    local: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="N nodes on this machine instead, which build side by side; sessions then run "
            "one after the other",
            show_default=False,
        ),
    ] = 0
    store: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS",
            help="a store that all machines reach, such as s3://bucket/folder (default: "
            "WATTBENCH_STORE)",
            show_default=False,
        ),
    ] = ""
    suite: Annotated[str, typer.Option(metavar="NAME", help="tasks and references")] = "quick"
    tasks: Annotated[
        list[str],
        typer.Option("--task", metavar="NAME", help=f"only this task, {TASK_HELP}; repeatable"),
    ] = field(default_factory=list)
    systems: Annotated[
        list[str],
        typer.Option("--system", metavar="NAME", help="this system and the references; repeatable"),
    ] = field(default_factory=list)
    all_systems: Annotated[
        bool, typer.Option("--all", help="every system that declares one of the tasks")
    ] = False
    configurations: Annotated[
        list[str],
        typer.Option(
            "--configuration",
            metavar="NAME",
            help="cpu-1, cpu-2, ...; repeatable. Machines are labelled with theirs (ray start "
            "--labels configuration=cpu-2)",
        ),
    ] = field(default_factory=list)
    seed: Seed = 0
    seeds: Annotated[int, typer.Option(min=1, metavar="N", help="training seeds")] = 1
    rounds: Rounds = None
    scenario: Annotated[
        Literal["server", ""],
        typer.Option(help="also measure the scenario `server`", show_default=False),
    ] = ""
    isolation: Isolation = "auto"
    smoke: Smoke = False
    results: Results = ""


def fleet(
    options: FleetOptions,
    console: Console,
    action: Annotated[
        str,
        typer.Argument(metavar="[status]", help="print where the jobs stand", show_default=False),
    ] = "",
) -> int:
    """Build and measure on several machines.

    What is missing is built on whatever machine is free, what others wait for first. Then each task
    is measured under each configuration, in a session of its own on a machine with that label,
    which it has for itself. The records are added to the results here as they come back. If a
    machine dies, its job begins anew on another one; a system that cannot be built is left off.

    Ctrl-C stops all jobs; what is finished is kept, and the same command goes on from there: it
    builds and measures what is missing. The exit status is 1 if a job failed or a system was left
    off.
    """
    from harness.cli.options import SystemOptions
    from harness.cli.resolve import make_session_plan
    from harness.fleet.status import describe_status
    from harness.telemetry.configuration import choose_configuration, configurations

    if action == "status":
        console(describe_status())
        return 0
    if action:
        raise HarnessError(f"{action!r} is not an action. Give status, or nothing to run a fleet.")
    if bool(options.address) == bool(options.local):
        raise HarnessError("give --address of a Ray cluster, or --local N for N nodes here.")
    store = options.store or os.environ.get("WATTBENCH_STORE", "")
    if store and "://" not in store:
        store = f"file://{Path(store).expanduser().resolve()}"  # the same on all machines
    if store:
        os.environ["WATTBENCH_STORE"] = store
    if options.address and not store:
        raise HarnessError(
            "a fleet needs a store that all its machines reach: --store s3://bucket/folder, or "
            "file:///mnt/share/folder."
        )
    root = find_project()
    results = results_folder(root, options.results, options.smoke)
    names = tuple(dict.fromkeys(options.configurations)) or (choose_configuration().name,)
    for name in names:
        if options.local:
            choose_configuration(name)  # which fits this machine
        elif name not in configurations():
            raise HarnessError(
                f"configuration {name!r} does not exist. {suggest_name(name, configurations())}"
            )
    if len({configurations()[name].device for name in names}) > 1:
        raise HarnessError("--configuration: give those with a GPU in a command of their own.")
    plan, suite = make_session_plan(
        SystemOptions(
            suite=options.suite,
            tasks=options.tasks,
            systems=options.systems,
            all_systems=options.all_systems,
            configuration=names[0],
            seed=options.seed,
            seeds=options.seeds,
        ),
        root,
        results,
    )
    points = {part.system.name.partition("@")[0] for part in plan.systems if part.system.point}
    config = _make_config(options, names, store, tuple(sorted(points)))
    if options.local:
        is_whole = _run_here(plan, suite, config, options.local, results, console)
    else:
        is_whole = _run_there(plan, suite, config, options.address, results, console)
    draw_board(results, console)
    return 0 if is_whole else 1


def _make_config(
    options: FleetOptions, names: tuple[str, ...], store: str, points: tuple[str, ...]
) -> "FleetConfig":
    from harness.fleet.fleet import FleetConfig
    from harness.runner.config import RunConfig

    return FleetConfig(
        names,
        store,
        blocks=options.rounds or (1 if options.smoke else RunConfig.blocks),
        seed=options.seed,
        seeds=options.seeds,
        points=points,
        server=options.scenario == "server",
        isolation=options.isolation,
        smoke=options.smoke,
    )


def _run_there(
    plan: "Plan",
    suite: "Suite",
    config: "FleetConfig",
    address: str,
    results: Path,
    console: Console,
) -> bool:
    """Build and measure on a cluster; return whether nothing failed or was left off."""
    from harness.fleet.cluster import RayMachines
    from harness.fleet.fleet import (
        check_store,
        list_build_jobs,
        list_session_jobs,
        publish_plan,
        run_fleet,
        upload_built,
    )

    machines = RayMachines(address)
    try:
        if missing := set(config.configurations) - machines.list_configurations():
            raise HarnessError(
                f"no machine has the label configuration={min(missing)}. Start one: ray start "
                f"--address ... --labels configuration={min(missing)}"
            )
        project = publish_plan(plan)
        check_store(project)
        if count := upload_built(plan):
            console(f"copied to the store: {count} artifacts that are built here")
        builds = list_build_jobs(plan, project, config)
        sessions = list_session_jobs(plan, suite, project, config, builds)
        progress = run_fleet([*builds, *sessions], machines, results / "records", console)
        left_off = any(reply.left_off for reply, _ in progress.done.values())
        return not progress.failed and not left_off
    finally:
        machines.close()


def _run_here(
    plan: "Plan", suite: "Suite", config: "FleetConfig", nodes: int, results: Path, console: Console
) -> bool:
    """Build on nodes of this machine, then measure as `run` does; return whether nothing failed."""
    from harness.cli.build import build_systems
    from harness.fleet.cluster import LocalCluster, RayMachines
    from harness.fleet.fleet import find_failed, list_build_jobs, publish_plan, run_fleet
    from harness.results.record import Timing
    from harness.runner.config import SMOKE, RunConfig
    from harness.runner.session import measure
    from harness.submissions.plan import Plan, PlannedSystem
    from harness.telemetry.configuration import choose_configuration

    config = replace(config, cores=max(1, len(os.sched_getaffinity(0)) // nodes))
    builds = list_build_jobs(plan, publish_plan(plan), config)
    failed: list[tuple[PlannedSystem, str]] = []
    if builds:
        cluster = LocalCluster(config.cores)
        try:
            for _ in range(nodes):
                cluster.add_node()
            machines = RayMachines(cluster.address)
            try:
                progress = run_fleet(builds, machines, results / "records", console)
            finally:
                machines.close()
        finally:
            cluster.close()
        failed = find_failed(plan, builds, progress)
    for planned, reason in failed:
        if planned.system.name in (suite.reference, suite.unpadded_reference):
            raise HarnessError(f"{planned.system.name} could not be built: {reason}")
        console(f"left off: {planned.system.name}: {reason}")
    lost = [planned for planned, _ in failed]
    kept = Plan(tuple(planned for planned in plan.systems if planned not in lost))
    for name in config.configurations:
        configuration = choose_configuration(name)
        session = measure(
            build_systems(kept, configuration, console),
            suite,
            configuration,
            results,
            RunConfig(
                config.blocks,
                server=config.server,
                isolation=config.isolation,
                timing=SMOKE if config.smoke else Timing(),
            ),
            console,
        )
        console(f"measured: session {session}")
    return not failed
