"""What the `wattbench` command takes."""

import argparse
import importlib.metadata

from harness.cli.manual import DETAILS, EPILOG, HELP

TASK_HELP = "by its name or the path of its task.toml"


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    whole = argparse.ArgumentParser(
        prog="wattbench",
        description="Measure what a language model gives for its time, energy and cost.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    whole.add_argument(
        "--version",
        action="version",
        version=f"wattbench {importlib.metadata.version('wattbench')}",
    )
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")
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
            "--rounds", type=_positive, metavar="N", help="blocks to measure (default 5)"
        )
        made[name].add_argument(
            "--until",
            type=_percent,
            metavar="PERCENT",
            help="then go on until every interval is this narrow, as 3%%",
        )
        made[name].add_argument(
            "--minutes",
            type=_positive,
            default=60,
            metavar="N",
            help="when --until gives up (default 60)",
        )
        made[name].add_argument(
            "--scenario",
            choices=["server"],
            help="also find the highest rate of random arrivals that holds the latency bound",
        )
        made[name].add_argument(
            "--resume", default="", metavar="SESSION", help="go on with an interrupted session"
        )
        made[name].add_argument(
            "--audit", action="store_true", help="then audit each submission that was measured"
        )
        _add_isolation(made[name])
        _add_smoke(made[name])
        _add_seeds(made[name])
    _add_seeds(made["build"])
    made["build"].set_defaults(resume="")
    made["run"].add_argument("--explain", action="store_true", help="say it, and measure nothing")
    made["ladder"].add_argument("--suite", default="quick", help="whose ladder (default quick)")
    made["tasks"].add_argument("task", nargs="*", metavar="TASK", help=f"only these, {TASK_HELP}")
    made["steps"].add_argument("step", nargs="?", default="", metavar="STEP", help="only this one")
    for name in RESULTS:
        made[name].add_argument(
            "--results",
            default="",
            metavar="FOLDER",
            help="where records and board lie (default: results/ of the project)",
        )
    _add_report(made["report"])
    _add_compare(made["compare"])
    _add_measured_again(made)
    _add_export(made["export"])
    made["predict"].add_argument("system", metavar="SYSTEM", help="the system that answers")
    made["predict"].add_argument("--task", required=True, metavar="NAME", help=TASK_HELP)
    made["predict"].add_argument(
        "--split", choices=["test", "validation"], default="test", help="which (default test)"
    )
    _add_place(made["predict"])
    made["predict"].add_argument(
        "--out",
        default=".",
        metavar="PATH",
        help="file (a name with a suffix), or folder (default .)",
    )
    made["check"].add_argument("folder", metavar="FOLDER", help="the submission's folder")
    made["new"].add_argument("name", metavar="NAME", help="of the submission and its folder")
    kinds = made["new"].add_mutually_exclusive_group()
    kinds.add_argument("--from", dest="origin", default="", metavar="SYSTEM", help="copy this one")
    for own, what in (("module", "python"), ("command", "command")):
        text = "a class of one's own" if own == "module" else "a program of one's own"
        kinds.add_argument(
            f"--{what}", dest="own", action="store_const", const=own, default="", help=text
        )
    made["audit"].add_argument("system", metavar="SUBMISSION", help="its name, or its folder")
    made["audit"].add_argument(
        "--task", action="append", metavar="NAME", help=f"only this one, {TASK_HELP}"
    )
    _add_place(made["audit"])
    _add_isolation(made["audit"])
    _add_smoke(made["audit"])
    made["audit"].set_defaults(rounds=None, until=None, minutes=60, scenario=None, seeds=1)
    return whole


RESULTS = (
    "bench",
    "run",
    "board",
    "ladder",
    "report",
    "compare",
    "waterfall",
    "reproduce",
    "export",
)


def _add_report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("report", choices=["energy"], help="which report")
    parser.add_argument(
        "--format", choices=["md", "csv", "latex"], default="md", help="(default md)"
    )
    parser.add_argument("--task", default="", metavar="NAME", help="only this task")
    parser.add_argument("--session", default="", help="only this session (default: what is shown)")


def _add_compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("one", metavar="A", help="a system, or the session before")
    parser.add_argument("other", metavar="B", help="another system, or the session after")
    parser.add_argument("--task", default="", metavar="NAME", help="only on this task")
    parser.add_argument(
        "--tolerance",
        type=_percent,
        default=0.1,
        metavar="PERCENT",
        help="changes of time and memory that do not count, however certain (default 10%%)",
    )


def _add_measured_again(made: dict[str, argparse.ArgumentParser]) -> None:
    """`waterfall`, `reproduce` and `verify`, which build and measure on their own."""
    made["waterfall"].add_argument("system", metavar="SUBMISSION", help="its name")
    made["waterfall"].add_argument(
        "--retrain", action="store_true", help="also leave out each step that trains (slow)"
    )
    made["reproduce"].add_argument("name", metavar="NAME", help="as fastformers-table3")
    made["reproduce"].add_argument(
        "--again", action="store_true", help="measure, even where a session has it all"
    )
    made["verify"].add_argument(
        "published", nargs="?", default="results", help="the published results (default results)"
    )
    made["verify"].add_argument(
        "--system", action="append", metavar="NAME", help="only this one; may be repeated"
    )
    made["verify"].add_argument(
        "--against", default="", metavar="FOLDER", help="results that were measured already"
    )
    made["verify"].add_argument(
        "--out",
        dest="results",
        default="verified",
        metavar="FOLDER",
        help="where new records and the verdicts go (default ./verified)",
    )
    for name, task in (("waterfall", "sentiment"), ("reproduce", "boolq"), ("verify", "sentiment")):
        made[name].add_argument(
            "--task", default=task, metavar="NAME", help=f"{TASK_HELP} (default {task})"
        )
        made[name].add_argument(
            "--rounds", type=_positive, metavar="N", help="blocks to measure (default 5)"
        )
        _add_place(made[name])
        made[name].set_defaults(
            suite="quick", model="", model_name="", ladder=False, all=False, resume=""
        )
        made[name].set_defaults(explain=False)
        made[name].set_defaults(
            until=None,
            minutes=60,
            scenario=None,
            seeds=1,
            isolation="auto",
            audit=False,
            explain=False,
        )
        if name == "verify":
            made[name].set_defaults(smoke=False)
        else:
            _add_smoke(made[name])


def _add_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("system", metavar="SYSTEM", help="a built one")
    parser.add_argument("folder", metavar="FOLDER", help="to write; must not exist yet")
    parser.add_argument(
        "--task", default="sentiment", metavar="NAME", help=f"{TASK_HELP} (default sentiment)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of its training (default 0)")


def _add_isolation(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--isolation",
        type=_isolation,
        choices=["auto", "sandbox", "process"],
        default="auto",
        help="auto: each worker in a bubblewrap sandbox (no network, only its own files) where "
        "that works; sandbox: fail where it does not; process: no sandbox (default auto)",
    )


def _isolation(text: str) -> str:
    """`walls` is the old spelling of `sandbox`."""
    return "sandbox" if text == "walls" else text


def _add_smoke(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--smoke",
        action="store_true",
        help="short windows and probes, and one block, to see that everything works and compare "
        "nothing; what is written goes to results/smoke",
    )


def _add_seeds(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--seeds",
        type=_positive,
        default=1,
        metavar="N",
        help="training seeds of each system that is trained, from --seed on (default 1)",
    )


def _add_choice(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--suite", default="quick", help="tasks and references (default quick)")
    parser.add_argument(
        "--task",
        action="append",
        metavar="NAME",
        help=f"only this task, {TASK_HELP}; may be repeated",
    )
    parser.add_argument(
        "--model",
        default="",
        metavar="MODEL",
        help="a fine-tuned checkpoint, in a folder or ORGANISATION/NAME[@REVISION] of the hub: "
        "measure it padded, unpadded and in int8, and train nothing",
    )
    parser.add_argument(
        "--name",
        dest="model_name",
        default="",
        metavar="NAME",
        help="of the model in tables (default: its folder's; where the results have another model "
        "of that name, with a digest of its files)",
    )
    parser.add_argument(
        "--system",
        action="append",
        metavar="NAME",
        help="this system (its name, or its folder) and the references; may be repeated "
        "(default: the suite's)",
    )
    parser.add_argument("--ladder", action="store_true", help="the suite's ladder")
    parser.add_argument("--all", action="store_true", help="every system there is")
    _add_place(parser)


def _add_place(parser: argparse.ArgumentParser) -> None:
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


def _percent(text: str) -> float:
    """A share, from `3%`."""
    try:
        value = float(text.removesuffix("%")) / 100
    except ValueError:
        value = 0.0
    if not text.endswith("%") or not 0.001 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a percentage, 0.1% .. 99%")
    return value
