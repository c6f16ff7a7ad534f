"""Options that several commands share, and what they name: systems, tasks, a suite, folders."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from harness.errors import HarnessError
from harness.results import record
from harness.results.record import Timing
from harness.runner.config import SMOKE, RunConfig
from harness.submissions.checkpoint import declare_model_systems, get_reference_names
from harness.submissions.lookup import add_references, check_device, check_tasks, find_folder
from harness.submissions.manifest import find_systems, read_system
from harness.submissions.plan import Plan, make_plan
from harness.tasks.registry import all_suites, get_suite, get_task
from harness.tasks.suites import Suite
from harness.tasks.task import Task

TASK_HELP = "by its name, or the path of its task.toml"


def parse_percentage(text: str) -> float:
    """Return `3%` as 0.03."""
    try:
        share = float(text.removesuffix("%")) / 100
    except ValueError:
        share = 0.0
    if not text.endswith("%") or not 0.001 <= share < 1:
        raise typer.BadParameter(f"{text!r} is not a percentage from 0.1% to 99%")
    return share


def parse_isolation(text: str) -> str:
    """Return an isolation; `walls` is the old spelling of `sandbox`."""
    isolation = "sandbox" if text == "walls" else text
    if isolation not in ("auto", "sandbox", "process"):
        raise typer.BadParameter(f"{text!r} is not one of auto, sandbox, process")
    return isolation


Configuration = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="cpu-1, cpu-2, ... (default: the largest that fits this machine)",
        show_default=False,
    ),
]
Seed = Annotated[int, typer.Option(metavar="N", help="training seed")]
Rounds = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="blocks to measure (default 5)", show_default=False),
]
Results = Annotated[
    str,
    typer.Option(
        metavar="FOLDER",
        help="where records and leaderboard are kept (default: results/ of the checkout, or else "
        "of the current folder)",
        show_default=False,
    ),
]
Smoke = Annotated[
    bool,
    typer.Option(
        "--smoke",
        help="short windows and probes and one block, to see that everything works; nothing can "
        "be compared. Results go to results/smoke",
    ),
]
Isolation = Annotated[
    str,
    typer.Option(
        parser=parse_isolation,
        metavar="[auto|sandbox|process]",
        help="auto: each worker in a bubblewrap sandbox (no network, only its own files) where "
        "that works; sandbox: fail where it does not; process: no sandbox",
    ),
]


@dataclass(frozen=True)
class SystemOptions:
    """Options of `bench`, `build` and `run`: which systems, on which tasks."""

    suite: Annotated[str, typer.Option(metavar="NAME", help="tasks and references")] = "quick"
    tasks: Annotated[
        list[str],
        typer.Option("--task", metavar="NAME", help=f"only this task, {TASK_HELP}; repeatable"),
    ] = field(default_factory=list)
    model: Annotated[
        str,
        typer.Option(
            metavar="MODEL",
            help="a fine-tuned checkpoint, in a folder or ORGANISATION/NAME[@REVISION] of the hub: "
            "measure it padded, unpadded and in int8, and train nothing",
            show_default=False,
        ),
    ] = ""
    model_name: Annotated[
        str,
        typer.Option(
            "--name",
            metavar="NAME",
            help="of the model in tables (default: its folder's; where the results have another "
            "model of that name, with a digest of its files)",
            show_default=False,
        ),
    ] = ""
    systems: Annotated[
        list[str],
        typer.Option(
            "--system",
            metavar="NAME",
            help="this system (its name or its folder) and the references; repeatable (default: "
            "those of the suite)",
        ),
    ] = field(default_factory=list)
    ladder: Annotated[bool, typer.Option("--ladder", help="the systems of the suite's ladder")] = (
        False
    )
    all_systems: Annotated[
        bool, typer.Option("--all", help="every system that declares one of the tasks")
    ] = False
    configuration: Configuration = ""
    seed: Seed = 0
    seeds: Annotated[
        int,
        typer.Option(
            min=1, metavar="N", help="training seeds of each trained system, from --seed on"
        ),
    ] = 1


@dataclass(frozen=True)
class SessionOptions(SystemOptions):
    """Options of `bench` and `run`: also how a session is measured."""

    rounds: Rounds = None
    until: Annotated[
        float | None,
        typer.Option(
            parser=parse_percentage,
            metavar="PERCENT",
            help="then continue until every interval is this narrow, e.g. 3%",
            show_default=False,
        ),
    ] = None
    minutes: Annotated[int, typer.Option(min=1, metavar="N", help="when --until gives up")] = 60
    scenario: Annotated[
        Literal["server"] | None,
        typer.Option(
            help="also find the highest rate of random arrivals that keeps the latency bound",
        ),
    ] = None
    resume: Annotated[
        str,
        typer.Option(metavar="SESSION", help="continue an interrupted session", show_default=False),
    ] = ""
    audit: Annotated[
        bool, typer.Option("--audit", help="then audit each submission that was measured")
    ] = False
    isolation: Isolation = "auto"
    smoke: Smoke = False
    results: Results = ""


def results_folder(root: Path, results: str = "", smoke: bool = False) -> Path:
    """Return where records and leaderboard are kept; smoke runs are kept apart."""
    return Path(results) if results else root / "results" / ("smoke" if smoke else "")


def make_run_config(options: SessionOptions) -> RunConfig:
    """Return how the session is measured."""
    return RunConfig(
        blocks=options.rounds or (1 if options.smoke else RunConfig.blocks),
        until=options.until,
        minutes=options.minutes,
        server=options.scenario == "server",
        isolation=options.isolation,
        timing=SMOKE if options.smoke else Timing(),
        resume=options.resume,
    )


def make_session_plan(
    options: SystemOptions, root: Path, results: Path, session: str = ""
) -> tuple[Plan, Suite]:
    """Resolve the systems, tasks and suite that the options name.

    The reference systems are always among the systems; with --model they are the model's own.

    Args:
        options: the user's choice.
        root: the project.
        results: the folder of the records that a --model will stand beside.
        session: the session that is resumed.

    Raises:
        HarnessError: a name does not exist, two systems or tasks have one name, or a named system
            declares none of the tasks.
    """
    suite = get_suite(options.suite)
    tasks = select_tasks(options.tasks or suite.tasks)
    folders = find_systems(root)
    device = get_device(options.configuration)
    names = list(options.systems or suite.default_systems(device, options.ladder))
    names = list(folders) if options.all_systems else names
    if options.model:
        model_folders = declare_model_systems(
            options.model, folders, options.model_name, results / "records", session
        )
        reference, unpadded = get_reference_names(model_folders)
        suite = replace(suite, reference=reference, unpadded_reference=unpadded)
        names = [*model_folders, *options.systems, *(folders if options.all_systems else ())]
        folders = {**folders, **model_folders}
    named = [read_system(find_folder(name, folders, root), root) for name in names]
    wanted = [system for name, system in zip(names, named, strict=True) if name in options.systems]
    check_device(wanted, device)
    check_tasks(wanted, tasks)
    fitting = [system for system in named if system.fits_device(device)]
    systems = add_references(fitting, suite, root, folders)
    return make_plan(systems, tasks, options.seed, options.seeds), suite


def name_task(name: str) -> str:
    """Return the name of a task that is given by its name or the path of its file."""
    return get_task(name).name if name.endswith(".toml") else name


def get_device(configuration: str) -> str:
    """Return the device of a configuration by its name; `cpu` if it has none."""
    from harness.telemetry.configuration import configurations

    known = configurations()
    return known[configuration].device if configuration in known else "cpu"


def select_tasks(names: Iterable[str]) -> list[Task]:
    """Return the tasks of these names or files, each once.

    Raises:
        HarnessError: there is no such task, or two have one name, so that the results of one would
            hide those of the other.
    """
    tasks: dict[str, Task] = {}
    for name in names:
        task = get_task(name)
        same_name = tasks.setdefault(task.name, task)
        if same_name.path != task.path:
            raise HarnessError(
                f"{same_name.address} and {task.address} are two tasks of one name, "
                f"{task.name!r}. Change `name` in one of them."
            )
    return list(tasks.values())


def get_suite_of(task: Task) -> Suite:
    """Return the first suite that has this task, else `quick`, whose references take any task."""
    names = (suite.name for suite in all_suites().values() if task.name in suite.tasks)
    return get_suite(next(names, "quick"))


def restore_options(options: SessionOptions, root: Path) -> SessionOptions:
    """Return the options with what the session to resume already fixes.

    Its records say which systems, tasks, scenarios and seeds it has, and under which suite and
    configuration. Without --resume nothing changes.

    Raises:
        HarnessError: there is no such session.
    """
    if not options.resume:
        return options
    places = [results_folder(root, options.results, options.smoke)]
    places += [] if options.results else [results_folder(root, smoke=True)]
    holding = (place for place in places if (place / "records" / options.resume).is_dir())
    place = next(holding, places[0])
    session = place / "records" / options.resume
    paths = sorted(path.relative_to(session) for path in session.glob("*/*/*.json"))
    if not paths:
        raise HarnessError(
            f"{session}: there is no session to resume. Leave --resume out for a new one."
        )
    first = record.read_record(session / paths[0])
    addresses = {task.name: task.address for task in select_tasks(options.tasks)}  # custom tasks
    folders = {Path(name).name: name for name in options.systems if "/" in name}
    rows = {path.stem for path in paths}  # SYSTEM, SYSTEM@POINT or SYSTEM@seedN
    systems = sorted({row.partition("@")[0] for row in rows})
    return replace(
        options,
        results=str(place),
        tasks=[addresses.get(name, name) for name in sorted({path.parts[0] for path in paths})],
        systems=[folders.get(name, name) for name in systems],
        seeds=1 + len({row.partition("@seed")[2] for row in rows} - {""}),
        suite=first.suite,
        configuration=first.configuration["name"],
        smoke=options.smoke or first.smoke,
        scenario="server" if any(path.parts[1] == "server" for path in paths) else options.scenario,
    )
