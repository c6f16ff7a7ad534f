"""What the `wattbench` command takes, and what it says of itself."""

import argparse
import importlib.metadata

HELP = {
    "bench": "Build what is missing, measure, and draw the leaderboard: what `tox -e bench` runs.",
    "build": "Build systems: run their recipes, skipping what the store already holds.",
    "run": "Measure built systems in one session and write its records.",
    "board": "Draw tables and pictures from the records in RESULTS/records.",
    "report": "Print the energy report of a session, for an organiser or a paper.",
    "compare": "Compare two systems, or two sessions before and after a change.",
    "waterfall": "Measure a submission with each of its choices left out in turn.",
    "reproduce": "Set the suite's ladder beside a published table.",
    "verify": "Measure published records again on this machine, and say which claims hold.",
    "export": "Write a built system as a folder that answers without the project.",
    "ladder": "Print what each rung of the suite's ladder adds, from the records of one session.",
    "steps": "List the steps that a recipe may have, with their parameters.",
    "doctor": "Say what makes this machine a bad ruler, and how to mend it.",
    "tasks": "List the tasks: sizes, metric, majority score, licence, source, whether at hand.",
    "systems": "List baselines and submissions: division, recipe, engine, whether they are built.",
    "new": "Write the folder of a new submission, to be filled in.",
    "check": "Check a submission folder, say all its faults at once, and how long it will build.",
    "audit": "Ask a built submission in ways that show caches, memorised answers and the like.",
    "predict": "Write a system's answers to a split, as the task's official server takes them.",
}

CHOICE = """
Without --system the suite's default systems are taken, with --ladder those of its ladder, with
--all every system that declares one of its tasks; the reference, the unpadded reference and `null`
are always among them. The configuration fixes cores, threads, memory, price and watts; one that
does not fit this machine is refused.
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
blocks are written to RESULTS/records; --resume goes on with a session, its systems and scenarios,
until it has --rounds blocks.
--until 3% goes on until the interval of every offline speed-up is within 3% of its value, or the
time is up. --explain prints what would be measured, for how long and why, and measures nothing.
""",
    "board": """
Writes README.md, leaderboard.csv, leaderboard.json, index.html (the same as a page to sort and
filter), energy-report.md, energy-report.csv, pareto.svg and ladder.svg. A record that cannot be
read is named and left out. Of several sessions of one machine and configuration the latest that
holds the reference is shown.
""",
    "report": """
For each system and task: watt-hours of the whole evaluation set, loading and answering apart, mean
watts, duration, CO2 and where the figures come from; and how much less than the reference that is.
`wattbench board` writes the same to RESULTS/energy-report.md and energy-report.csv.
""",
    "compare": """
Two systems are compared within the latest session that holds both, on the same examples and block
by block. Two sessions (names, or folders RECORDS/SESSION of another results folder) are compared
system by system: speed-ups over the reference, scores on the same examples, memory. The exit status
is 1 when one became worse beyond noise: Holm's correction over all of them, 5% in all, and more
than --tolerance.
""",
    "waterfall": """
Each choice of [serve] is set back to its default in turn, padding to the task's max length among
them, and each step that only executes the model differently is left out. All variants are measured
in one session, which RESULTS/waterfall keeps apart from the board. With --retrain also the steps
that train are left out, each variant being built first.
""",
    "reproduce": """
NAME is a file of baselines/published. Where no session holds the whole ladder on that task, or with
--again, the ladder is built and measured first.
""",
    "verify": """
Builds and measures the systems of the published session again, writes the new records to --out, and
compares scores on the same examples, the floor, speed-ups and the order of the systems, claim by
claim. A speed-up holds where both values are within a third. The exit status is 1 when a
claim does not hold. --against compares with records that are there, and measures nothing.
""",
    "export": """
The folder holds the model, its tokenizer, the engine's own code, predict.py, requirements.txt with
what that needs and no more, and a model card with the figures that RESULTS has of the system.
""",
    "ladder": """
The table of the FastFormers paper (Kim & Hassan 2020, Table 3): the time for the whole set, how
much faster each rung is than the first and than the one before, its score and its price. All rungs
come from the latest session that holds them all; `bench --ladder` measures one.
""",
    "steps": "",
    "doctor": """
Looks at cores, quota, governor, SMT, swap, other processes, the hypervisor's steal and the energy
counters, and times a fixed piece of work over and over for a few seconds. Nothing is changed.
""",
    "tasks": "",
    "systems": "",
    "predict": """
The system must be built. One file for a task, named as the SuperGLUE server wants it (BoolQ.jsonl,
RTE.jsonl, ...), from the answers of the system's own worker.
""",
    "new": """
Writes submissions/NAME with a commented manifest and a README to fill in: a recipe over the
reference, a copy of another system (--from), or code of one's own, a Python class (--python) or any
program (--command), that answers at once, if badly. docs/submitting.md goes on from there.
""",
    "check": """
Faults are said with file, place and remedy. Steps are followed from the model on, so that a step
that cannot take what it gets, or more heads than the model has, is found before hours are spent.
Nothing of the submission is run. The time is an estimate from the size of what is trained.
""",
    "audit": """
After MLPerf's compliance tests: other order and batches, repeated examples, other words of the same
length, lightly changed text, timed answers against those of the accuracy pass, the artifact, and
in the closed division the weights. The exit status is 1 when a probe fails; RULES.md says what
follows.
""",
}

EPILOG = """
examples:
  wattbench bench                                   the default systems of the suite `quick`
  wattbench bench --system onnx-int8 --rounds 2     one system and the references, quickly
  wattbench run --configuration cpu-1               the same systems on one core
  wattbench run --resume SESSION --rounds 10        go on with a session
  wattbench run --until 3% --minutes 30             until intervals are narrow
  wattbench run --scenario server --explain         what that would measure, and why
  wattbench run --model ./my-model --task task.toml one's own model on one's own data
  wattbench run --seeds 3                           with three training seeds each
  wattbench compare fastformers static              which is better, and for whom
  wattbench export fastformers ./taken-home         to answer elsewhere
  wattbench predict minilm-l6 --task rte            answers to the test split, for the server

Data, weights and built artifacts are kept in WATTBENCH_CACHE (default ~/.cache/wattbench).
WATTBENCH_DATA may name a folder with data to use instead of downloading: SuperGLUE's archive,
unpacked. Faults are said in one message; the exit status is 2 then, and 130 after Ctrl-C.
"""


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
            "--rounds", type=_positive, default=5, metavar="N", help="blocks to measure (default 5)"
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
        "--out", default=".", metavar="PATH", help="file, or folder to write it into (default .)"
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
            "--rounds", type=_positive, default=5, metavar="N", help="blocks to measure (default 5)"
        )
        _add_place(made[name])
        made[name].set_defaults(
            suite="quick", model="", ladder=False, all=False, resume="", explain=False
        )
        made[name].set_defaults(
            until=None, minutes=60, scenario=None, seeds=1, isolation="auto", audit=False
        )


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
        choices=["auto", "walls", "process"],
        default="auto",
        help="walls around each worker (no network, no files but its own): the strongest that work "
        "here, required, or none (default auto)",
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
