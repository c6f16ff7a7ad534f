"""Options that several commands share."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import typer

from harness.errors import HarnessError

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
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, metavar="N", help="training seed")]
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
        "be compared. What is not built is built in full. Results go to results/smoke",
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
    """Return where records and leaderboard are kept; smoke runs are kept apart.

    Raises:
        HarnessError: `results` names a file, or a folder of records instead of the one above it.
    """
    from harness.store.cache import expand_home

    if not results:
        return root / "results" / ("smoke" if smoke else "")
    folder = expand_home(results)
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not existing.is_dir():
        raise HarnessError(f"{existing}: a file, not a folder. Name a folder for the results.")
    for above, records in ((folder.parent, "*/*/*/*.json"), (folder.parent.parent, "*/*/*.json")):
        if folder.relative_to(above).parts[:1] == ("records",) and any(folder.glob(records)):
            raise HarnessError(f"{folder}: a folder of records. Name the one above it: {above}")
    return folder
