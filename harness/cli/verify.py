"""`wattbench verify`."""

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.bench import bench_session
from harness.cli.console import Console
from harness.cli.options import (
    TASK_HELP,
    Configuration,
    Rounds,
    Seed,
    SessionOptions,
    results_folder,
)
from harness.cli.records import read_sections
from harness.errors import HarnessError
from harness.submissions.project import find_project


def verify(
    console: Console,
    published: Annotated[
        Path, typer.Argument(metavar="PUBLISHED", help="the published results")
    ] = Path("results"),
    task: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help=f"{TASK_HELP} (default: the only published one, or sentiment)",
            show_default=False,
        ),
    ] = "",
    systems: Annotated[
        list[str] | None,
        typer.Option("--system", metavar="NAME", help="only this system; repeatable"),
    ] = None,
    against: Annotated[
        str, typer.Option(metavar="FOLDER", help="results that were measured already")
    ] = "",
    out: Annotated[
        Path, typer.Option(metavar="FOLDER", help="where new records and the verdicts go")
    ] = Path("verified"),
    rounds: Rounds = None,
    configuration: Configuration = "",
    seed: Seed = 0,
) -> int:
    """Measure published records again, and say which claims hold.

    Builds and measures the systems of the published session again, writes the new records to --out,
    and compares scores on the same examples, the quality floor, speed-ups and the order of the
    systems, claim by claim. A speed-up holds where both values are within a third. The exit status
    is 1 when a claim does not hold. --against compares with records that exist, and measures
    nothing.
    """
    from harness.cli.recorded import get_recorded_model
    from harness.cli.resolve import find_places, find_task, name_task
    from harness.reports.verification import (
        choose_task,
        find_published_systems,
        render_verification,
    )
    from harness.store.cache import write_atomically
    from harness.submissions.manifest import find_systems

    root, out = find_project(), results_folder(find_project(), str(out))
    published = results_folder(root, str(published))
    records = published / "records"
    own_records = results_folder(root, against or str(out)) / "records"
    for folder in (records, *((own_records,) if against else ())):
        if not folder.is_dir():
            raise HarnessError(f"{folder}: there is no such folder. Name one that holds records/.")
    if against and own_records.resolve() == records.resolve():
        raise HarnessError(f"{records}: both are the same folder. Name another with --against.")
    sections = read_sections(records)
    task = task or choose_task(sections)
    known = None if against else list(find_systems(root))
    latest, names = find_published_systems(sections, name_task(task), systems, known)
    if not against:
        own_task = find_task(task, [published, *find_places(root)])
        reference = next(row.record for row in latest.rows if row.name == latest.roles["reference"])
        model = get_recorded_model(reference) if "model" in reference.system else ""
        session = SessionOptions(
            suite=reference.suite,
            tasks=[own_task.address],
            model=model,
            model_name=reference.system["name"] if model else "",
            systems=names,
            configuration=configuration or latest.configuration["name"],
            seed=seed,
            rounds=rounds,
            results=str(out),
        )
        bench_session(session, console)
    own_sections = read_sections(own_records)
    text, failed = render_verification(sections, own_sections, name_task(task), systems)
    write_atomically(out / "verification.md", text.encode())
    console.print_markdown(text)
    console(f"written: {out / 'verification.md'}")
    return int(failed)
