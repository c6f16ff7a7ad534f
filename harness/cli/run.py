"""`wattbench run`."""

import time
from typing import Annotated

import typer

from harness.cli.board import draw_board
from harness.cli.build import build_systems
from harness.cli.console import Console
from harness.cli.options import SessionOptions, results_folder
from harness.submissions.project import find_project


def run(
    options: SessionOptions,
    console: Console,
    explain: Annotated[
        bool, typer.Option("--explain", help="print what would be measured, and measure nothing")
    ] = False,
) -> None:
    """Measure built systems in one session and write its records.

    Each block plays one round of every system in shuffled order, each in a fresh worker process.
    Whole blocks are written to RESULTS/records; --resume continues a session, with its systems and
    scenarios, until it has --rounds blocks.

    --until 3% continues until the interval of every offline speed-up is within 3% of its value, or
    the time is up. --explain prints what would be measured, for how long and why.

    Without --system the suite's default systems are taken, with --ladder those of its ladder, with
    --all every system that declares one of its tasks; the reference, the unpadded reference and
    `null` are always among them. Operating points are measured with --all, and of the systems that
    --system names. The configuration fixes cores, threads, memory, price and watts;
    one that does not fit this machine is refused.
    """
    run_session(options, console, explain)


def run_session(options: SessionOptions, console: Console, only_explain: bool = False) -> None:
    """Measure one session, audit it if that is wanted, and draw the leaderboard.

    Args:
        options: which systems and tasks, and how they are measured.
        console: takes lines of progress.
        only_explain: print what would be measured instead.
    """
    from harness.audit.session import audit_session
    from harness.cli.resolve import make_run_config, make_session_plan, restore_options
    from harness.runner.explain import explain
    from harness.runner.session import measure
    from harness.telemetry.configuration import choose_configuration

    root = find_project()
    options = restore_options(options, root)
    configuration = choose_configuration(options.configuration)
    results = results_folder(root, options.results, options.smoke)
    plan, suite = make_session_plan(options, root, results, options.resume)
    config = make_run_config(options)
    if only_explain:
        console(explain(plan, suite, configuration, results, config))
        return
    if options.model:  # nothing is trained, so that one command does it all
        plan = build_systems(plan, configuration, console)
    started = time.monotonic()
    session = measure(plan, suite, configuration, results, config, console)
    console(f"measured: session {session} ({time.monotonic() - started:.0f} s)")
    if options.audit:
        records = results / "records" / session
        audit_session(plan, configuration, config.timing, records, console)
    draw_board(results, console)
