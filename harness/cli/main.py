"""The `wattbench` command: one thin function a command, no logic."""

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from harness.cli import selection, shown, usage
from harness.errors import BuildError, HarnessError
from harness.submissions.manifest import System, find_systems
from harness.tasks.registry import get_task
from harness.tasks.task import Task


class Console:
    """Progress: on a terminal a line that is rewritten, elsewhere a plain line now and then."""

    def __init__(self) -> None:
        self.live, self.printed, self.open = sys.stdout.isatty(), 0.0, False

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
        elif not passing or time.monotonic() - self.printed > 20:
            self.printed = time.monotonic()
            print(line, flush=True)

    def close(self) -> None:
        """End an open line."""
        if self.open:
            print(flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns: the exit status; 1 where a comparison or a verification went badly, 2 for a fault of
    the user's, 130 after Ctrl-C.
    """
    options = usage.parser().parse_args(arguments)
    console = Console()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return COMMANDS[options.command](options, console) or 0
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


def bench(options: argparse.Namespace, console: Console) -> None:
    """Build, run and board in one."""
    if not options.model:  # else `run` builds
        build(options, console)
    options.explain = False
    run(options, console)


def build(options: argparse.Namespace, console: Console) -> None:
    """Run the recipes of the chosen systems."""
    root = selection.project()
    selection.take_up(options, root)
    systems, tasks, _ = selection.systems(options, root)
    _build(systems, tasks, options, root, console)


def _build(
    systems: Sequence[System],
    tasks: Sequence[Task],
    options: argparse.Namespace,
    root: Path,
    console: Console,
) -> list[System]:
    """Build what is missing. Returns: the systems that there are then: the quantized form of
    somebody's own model is left out where its architecture cannot be exported.
    """
    from harness.build import build as build_systems
    from harness.submissions.checkpoint import is_optional
    from harness.submissions.plan import is_trained
    from harness.telemetry.configuration import choose_configuration

    configuration = choose_configuration(options.configuration)
    started = time.monotonic()
    where = configuration, root, options.seed, console
    needed = [each for each in systems if not is_optional(each.folder)]
    build_systems(needed, tasks, *where)
    built = list(systems)
    for system in systems:
        if system not in needed:
            try:
                build_systems([system], tasks, *where)
            except BuildError as error:
                console(f"left out: {error}")
                built.remove(system)
    for seed in range(options.seed + 1, options.seed + options.seeds):
        for each in tasks:
            trained = [
                one for one in built if one.declares_task(each) and is_trained(one, each, root)
            ]
            build_systems(trained, [each], configuration, root, seed, console)
    console(
        f"built: {len(built)} systems for {', '.join(each.name for each in tasks)} "
        f"({time.monotonic() - started:.0f} s)"
    )
    return built


def run(options: argparse.Namespace, console: Console) -> None:
    """Measure one session, then draw the board."""
    from harness.runner.session import measure
    from harness.telemetry.configuration import choose_configuration

    root = selection.project()
    selection.take_up(options, root)
    configuration = choose_configuration(options.configuration)
    systems, tasks, suite = selection.systems(options, root)
    results = selection.results(options, root)
    config = selection.run_config(options)
    if options.explain:
        from harness.runner.explain import explain

        console(explain(systems, tasks, suite, configuration, root, results, config))
        return
    if options.model:  # nothing of it is trained, so one command does it all
        systems = _build(systems, tasks, options, root, console)
    started = time.monotonic()
    session = measure(
        systems,
        tasks,
        suite,
        configuration,
        root,
        results,
        config,
        options.resume,
        options.seed,
        console,
    )
    console(f"measured: session {session} ({time.monotonic() - started:.0f} s)")
    if options.audit:
        from harness.audit.session import audit_session

        where = configuration, root, options.seed, config.timing
        audit_session(systems, tasks, *where, results / "records" / session, console)
    shown.board(options, console)


def predict(options: argparse.Namespace, console: Console) -> None:
    """A file for the task's official server."""
    from harness.runner.predict import predict as answer
    from harness.telemetry.configuration import choose_configuration

    root = selection.project()
    system = selection.one_system(options.system, root)
    where = choose_configuration(options.configuration), root, options.seed
    path = answer(system, get_task(options.task), options.split, *where, options.out, console)
    console(f"written: {path}")


def new(options: argparse.Namespace, console: Console) -> None:
    """A folder to fill in."""
    from harness.submissions.scaffold import new as write

    folder = write(options.name, selection.project(), options.origin, options.own)
    place = os.path.relpath(folder)
    console(f"written: {place}. Fill in its README.md, then: wattbench check {place}")


def audit(options: argparse.Namespace, console: Console) -> int:
    """One submission, as it was built. Returns: 1 where a probe fails."""
    from harness.audit.session import audit_here
    from harness.telemetry.configuration import choose_configuration

    root = selection.project()
    system = selection.one_system(options.system, root)
    names = options.task or (["sentiment"] if "any" in system.tasks else system.tasks)
    tasks = selection.tasks(names)
    where = (
        choose_configuration(options.configuration),
        root,
        options.seed,
        selection.run_config(options),
    )
    found = [audit_here(system, each, *where, console) for each in tasks]
    return int(any(each.passed is False for one in found for each in one))


def export(options: argparse.Namespace, console: Console) -> None:
    """A built system as a folder that runs without the project."""
    from harness.export import export as write

    root = selection.project()
    system, task = selection.one_system(options.system, root), get_task(options.task)
    results = selection.results(options, root)
    write(system, task, options.seed, root, results, Path(options.folder))
    console(f"written: {options.folder}. Try: cd {options.folder} && python predict.py TEXT")


def reproduce(options: argparse.Namespace, console: Console) -> None:
    """A published table beside our rows; measured where no session holds them all."""
    from harness.reports.reproduction import PublishedTable, render_reproduction
    from harness.store.cache import write_atomically

    root = selection.project()
    published, task = PublishedTable.read(root, options.name), get_task(options.task)
    results = selection.results(options, root)
    there = shown.sections_of(results / "records", needs=published.systems)
    text = "" if options.again else render_reproduction(there, published, task.name)
    if not text:
        given: dict[str, Any] = {"task": [options.task], "system": published.systems}
        given["suite"] = selection.suite_of(task.name)
        bench(argparse.Namespace(**vars(options) | given), console)
        text = render_reproduction(shown.sections_of(results / "records"), published, task.name)
    path = results / f"{options.name}-{task.name}.md"
    write_atomically(path, text.encode())
    console(f"{text}\nwritten: {path}")


def waterfall(options: argparse.Namespace, console: Console) -> None:
    """One system with each of its choices left out in turn."""
    from harness.build import build as build_systems
    from harness.reports.ablation import render_ablation as table
    from harness.runner.session import measure
    from harness.store.cache import write_atomically
    from harness.submissions.ablation import variants
    from harness.tasks.registry import get_suite
    from harness.telemetry.configuration import choose_configuration

    root = selection.project()
    system, task = selection.one_system(options.system, root), get_task(options.task)
    known = get_suite(selection.suite_of(task.name))
    configuration = choose_configuration(options.configuration)
    systems = [system, *variants(system, root, options.retrain)]
    systems += [
        selection.one_system(name, root)
        for name in (known.reference, known.unpadded_reference, "null")
        if name != system.name
    ]
    build_systems(systems, [task], configuration, root, options.seed, console)
    results = selection.results(options, root) / "waterfall"
    where = configuration, root, results, selection.run_config(options), "", options.seed
    session = measure(systems, [task], known, *where, console)
    text = table(results / "records" / session, system.name)
    path = results / f"{system.name}-{task.name}.md"
    write_atomically(path, text.encode())
    console(f"{text}\nwritten: {path}")


def verify(options: argparse.Namespace, console: Console) -> int:
    """Published records against a session of this machine. Returns: 1 where a claim fails."""
    from harness.reports.verification import find_published_systems, render_verification
    from harness.store.cache import write_atomically

    records, out = Path(options.published) / "records", Path(options.results)
    against = Path(options.against or out) / "records"
    for folder in (records, *((against,) if options.against else ())):
        if not folder.is_dir():
            raise HarnessError(f"{folder}: there is no such folder. Name one that holds records/.")
    if options.against and against.resolve() == records.resolve():
        raise HarnessError(f"{records}: both are the same folder. Name another with --against.")
    theirs = shown.sections_of(records)
    root = selection.project() if not options.against else None
    known = list(find_systems(root)) if root else None
    options.suite, systems = find_published_systems(theirs, options.task, options.system, known)
    if not options.against:
        given = {"task": [options.task], "system": systems}
        bench(argparse.Namespace(**vars(options) | given), console)
    ours = shown.sections_of(against)
    text, failed = render_verification(theirs, ours, options.task, options.system)
    write_atomically(out / "verification.md", text.encode())
    console(f"{text}\nwritten: {out / 'verification.md'}")
    return int(failed)


COMMANDS: dict[str, Callable[[argparse.Namespace, Console], int | None]] = {
    "bench": bench,
    "build": build,
    "run": run,
    "board": shown.board,
    "report": shown.report,
    "compare": shown.compare,
    "waterfall": waterfall,
    "reproduce": reproduce,
    "verify": verify,
    "export": export,
    "ladder": shown.show_ladder,
    "steps": shown.show_steps,
    "doctor": shown.show_doctor,
    "tasks": shown.show_tasks,
    "systems": shown.show_systems,
    "new": new,
    "check": shown.check,
    "audit": audit,
    "predict": predict,
}
