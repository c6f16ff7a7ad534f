"""`wattbench bench`: build, run and board in one."""

from harness.cli.build import build_systems
from harness.cli.console import Console
from harness.cli.options import SessionOptions, results_folder
from harness.cli.run import run_session
from harness.submissions.project import find_project


def bench(options: SessionOptions, console: Console) -> None:
    """Build, measure and draw the leaderboard (`tox -e bench`).

    Without --system the suite's default systems are taken, with --ladder those of its ladder, with
    --all every system that declares one of its tasks; the reference, the unpadded reference and
    `null` are always among them. Operating points are measured with --all, and of the systems that
    --system names. The configuration fixes cores, threads, memory, price and watts;
    one that does not fit this machine is refused.

    Building takes minutes the first time and nothing after that. Measuring takes about a minute a
    block for the default systems on two cores. Keep the machine quiet meanwhile. The rows of
    earlier sessions stay on the leaderboard.
    """
    bench_session(options, console)


def bench_session(options: SessionOptions, console: Console) -> None:
    """Build and measure one session, then draw the leaderboard."""
    from harness.cli.resolve import make_session_plan, restore_options
    from harness.telemetry.configuration import choose_configuration

    root = find_project()
    options = restore_options(options, root)
    if not options.model:  # the systems of a model are built by `run`
        results = results_folder(root, options.results, options.smoke)
        plan, _ = make_session_plan(options, root, results, options.resume)
        build_systems(plan, choose_configuration(options.configuration), console)
    run_session(options, console)
