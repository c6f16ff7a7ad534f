"""`wattbench search`."""

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.console import Console
from harness.cli.options import TASK_HELP, Configuration, Isolation, Seed
from harness.errors import HarnessError
from harness.submissions.project import find_project

if TYPE_CHECKING:
    from harness.submissions.system import System

UNITS = {"s": 1, "m": 60, "h": 3600}


def parse_duration(text: str) -> float:
    """Return the seconds of `90s`, `60m` or `1.5h`."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
    if not match or not float(match[1]):
        raise typer.BadParameter(f"{text!r} is not a duration such as 90s, 60m or 1.5h")
    return float(match[1]) * UNITS[match[2]]


def search(
    console: Console,
    task: Annotated[
        str, typer.Option(metavar="NAME", help=f"the task, {TASK_HELP}", show_default=False)
    ] = "",
    model: Annotated[
        str,
        typer.Option(
            metavar="MODEL",
            help="your fine-tuned BERT or MPNet as the teacher, in a folder or "
            "ORGANISATION/NAME[@REVISION] of the hub (default: train one)",
            show_default=False,
        ),
    ] = "",
    teacher: Annotated[
        str, typer.Option(metavar="NAME", help="the system that is trained as the teacher")
    ] = "minilm-l6",
    keep: Annotated[
        float,
        typer.Option(
            min=0.01,
            max=1.0,
            metavar="SHARE",
            help="share of the teacher's gain over the constant answer that the result keeps",
        ),
    ] = 0.95,
    budget: Annotated[
        float,
        typer.Option(
            parser=parse_duration,
            metavar="TIME",
            help="time for the whole search: 90s, 60m, 1.5h; a build that has begun is finished",
        ),
    ] = "60m",  # type: ignore[assignment]
    p50_ms: Annotated[
        float | None,
        typer.Option(metavar="MS", help="largest median latency", show_default=False),
    ] = None,
    p99_ms: Annotated[
        float | None,
        typer.Option(metavar="MS", help="largest 99th percentile of latencies", show_default=False),
    ] = None,
    memory_mb: Annotated[
        float | None,
        typer.Option(metavar="MB", help="largest peak memory of a worker", show_default=False),
    ] = None,
    size_mb: Annotated[
        float | None,
        typer.Option(metavar="MB", help="largest size on disk", show_default=False),
    ] = None,
    space: Annotated[
        str,
        typer.Option(
            metavar="FILE",
            help="what may be chosen, as TOML; keys that it lacks have their defaults",
            show_default=False,
        ),
    ] = "",
    show_space: Annotated[
        bool, typer.Option("--print-space", help="print the default of --space and end")
    ] = False,
    out: Annotated[
        str,
        typer.Option(
            metavar="FOLDER",
            help="the folder to write (default: submissions/TASK-fast)",
            show_default=False,
        ),
    ] = "",
    resume: Annotated[
        bool, typer.Option("--resume", help="go on with the search for the same task and teacher")
    ] = False,
    configuration: Configuration = "",
    isolation: Isolation = "auto",
    seed: Seed = 0,
) -> None:
    """Find the fastest model for a task that keeps enough of its teacher's score.

    Students of many shapes are timed with random weights, since speed does not depend on weights;
    those that may lie on the frontier are trained, the most promising ones first and for longer.
    Everything is chosen on the selection slice of the training split. The result is an ordinary
    submission folder with the table of the search; `bench` then measures it on the reported split.

    Ctrl-C ends the search with what was found, --resume goes on. If nothing keeps enough, what
    keeps most is written all the same, and the exit status is 2. Keep the machine quiet.
    """
    from harness.cli.resolve import find_places, find_task
    from harness.search.found import Limits
    from harness.search.report import (
        describe_shortfall,
        list_commands,
        list_rows,
        summarize,
        write_system,
    )
    from harness.search.request import SearchRequest
    from harness.search.search import Search
    from harness.search.space import DEFAULT_SPACE, read_space
    from harness.store.cache import expand_home
    from harness.telemetry.configuration import choose_configuration
    from harness.worker import sandbox

    if show_space:
        console(DEFAULT_SPACE.read_text(encoding="utf-8").rstrip())
        return
    if not task:
        raise HarnessError("give --task NAME, or the path of a task.toml.")
    root = find_project()
    chosen_task = find_task(task, find_places(root))
    folder = expand_home(out) if out else root / "submissions" / f"{chosen_task.name}-fast"
    if folder.exists():
        raise HarnessError(f"{folder} exists already. Move it away, or give another --out.")
    workspace = _find_workspace(folder)
    has_state = (workspace / "found.json").is_file()
    if has_state and not resume:
        raise HarnessError(
            f"a search for {folder} was interrupted. Give --resume to go on, or another --out."
        )
    if resume and not has_state:
        raise HarnessError(f"there is no search for {folder} to resume. Leave --resume out.")
    source, teacher_name = _find_teacher(model, teacher, workspace, root)
    request = SearchRequest(
        chosen_task,
        source,
        teacher_name,
        read_space(space),
        Limits(keep, p50_ms, p99_ms, memory_mb, size_mb),
        budget,
        choose_configuration(configuration),
        sandbox.choose_isolation(isolation, [], console),
        workspace,
        seed,
    )
    outcome = Search(request, console).run()
    write_system(request, outcome, folder)
    console.print_table(list_rows(outcome))
    console(summarize(request, outcome))
    console("\n".join([f"written: {folder}", *list_commands(request, folder)]))
    if shortfall := describe_shortfall(request, outcome):
        raise HarnessError(shortfall)


def _find_workspace(folder: Path) -> Path:
    """Return where the state of the search for a folder is kept."""
    from harness.store.cache import cache_dir, digest

    return cache_dir() / "searches" / f"{folder.name}-{digest(str(folder.resolve()))[:8]}"


def _find_teacher(model: str, name: str, workspace: Path, root: Path) -> "tuple[System, str]":
    """Return the teacher, not padded, and what manifests in the workspace call it."""
    import tomli_w

    from harness.models.pretrained import find_checkpoint_folder
    from harness.store.cache import write_atomically
    from harness.submissions.lookup import get_system
    from harness.submissions.manifest import read_system

    if not model:
        system = get_system(name, root)
        reference = name
    else:
        folder = workspace / "systems" / "teacher"
        checkpoint = find_checkpoint_folder(model)
        manifest = {
            "title": f"{checkpoint.name}, as it was given",
            "authors": ["unknown"],
            "licence": "unknown",
            "division": "baseline",
            "tasks": ["any"],
            "model": {"checkpoint": str(checkpoint)},
            "step": [{"use": "adopt"}],
            "serve": {"engine": "pytorch", "padding": "longest", "batch": 1},
        }
        write_atomically(folder / "submission.toml", tomli_w.dumps(manifest).encode())
        system = read_system(folder, workspace)
        reference = "../teacher"
    if system.engine != "pytorch" or system.spec.format != "safetensors":
        raise HarnessError(
            f"{model or name} cannot be the teacher: students are cut from the layers of a BERT or "
            "MPNet in PyTorch."
        )
    serve = {
        scenario: replace(config, padding="longest") for scenario, config in system.serve.items()
    }
    return replace(system, serve=serve), reference
