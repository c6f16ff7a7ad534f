"""What the options of a command name: systems, tasks, a suite, a session.

Commands import this module when they run, so that `wattbench --help` starts quickly.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from harness.cli.options import SessionOptions, SystemOptions, results_folder
from harness.cli.recorded import (
    find_recorded_systems,
    find_recorded_task,
    get_recorded_model,
    get_recorded_task,
)
from harness.errors import HarnessError
from harness.models.pretrained import find_checkpoint_folder
from harness.results import record
from harness.results.record import Record, Timing
from harness.runner.config import SMOKE, RunConfig
from harness.store.cache import expand_home
from harness.submissions.checkpoint import (
    compute_model_digest,
    declare_model_systems,
    get_model_address,
    get_reference_names,
)
from harness.submissions.lookup import add_references, check_device, check_tasks, find_folder
from harness.submissions.manifest import find_systems, read_system
from harness.submissions.plan import Plan, make_plan
from harness.submissions.project import expand_path
from harness.submissions.system import System
from harness.tasks.registry import all_suites, all_tasks, get_suite, get_task
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
    places = [results, *find_places(root)]
    tasks = select_tasks(options.tasks or suite.tasks, places)
    folders = find_systems(root)
    device = get_device(options.configuration)
    names = list(options.systems or suite.default_systems(device, options.ladder))
    names = list(folders) if options.all_systems else names
    if options.model:
        model_folders = declare_model_systems(
            options.model, folders, options.model_name, results / "records", session
        )
        reference, unpadded = get_reference_names(model_folders)
        checkpoint = Path(read_system(model_folders[reference], root).encoder)
        suite = replace(
            suite,
            reference=reference,
            unpadded_reference=unpadded,
            model=get_model_address(options.model, checkpoint),
            model_name=options.model_name,
        )
        names = [*model_folders, *options.systems, *(folders if options.all_systems else ())]
        folders = {**folders, **model_folders}
    folders = find_recorded_systems(names, folders, places)
    named = [read_system(find_folder(name, folders, root), root) for name in names]
    wanted = [system for name, system in zip(names, named, strict=True) if name in options.systems]
    check_device(wanted, device)
    check_tasks(wanted, tasks)
    fitting = [system for system in named if system.fits_device(device)]
    systems = add_references(fitting, suite, root, folders)
    points = None if options.all_systems else [system.name for system in wanted]
    if session:
        points = _find_points(results / "records" / session)
    return make_plan(systems, tasks, options.seed, options.seeds, points), suite


def _find_points(session: Path) -> list[str]:
    """Return the systems that a session measures at operating points."""
    rows = (path.stem.partition("@") for path in session.glob("*/*/*.json"))
    return [name for name, _, point in rows if point and not point.startswith("seed")]


def find_task(name: str, places: Sequence[Path], system: System | None = None) -> Task:
    """Return a task by its name, or by the path of its `task.toml`.

    Args:
        name: of a built-in task, of a custom one that `system` declares or a record has, or a path.
        places: the results folders whose records know custom tasks.
        system: the system that the task is wanted for.

    Raises:
        HarnessError: there is no such task, or its file is gone.
    """
    if name in all_tasks() or name.endswith(".toml"):
        return get_task(name)
    for declared in system.tasks if system else ():
        if declared.name == name:
            return get_task(declared.address)
    return find_recorded_task(name, places) or get_task(name)


def find_system(name: str, root: Path, places: Sequence[Path]) -> System:
    """Return a system by its name, or by the path of its folder.

    Args:
        name: of a system of the project, of a model's system that a record has, or a path.
        root: the project.
        places: the results folders whose records know the systems of models.

    Raises:
        HarnessError: there is no such system.
    """
    folders = find_recorded_systems([name], find_systems(root), places)
    return read_system(find_folder(name, folders, root), root)


def name_task(name: str) -> str:
    """Return the name of a task that is given by its name or the path of its file."""
    return get_task(name).name if name.endswith(".toml") else name


def get_device(configuration: str) -> str:
    """Return the device of a configuration by its name; `cpu` if it has none."""
    from harness.telemetry.configuration import configurations

    known = configurations()
    return known[configuration].device if configuration in known else "cpu"


def select_tasks(
    names: Iterable[str], places: Sequence[Path] = (), system: System | None = None
) -> list[Task]:
    """Return the tasks of these names or files, each once.

    Args:
        names: as for `find_task`.
        places: as for `find_task`.
        system: as for `find_task`.

    Raises:
        HarnessError: there is no such task, or two have one name, so that the results of one would
            hide those of the other.
    """
    tasks: dict[str, Task] = {}
    for name in names:
        task = find_task(name, places, system)
        same_name = tasks.setdefault(task.name.casefold(), task)  # as file names may be
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


def find_places(root: Path, results: str = "") -> list[Path]:
    """Return the results folders in which names are looked up, the first one first."""
    default_places = (results_folder(root), results_folder(root, smoke=True))
    return [results_folder(root, results)] if results else list(default_places)


def restore_options(options: SessionOptions, root: Path) -> SessionOptions:
    """Return the options with what the session to resume already fixes.

    Its records say which systems, tasks, scenarios and seeds it has, of which model, and under
    which suite and configuration. Without --resume nothing changes.

    Raises:
        HarnessError: there is no such session, an option names what it does not have, or the model
            or the data of a task has changed.
    """
    if not options.resume:
        return options
    if "/" in options.resume:  # RESULTS/records/SESSION
        folder = expand_home(options.resume)
        options = replace(options, resume=folder.name, results=str(folder.parent.parent))
    places = find_places(root, options.results)
    places = places[::-1] if options.smoke else places
    holding = (place for place in places if (place / "records" / options.resume).is_dir())
    place = next(holding, places[0])
    session = place / "records" / options.resume
    paths = sorted(path.relative_to(session) for path in session.glob("*/*/*.json"))
    if not paths:
        raise HarnessError(
            f"{session}: there is no session to resume. Leave --resume out for a new one, or name "
            "the folder of its results with --results."
        )
    first = record.read_record(session / paths[0])
    rows = {path.stem for path in paths}  # SYSTEM, SYSTEM@POINT or SYSTEM@seedN
    systems = sorted({row.partition("@")[0] for row in rows})
    named = {Path(name).name if "/" in name else name: name for name in options.systems}
    _check_choices(session, "--system", named, systems)
    configuration = first.configuration["name"]
    given = [options.configuration] if options.configuration else []
    _check_choices(session, "--configuration", given, [configuration])
    reference = record.read_record((session / paths[0]).with_stem(first.roles["reference"]))
    has_model = "model" in reference.system
    given = [options.model_name] if options.model_name else []
    _check_choices(session, "--name", given, [reference.system["name"]])
    if options.model:
        _check_model(session, options.model, reference)
    return replace(
        options,
        results=str(place),
        tasks=_restore_tasks(session, {path.parts[0]: path for path in paths}, options.tasks),
        model=options.model or (get_recorded_model(reference) if has_model else ""),
        model_name=reference.system["name"] if has_model else "",
        systems=[named.get(name) or _restore_system(session, paths, name) for name in systems],
        seed=options.seed or (reference.artifact or {}).get("seed", 0),
        seeds=1 + len({row.partition("@seed")[2] for row in rows} - {""}),
        suite=first.suite,
        configuration=configuration,
        smoke=options.smoke or first.smoke,
        scenario="server" if any(path.parts[1] == "server" for path in paths) else options.scenario,
    )


def _restore_system(session: Path, paths: Sequence[Path], name: str) -> str:
    """Return a system of the session to resume, as `--system` takes it."""
    path = next(path for path in paths if path.stem.partition("@")[0] == name)
    return expand_path(record.read_record(session / path).inputs.get("system", name))


def _check_choices(
    session: Path, option: str, names: Iterable[str], choices: Sequence[str]
) -> None:
    if others := [name for name in names if name not in choices]:
        raise HarnessError(
            f"{option} {others[0]}: session {session.name} has {', '.join(choices)}. Leave "
            f"{option} out, or start a new session (leave --resume out)."
        )


def _check_model(session: Path, model: str, reference: Record) -> None:
    """Check that `--model` names the model of the session to resume."""
    digest = compute_model_digest(find_checkpoint_folder(model))
    if reference.system.get("model") != digest:
        name = reference.system["name"]
        raise HarnessError(
            f"--model {model}: the reference of session {session.name} is {name}, which "
            + ("has other files" if "model" in reference.system else "is not a --model")
            + ". Leave --model out, or start a new session (leave --resume out)."
        )


def _restore_tasks(session: Path, paths: dict[str, Path], names: Sequence[str]) -> list[str]:
    """Return the addresses of the tasks of the session to resume.

    Args:
        session: the folder of the session.
        paths: a record of each task, by the task's name.
        names: what --task names; it says where the file of a custom task is now.

    Raises:
        HarnessError: the session does not have one of these tasks, or the data of one has changed.
    """
    tasks = {task.name: task for task in select_tasks(names, [session.parent.parent])}
    _check_choices(session, "--task", tasks, list(paths))
    for name, path in paths.items():
        task_record = record.read_record(session / path)
        task = tasks.get(name) or get_recorded_task(task_record)
        tasks[name] = task
        if task.version != task_record.task["version"]:
            raise HarnessError(
                f"task {name!r} ({task.address}) has changed since session {session.name}: its "
                "data, fields or labels are others. Change them back, or start a new session "
                "(leave --resume out)."
            )
    return [tasks[name].address for name in paths]
