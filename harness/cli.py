"""The `wattbench` command: one thin function a command, no logic."""

import argparse
import importlib.metadata
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from harness.errors import HarnessError
from harness.manifest import System, find_systems, read_system
from harness.tasks.task import Suite, Task, nearest, suite, suites, task, tasks

HELP = {
    "bench": "Build what is missing, measure, and draw the leaderboard: what `tox -e bench` runs.",
    "build": "Build systems: run their recipes, skipping what the store already holds.",
    "run": "Measure built systems in one session and write its records.",
    "board": "Draw tables and pictures from the records in RESULTS/records.",
    "tasks": "List the tasks: sizes, metric, majority score, licence, source, whether at hand.",
    "systems": "List baselines and submissions: division, recipe, engine, whether they are built.",
    "check": "Check a submission folder, and say all faults of its manifest at once.",
}

CHOICE = """
Without --system the suite's default systems are taken, with --all every system that declares one of
its tasks; the reference, the unpadded reference and `null` are always among them. The configuration
fixes cores, threads, memory, price and watts; one that does not fit this machine is refused.
"""

DETAILS = {
    "bench": CHOICE
    + """
Building takes minutes the first time and nothing after that. Measuring takes about a minute a block
for the default systems on two cores, and another minute in the first block, whose offline pass
covers the whole set. Keep the machine quiet meanwhile.
""",
    "build": CHOICE
    + """
Every step's result is kept under a key that hashes all it is made of, so a change of a manifest
builds only what depends on it. An interrupted build goes on with the first step that is missing.
""",
    "run": CHOICE
    + """
Each block plays one round of every system in shuffled order, each in a fresh worker process. Whole
blocks are written to RESULTS/records; --resume goes on with a session until it has --rounds blocks.
""",
    "board": """
Writes README.md, leaderboard.csv, leaderboard.json and pareto.svg. A record that cannot be read is
named and left out. Of several sessions of one machine and configuration the latest is shown.
""",
    "tasks": "",
    "systems": "",
    "check": """
Faults are said with file, place and remedy. Steps are followed from the model on, so that a step
that cannot take what it gets, or more heads than the model has, is found before hours are spent.
""",
}

EPILOG = """
examples:
  wattbench bench                                   the default systems of the suite `quick`
  wattbench bench --system onnx-int8 --rounds 2     one system and the references, quickly
  wattbench run --configuration cpu-1               the same systems on one core
  wattbench run --resume SESSION --rounds 10        go on with a session

Data, weights and built artifacts are kept in WATTBENCH_CACHE (default ~/.cache/wattbench).
WATTBENCH_DATA may name a folder with data to use instead of downloading. Faults are said in one
message; the exit status is 2 then, and 130 after Ctrl-C.
"""


class Console:
    """Progress: on a terminal a line that is rewritten, elsewhere a plain line now and then."""

    def __init__(self) -> None:
        self.live, self.told, self.open = sys.stdout.isatty(), 0.0, False

    def __call__(self, line: str) -> None:
        """Say a line; one with a `%` is passing news and may be rewritten or left out."""
        passing = "%" in line
        if self.live:
            columns = os.get_terminal_size().columns - 1
            print(
                f"\r\x1b[K{line[:columns] if passing else line}",
                end="" if passing else "\n",
                flush=True,
            )
            self.open = passing
        elif not passing or time.monotonic() - self.told > 20:
            self.told = time.monotonic()
            print(line, flush=True)

    def close(self) -> None:
        """End an open line."""
        if self.open:
            print(flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Returns: the exit status; 2 for a fault of the user's, 130 after Ctrl-C."""
    parser = _parser()
    options = parser.parse_args(arguments)
    console = Console()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        COMMANDS[options.command](options, console)
    except HarnessError as error:
        console.close()
        print(f"wattbench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        console.close()
        print(
            "wattbench: stopped. What is built is kept; the same command goes on from there.",
            file=sys.stderr,
        )
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return 0


def bench(options: argparse.Namespace, console: Console) -> None:
    """Build, run and board in one."""
    build(options, console)
    run(options, console)


def build(options: argparse.Namespace, console: Console) -> None:
    """Run the recipes of what is asked for."""
    from harness.build import build as build_systems
    from harness.configuration import choose

    root, configuration = _root(), choose(options.configuration)
    systems, asked, _ = _chosen(options, root)
    started = time.monotonic()
    build_systems(systems, asked, configuration, root, options.seed, console)
    console(
        f"built: {len(systems)} systems for {', '.join(each.name for each in asked)} "
        f"({time.monotonic() - started:.0f} s)"
    )


def run(options: argparse.Namespace, console: Console) -> None:
    """Measure one session, then draw the board."""
    from harness.configuration import choose
    from harness.measure.run import measure

    root, configuration = _root(), choose(options.configuration)
    systems, asked, chosen = _chosen(options, root)
    results = _results(options, root)
    started = time.monotonic()
    session = measure(
        systems,
        asked,
        chosen,
        configuration,
        root,
        results,
        options.rounds,
        options.resume,
        options.seed,
        console,
    )
    console(f"measured: session {session} ({time.monotonic() - started:.0f} s)")
    board(options, console)


def board(options: argparse.Namespace, console: Console) -> None:
    """Render everything from records."""
    from harness.board.ranking import load_rows
    from harness.board.tables import summary, write_board

    results = _results(options, _root())
    faults = write_board(results)
    for fault in faults:
        print(f"wattbench: left out: {fault}", file=sys.stderr)
    console(summary(load_rows(results / "records")[0]))
    console(f"drawn: {results / 'README.md'}, leaderboard.csv, leaderboard.json, pareto.svg")


def show_tasks(options: argparse.Namespace, console: Console) -> None:
    """A table of tasks, and the suites."""
    from tabulate import tabulate

    from harness.tasks.metrics import majority_share

    lines = []
    for each in tasks().values():
        hand = each.at_hand()
        sizes = (
            [len(each.examples(split)) for split in ("train", "selection", "validation")]
            if hand
            else []
        )
        majority = (
            f"{majority_share([one.label for one in each.examples('validation')]):.4f}"
            if hand
            else "-"
        )
        lines.append(
            {
                "task": each.name,
                "train / selection / validation": " / ".join(map(str, sizes)) or "-",
                "metric": each.metric,
                "majority": majority,
                "max length": each.max_length,
                "licence": each.licence,
                "source": each.source,
                "at hand": "yes" if hand else "no: fetched when first used",
            }
        )
    console(tabulate(lines, headers="keys", tablefmt="simple"))
    for one in suites().values():
        console(
            f"\nsuite {one.name}: tasks {', '.join(one.tasks)}; reference {one.reference}; systems "
            f"{', '.join(one.systems)}"
        )


def show_systems(options: argparse.Namespace, console: Console) -> None:
    """A table of systems."""
    from tabulate import tabulate

    from harness.build import plan
    from harness.store import artifact_dir

    root = _root()
    lines = []
    for name, folder in find_systems(root).items():
        system = read_system(folder, root)
        built = []
        for each in tasks().values():
            steps = plan(system, each, 0, root) if system.answers_task(each.name) else []
            if not steps or artifact_dir(steps[-1].key).is_dir():
                built.append(each.name)
        origin = system.teacher or system.pretrained
        lines.append(
            {
                "system": name,
                "division": system.division,
                "recipe": " > ".join(
                    part for part in (origin, *(use.step.name for use in system.recipe)) if part
                )
                or "-",
                "engine": system.serve["offline"].engine,
                "built for": ", ".join(built) or "-",
                "title": system.title,
            }
        )
    console(tabulate(lines, headers="keys", tablefmt="simple"))


def check(options: argparse.Namespace, console: Console) -> None:
    """Validate one folder."""
    folder = Path(options.folder)
    if not folder.is_dir():
        raise HarnessError(
            f"{folder}: there is no such folder. Give the folder that holds submission.toml."
        )
    system = read_system(folder)
    if not (folder / "README.md").is_file() or not (folder / "README.md").read_text().strip():
        raise HarnessError(
            f"{folder / 'README.md'}: missing or empty. Say in a few words what the submission "
            "does and why."
        )
    console(
        f"{folder}: fine. {len(system.recipe)} steps, {system.shape['format'] or 'no artifact'}, "
        f"division {system.division}."
    )


def _chosen(options: argparse.Namespace, root: Path) -> tuple[list[System], list[Task], Suite]:
    """The systems, tasks and suite that the options name; the references and `null` are always
    among the systems.
    """
    chosen = suite(options.suite)
    asked = [task(name) for name in options.task or chosen.tasks]
    known = find_systems(root)
    names = list(known) if options.all else list(options.system or chosen.systems)
    for name in (chosen.reference, chosen.unpadded_reference, "null"):
        if name not in names:
            names.append(name)
    for name in names:
        if name not in known:
            raise HarnessError(f"system {name!r} does not exist in {root}. {nearest(name, known)}")
    systems = [read_system(known[name], root) for name in names]
    return (
        [each for each in systems if any(each.answers_task(one.name) for one in asked)],
        asked,
        chosen,
    )


def _root() -> Path:
    """The project's folder: the nearest one above that holds baselines/ and submissions/."""
    for folder in (Path.cwd(), *Path.cwd().parents):
        if (folder / "baselines").is_dir() and (folder / "submissions").is_dir():
            return folder
    raise HarnessError(
        f"{Path.cwd()}: no folder here or above holds baselines/ and submissions/. Change into a "
        "checkout of wattbench."
    )


def _results(options: argparse.Namespace, root: Path) -> Path:
    return Path(options.results) if options.results else root / "results"


COMMANDS = {
    "bench": bench,
    "build": build,
    "run": run,
    "board": board,
    "tasks": show_tasks,
    "systems": show_systems,
    "check": check,
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="wattbench",
        description="Measure what a language model gives for its time, energy and cost.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--version",
        action="version",
        version=f"wattbench {importlib.metadata.version('wattbench')}",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    made = {
        name: commands.add_parser(
            name,
            help=text,
            description=text,
            epilog=DETAILS[name],
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        for name, text in HELP.items()
    }
    for name in ("bench", "build", "run"):
        _add_choice(made[name])
    for name in ("bench", "run"):
        made[name].add_argument(
            "--rounds", type=_positive, default=5, metavar="N", help="blocks to measure (default 5)"
        )
        made[name].add_argument(
            "--resume", default="", metavar="SESSION", help="go on with an interrupted session"
        )
    for name in ("bench", "run", "board"):
        made[name].add_argument(
            "--results",
            default="",
            metavar="FOLDER",
            help="where records and board lie (default: results/ of the project)",
        )
    made["check"].add_argument("folder", metavar="FOLDER", help="the submission's folder")
    return parser


def _add_choice(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--suite", default="quick", help="tasks and references (default quick)")
    parser.add_argument(
        "--task",
        action="append",
        metavar="NAME",
        help="only this task of the suite; may be repeated",
    )
    parser.add_argument(
        "--system",
        action="append",
        metavar="NAME",
        help="this system and the references; may be repeated (default: the suite's)",
    )
    parser.add_argument("--all", action="store_true", help="every system there is")
    parser.add_argument(
        "--configuration",
        default="",
        metavar="NAME",
        help="cpu-1, cpu-2, ... (default: the largest that fits this machine)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of training (default 0)")


def _positive(text: str) -> int:
    value = int(text) if text.isdecimal() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return value
