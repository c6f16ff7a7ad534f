"""The `wattbench` command: one thin function a command, no logic."""

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from harness import record, usage
from harness.adopted import declare
from harness.declared import nearest
from harness.errors import HarnessError
from harness.manifest import System, find_systems, read_system
from harness.tasks.task import Suite, Task, suite, suites, task, tasks


class Console:
    """Progress: on a terminal a line that is rewritten, elsewhere a plain line now and then."""

    def __init__(self) -> None:
        self.live, self.told, self.open = sys.stdout.isatty(), 0.0, False

    def __call__(self, line: str) -> None:
        """Say a line; an indented one with a `%` is passing news and may be rewritten or left
        out.
        """
        passing = line.startswith("  ") and "%" in line
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
    options = usage.parser().parse_args(arguments)
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
    if not options.model:  # else `run` builds
        build(options, console)
    options.explain = False
    run(options, console)


def build(options: argparse.Namespace, console: Console) -> None:
    """Run the recipes of what is asked for."""
    from harness.build import build as build_systems
    from harness.configuration import choose

    root = _root()
    _take_up(options, root)
    configuration = choose(options.configuration)
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
    from harness.measure.run import Effort, measure

    root = _root()
    _take_up(options, root)
    configuration = choose(options.configuration)
    systems, asked, chosen = _chosen(options, root)
    results = _results(options, root)
    effort = Effort(options.rounds, options.until, options.minutes, options.scenario == "server")
    if options.explain:
        from harness.measure.explain import explain

        console(explain(systems, asked, chosen, configuration, results, effort))
        return
    if options.model:  # nothing of it is trained, so one command does it all
        build(options, console)
    started = time.monotonic()
    session = measure(
        systems,
        asked,
        chosen,
        configuration,
        root,
        results,
        effort,
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


def show_ladder(options: argparse.Namespace, console: Console) -> None:
    """The rungs of one session, for the terminal."""
    from harness.board.ladder import ladder
    from harness.board.ranking import load_rows

    rows, _ = load_rows(_results(options, _root()) / "records")
    console(ladder(rows, suite(options.suite), "simple"))


def show_steps(options: argparse.Namespace, console: Console) -> None:
    """Each step's dataclass is its documentation."""
    from harness.optimize.step import MODULES, documented, step

    for name in [options.step] if options.step else MODULES:
        console(documented(step(name)))


def show_doctor(options: argparse.Namespace, console: Console) -> None:
    """What the machine is like, as a ruler."""
    from harness.measure.doctor import examine

    for finding in examine():
        console(finding)


def predict(options: argparse.Namespace, console: Console) -> None:
    """A file for the task's official server."""
    from harness.configuration import choose
    from harness.measure.predict import predict as answer

    root = _root()
    known = find_systems(root)
    system = read_system(_known(options.system, known, root), root)
    where = choose(options.configuration), root, options.seed
    path = answer(system, task(options.task), options.split, *where, Path(options.out), console)
    console(f"written: {path}")


def show_tasks(options: argparse.Namespace, console: Console) -> None:
    """A table of tasks, and the suites."""
    from tabulate import tabulate

    lines = [_described(each) for each in map(task, options.task or tasks())]
    console(tabulate(lines, headers="keys", tablefmt="simple"))
    for one in () if options.task else suites().values():
        console(
            f"\nsuite {one.name}: tasks {', '.join(one.tasks)}; reference {one.reference}; systems "
            f"{', '.join(one.systems)}"
        )


def _described(each: Task) -> dict[str, object]:
    from harness.tasks.metrics import METRICS

    sizes, majority, hand = "-", "-", "no: fetched when first used"
    if each.archive and each.name != "boolq":
        hand = "no: set WATTBENCH_DATA to SuperGLUE's folder, or let the hub be reached"
    if each.at_hand():
        splits = ("validation",) if each.learns else ("train", "selection", "validation")
        counts = [len(each.examples(split)) for split in splits]
        sizes, hand = " / ".join(map(str, counts)), "yes"
        whole = (sum(each.sizes[:1]), each.sizes[1])
        if any(each.sizes) and (sum(counts[:-1]), counts[-1]) != whole:
            hand = f"a part: {sum(counts)} of {sum(whole)} examples"
        truths = [one.truth for one in each.examples("validation")]
        majority = f"{METRICS[each.metric].majority(truths):.4f}"
    return {
        "task": each.name,
        "train / selection / validation": sizes,
        "metric": each.metric,
        "majority": majority,
        "max length": each.max_length,
        "licence": each.licence,
        "source": each.source,
        "at hand": hand,
    }


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
            if each.learns or not each.at_hand():
                continue
            steps = plan(system, each, 0, root) if system.answers_task(each) else []
            if not steps or artifact_dir(steps[-1].key).is_dir():
                built.append(each.name)
        origin = system.teacher or system.pretrained or " + ".join(system.members)
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
    names = list(options.system or (chosen.ladder if options.ladder else chosen.systems))
    names = list(known) if options.all else names
    if options.model:
        own = declare(options.model, known)
        reference, unpadded, *_ = own
        chosen = replace(chosen, reference=reference, unpadded_reference=unpadded)
        names = [*own, *(options.system or ()), *(known if options.all else ())]
        known = {**known, **own}
    for name in (chosen.reference, chosen.unpadded_reference, "null"):
        if name not in names:
            names.append(name)
    systems = [read_system(_known(name, known, root), root) for name in dict.fromkeys(names)]
    return (
        [each for each in systems if any(each.answers_task(one) for one in asked)],
        asked,
        chosen,
    )


def _known(name: str, known: dict[str, Path], root: Path) -> Path:
    if name not in known:
        raise HarnessError(f"system {name!r} does not exist in {root}. {nearest(name, known)}")
    return known[name]


def _take_up(options: argparse.Namespace, root: Path) -> None:
    """Where a session is taken up, it says which systems, tasks and scenarios it is of."""
    if not getattr(options, "resume", ""):
        return
    folder = _results(options, root) / "records" / options.resume
    found = [path.relative_to(folder).parts for path in folder.glob("*/*/*.json")]
    if not found:
        raise HarnessError(f"{folder}: no session to take up. Leave --resume out for a new one.")
    it = record.read(folder / Path(*found[0]))
    given = {task(each).name: each for each in options.task or ()}  # paths of one's own
    options.task = [given.get(name, name) for name in sorted({each[0] for each in found})]
    options.system = sorted({each[2].removesuffix(".json").partition("@")[0] for each in found})
    options.suite, options.configuration = it.suite, it.configuration["name"]
    if any(each[1] == "server" for each in found):
        options.scenario = "server"


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
    "ladder": show_ladder,
    "steps": show_steps,
    "doctor": show_doctor,
    "tasks": show_tasks,
    "systems": show_systems,
    "check": check,
    "predict": predict,
}
