"""The `wattbench` command line: all commands under one name."""

import importlib.metadata
import signal
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from harness.cli import (
    ablation,
    add,
    audit,
    bench,
    board,
    build,
    cache,
    check,
    compare,
    doctor,
    export,
    fleet,
    ladder,
    new,
    pack,
    predict,
    report,
    reproduce,
    run,
    search,
    steps,
    systems,
    tasks,
    verify,
)
from harness.cli.command import Action, command
from harness.cli.streams import OutputError, flush_stdout, prepare_streams, report_write_error

EPILOG = """
\b
Examples:
  wattbench bench                                   the default systems of the suite `quick`
  wattbench bench --system onnx-int8 --rounds 2     one system and the references, quickly
  wattbench run --configuration cpu-1               the same systems on one core
  wattbench run --resume SESSION --rounds 10        continue a session
  wattbench run --until 3% --minutes 30             until intervals are narrow
  wattbench run --scenario server --explain         what that would measure, and why
  wattbench run --model ./my-model --task task.toml a custom model on custom data
  wattbench run --seeds 3                           with three training seeds each
  wattbench compare fastformers static              which one is better, and for whom
  wattbench search --task ./task.toml --budget 60m  the fastest model for custom data
  wattbench export fastformers ./fastformers        to answer elsewhere
  wattbench predict minilm-l6 --task rte            answers to the test split, for the server
  wattbench pack --configuration cpu-8              to measure on a machine without a network

Data, weights and built artifacts are kept in WATTBENCH_CACHE (default ~/.cache/wattbench).
WATTBENCH_DATA may name a folder with data to use instead of downloading: SuperGLUE's archive,
unpacked. WATTBENCH_STORE may name a store that machines share. What the user can fix is one
message and exit status 2; Ctrl-C ends with 130.
"""

app = typer.Typer(
    name="wattbench",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    context_settings={"max_content_width": 100},
    rich_markup_mode=None,  # plain text, on any terminal
    pretty_exceptions_enable=False,
)

ACTIONS: dict[str, Action] = {
    "bench": bench.bench,
    "build": build.build,
    "run": run.run,
    "board": board.board,
    "report": report.report,
    "compare": compare.compare,
    "ablation": ablation.ablation,
    "search": search.search,
    "reproduce": reproduce.reproduce,
    "verify": verify.verify,
    "export": export.export,
    "fleet": fleet.fleet,
    "pack": pack.pack,
    "add": add.add,
    "ladder": ladder.ladder,
    "steps": steps.steps,
    "doctor": doctor.doctor,
    "cache": cache.cache,
    "tasks": tasks.tasks,
    "systems": systems.systems,
    "new": new.new,
    "check": check.check,
    "audit": audit.audit,
    "predict": predict.predict,
}
for _name, _action in ACTIONS.items():
    app.command(_name)(command(_action))
app.command("waterfall", hidden=True)(command(ablation.ablation))  # the old name


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"wattbench {importlib.metadata.version('wattbench')}")
        raise typer.Exit


@app.callback()
def wattbench(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="print the version"),
    ] = False,
) -> None:
    """Measure what a language model gives for its time, energy and cost."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: without the name of the program (default: those of the process).

    Returns:
        The exit status: 0; 1 where a comparison, verification, audit or job of a fleet went badly;
        2 where the user can fix what went wrong; 130 after Ctrl-C.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    prepare_streams()
    status = 0
    try:
        app(sys.argv[1:] if arguments is None else list(arguments), prog_name="wattbench")
    except SystemExit as end:
        status = int(end.code or 0)
    except OutputError as error:  # of the help text, or of the version
        return report_write_error(error)
    return flush_stdout() or status
