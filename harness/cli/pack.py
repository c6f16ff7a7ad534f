"""`wattbench pack`."""

import platform
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from harness.cli.console import Console
from harness.cli.options import TASK_HELP, Seed, SystemOptions, results_folder
from harness.errors import HarnessError, suggest_name
from harness.submissions.project import find_project

MIB = 2**20


def pack(
    console: Console,
    out: Annotated[Path, typer.Argument(metavar="KIT", help="the archive to write")] = Path(
        "kit.zip"
    ),
    configurations: Annotated[
        list[str],
        typer.Option(
            "--configuration",
            metavar="NAME",
            help="measure under this configuration; repeatable",
            show_default=False,
        ),
    ] = [],  # noqa: B006 (typer copies it)
    tasks: Annotated[
        list[str],
        typer.Option("--task", metavar="NAME", help=f"this task, {TASK_HELP}; repeatable"),
    ] = [],  # noqa: B006
    systems: Annotated[
        list[str],
        typer.Option(
            "--system",
            metavar="[CONFIGURATION:]NAME",
            help="this system and the references, under all configurations that it fits or under "
            "one; repeatable (default: those of the suite)",
        ),
    ] = [],  # noqa: B006
    suite: Annotated[str, typer.Option(metavar="NAME", help="tasks and references")] = "quick",
    ladder: Annotated[
        bool, typer.Option("--ladder", help="the systems of the suite's ladder by default")
    ] = False,
    minutes: Annotated[
        float, typer.Option(min=1, metavar="N", help="time limit on the other machine")
    ] = 10,
    rounds: Annotated[
        int, typer.Option(min=1, metavar="N", help="blocks to measure in each session")
    ] = 5,
    examples: Annotated[
        list[str],
        typer.Option(
            metavar="TASK=N",
            help="pack a sample of N rows of the training data of a task of SuperGLUE; repeatable",
        ),
    ] = [],  # noqa: B006
    precision: Annotated[
        Literal["fp32", "fp16"], typer.Option(help="of the weights that training starts from")
    ] = "fp32",
    with_artifacts: Annotated[
        bool,
        typer.Option("--with-artifacts", help="pack what is built here; nothing is trained there"),
    ] = False,
    target_packages: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="what `python3 -m pip list --format=freeze` prints on the other machine "
            "(default: it has PyTorch alone)",
            show_default=False,
        ),
    ] = None,
    target_python: Annotated[
        str, typer.Option(metavar="VERSION", help="its Python (default: this one)")
    ] = "",
    target_machine: Annotated[
        str, typer.Option(metavar="NAME", help="its processor, as `uname -m` (default: this one)")
    ] = "",
    max_mib: Annotated[
        float, typer.Option(min=0, metavar="N", help="refuse a larger archive; 0 for no limit")
    ] = 0,
    seed: Seed = 0,
    smoke: Annotated[
        bool, typer.Option("--smoke", help="short windows, to see that everything works")
    ] = False,
) -> None:
    """Pack everything that a machine without a network needs, in order to measure there.

    There `python3 KIT` unpacks it, builds, measures one session for each task and configuration,
    in their order, and leaves the records as one archive, which `wattbench add` adds here. It needs
    Python and PyTorch, no installation and no root. What does not fit into the time limit is left
    off.

    The validation split is always complete. A kit with a part of the training data, or with weights
    in fp16, builds other artifacts than this machine; its records say so.
    """
    from harness.cli.resolve import find_places, make_session_plan, select_tasks
    from harness.kit.pack import PackConfig, PackedSession, write_kit
    from harness.kit.packages import Target
    from harness.tasks.registry import get_suite

    root = find_project()
    selected = select_tasks(tasks or get_suite(suite).tasks, find_places(root))
    options = SystemOptions(suite=suite, ladder=ladder, seed=seed)
    by_configuration = _assign_systems(configurations, systems, root)
    sessions = [
        PackedSession(
            name,
            task,
            make_session_plan(
                replace(options, configuration=name, systems=named, tasks=[task.address]),
                root,
                results_folder(root),
            )[0],
        )
        for task in selected
        for name, named in by_configuration.items()
    ]
    python = target_python or ".".join(platform.python_version_tuple()[:2])
    machine = target_machine or platform.machine()
    if target_packages:
        target = Target.read(target_packages, python, machine)
    else:
        target = Target(python, machine)
        console(
            "packages: all except PyTorch; with --target-packages only those that the other "
            "machine lacks"
        )
    config = PackConfig(
        suite=suite,
        minutes=minutes,
        rounds=rounds,
        target=target,
        seed=seed,
        smoke=smoke,
        precision=precision,
        examples=dict(map(_parse_examples, examples)),
        with_artifacts=with_artifacts,
        max_mib=max_mib,
    )
    sizes = write_kit(sessions, config, out, console)
    console.print_table(
        [{"part": part, "MiB": f"{size / MIB:.1f}"} for part, size in sizes.items()]
        + [{"part": "all", "MiB": f"{out.stat().st_size / MIB:.1f}"}]
    )
    for session in sessions:
        names = ", ".join(planned.system.name for planned in session.plan.systems)
        console(f"measures: {session.task.name} under {session.configuration}: {names}")
    console(f"written: {out}. On a machine with Python {python} and PyTorch: python3 {out.name}")


def _assign_systems(
    configurations: list[str], systems: list[str], root: Path
) -> dict[str, list[str]]:
    """Return the systems that are named for each configuration; none for the default ones.

    Raises:
        HarnessError: a configuration does not exist or is missing, or a system fits none of them.
    """
    from harness.cli.resolve import get_device
    from harness.submissions.lookup import get_system
    from harness.telemetry.configuration import configurations as read_configurations

    known = read_configurations()
    if not configurations:
        raise HarnessError(
            f"under which configuration? Name it with --configuration. Known: {', '.join(known)}."
        )
    for name in configurations:
        if name not in known:
            raise HarnessError(
                f"configuration {name!r} does not exist. {suggest_name(name, known)}"
            )
    assigned: dict[str, list[str]] = {name: [] for name in configurations}
    for text in systems:
        only, _, name = text.rpartition(":")
        if only and only not in assigned:
            raise HarnessError(f"--system {text}: add --configuration {only}, or correct its name.")
        system = get_system(name, root)
        fitting = [
            configuration
            for configuration in ([only] if only else assigned)
            if system.fits_device(get_device(configuration))
        ]
        if not fitting:
            raise HarnessError(f"--system {text} needs a GPU: add --configuration gpu-1.")
        for configuration in fitting:
            assigned[configuration].append(name)
    return assigned


def _parse_examples(text: str) -> tuple[str, int]:
    task, _, count = text.partition("=")
    if not task or not count.isdigit() or not int(count):
        raise HarnessError(f"--examples {text}: write TASK=N, such as boolq=2000.")
    return task, int(count)
