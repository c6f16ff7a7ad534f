"""What the options of a command name: systems, tasks, a suite, a session.

Commands import this module when they run, so that `wattbench --help` starts quickly.
"""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from harness.cli.options import SessionOptions, SystemOptions, results_folder
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
