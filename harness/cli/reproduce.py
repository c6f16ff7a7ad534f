"""`wattbench reproduce`."""

from typing import Annotated

import typer

from harness.cli.bench import bench_session
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
from harness.cli.records import read_sections
from harness.submissions.project import find_project


def reproduce(
    console: Console,
    name: Annotated[str, typer.Argument(metavar="NAME", help="e.g. fastformers-table3")],
    task_name: Annotated[str, typer.Option("--task", metavar="NAME", help=TASK_HELP)] = "boolq",
    suite: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="whose systems are set beside the table (default: that of the table)",
            show_default=False,
        ),
    ] = "",
    again: Annotated[
        bool, typer.Option("--again", help="measure, even where a session has all of it")
    ] = False,
    rounds: Rounds = None,
    configuration: Configuration = "",
    seed: Seed = 0,
    smoke: Smoke = False,
    results: Results = "",
) -> None:
    """Set a suite's ladder beside a published table.

    NAME is a file of baselines/published. Where no session holds the whole ladder on that task, or
    with --again, the ladder is built and measured first.
    """
    from harness.cli.resolve import find_places, find_task
    from harness.reports.reproduction import (
        PublishedTable,
        draw_reproductions,
        find_complete,
        render_reproduction,
    )
    from harness.store.cache import write_atomically

    root = find_project()
    published = PublishedTable.read(root, name, suite)
    task = find_task(task_name, find_places(root, results))
    folder = results_folder(root, results, smoke)
    records = folder / "records"
    stem = "-".join(part for part in (name, suite, task.name) if part)
    sections = [] if again else read_sections(records, systems=published.systems)
    if not find_complete(sections, published, task.name):
        console(
            f"no session in {folder} has all of {name} on {task.name}: first "
            f"{len(published.systems)} systems are built where they are not, and measured"
            f"{'; --smoke shortens only the measuring' if smoke else ''}"
        )
        session = SessionOptions(
            suite=published.suite,
            tasks=[task.address],
            systems=published.systems,
            configuration=configuration,
            seed=seed,
            rounds=rounds,
            smoke=smoke,
            results=results,
        )
        bench_session(session, console)
        sections = read_sections(records)
    files = []
    for number, picture in enumerate(draw_reproductions(sections, published, task.name), start=1):
        files.append(f"{stem}{f'-{number}' if number > 1 else ''}.svg" if picture else "")
        if picture:
            write_atomically(folder / files[-1], picture.encode())
    text = render_reproduction(sections, published, task.name, files)
    path = folder / f"{stem}.md"
    write_atomically(path, text.encode())
    console.print_markdown(text)
    console(f"written: {path}")
