"""All that can be known of a submission without hours of work: `wattbench check`.

Nothing of the submission is run.
"""

import ast
import os
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from harness.engines.registry import ENGINES
from harness.errors import HarnessError
from harness.schema import read_toml
from harness.store import untrusted
from harness.store.cache import artifact_dir
from harness.submissions.build_time import build_seconds
from harness.submissions.manifest import ANY_TASK, System, find_systems, read_system
from harness.submissions.plan import plan_build
from harness.submissions.scaffold import NAME
from harness.tasks.registry import get_task

METHODS = {"load": 4, "predict": 1}
"""What a module's class must have, and how many arguments the harness gives."""


def check(folder: Path, root: Path) -> tuple[System | None, list[str]]:
    """The system, if its manifest can be read, and all faults of the folder, a sentence each with
    file and remedy.
    """
    folder = folder if folder.name else folder.resolve()
    if not folder.is_dir():
        return None, [
            f"{folder}: there is no such folder. Give the folder that holds submission.toml."
        ]
    faults = [f"{folder}: {each}" for each in untrusted.dangerous(folder)]
    taken = find_systems(root).get(folder.resolve().name)
    if taken is not None and taken.resolve() != folder.resolve():
        faults.append(f"{folder}: {taken} has the same name. Rename the folder.")
    if not NAME.fullmatch(folder.resolve().name):
        faults.append(f"{folder}: rename it: letters, digits, '.', '_' and '-' alone.")
    readme = folder / "README.md"
    if not readme.is_file() or not readme.read_text(errors="replace").strip():
        faults.append(
            f"{readme}: missing or empty. Say in a few words what the submission does and why."
        )
    try:
        system = read_system(folder, root)
    except HarnessError as error:
        return None, [*str(error).splitlines(), *faults]
    if system.division == "baseline" and folder.resolve().parent.name != "baselines":
        faults.append(
            f"{system.manifest}: division = 'baseline' is for baselines/. Use 'open' or 'closed'."
        )
    serve = system.serve["offline"]
    if serve.module:
        faults += _module(folder / serve.module)
    if serve.command:
        faults += _command(folder, serve.command[0])
    return system, faults


def describe(system: System, root: Path) -> Iterator[str]:
    """What is good to know of a submission without faults: how long building will take, and what
    this machine lacks for it.
    """
    steps = " > ".join(step_config.step.name for step_config in system.recipe) or "no steps"
    yield f"{system.folder}: fine. Division {system.division}; {steps}."
    extra = getattr(ENGINES.get(system.serve["offline"].engine), "extra", "")
    if extra and find_spec(extra) is None:
        yield f"  it needs an extra that is not installed: pip install 'wattbench[{extra}]'"
    declared = [str(each) for each in read_toml(system.manifest)["tasks"]]
    names = ["sentiment"] if ANY_TASK in declared else declared
    for each in names:
        task = get_task(str(system.folder / each) if each.endswith(".toml") else each)
        steps_left = [
            one for one in plan_build(system, task, 0, root) if not artifact_dir(one.key).is_dir()
        ]
        if not steps_left:
            yield f"  {each}: built, or nothing to build"
        elif not task.training_task.available_locally():
            yield f"  {each}: {len(steps_left)} steps to build; its data is not here yet"
        else:
            seconds = build_seconds(system, task, root)
            yield (
                f"  {each}: {len(steps_left)} steps to build, about {_time(seconds)} on this "
                "machine (half or twice that is possible)"
            )
    if "- **Idea**:\n" in (system.folder / "README.md").read_text(errors="replace"):
        yield "  README.md is still to be filled in"
    inside = system.folder.resolve().parent == (root / "submissions").resolve()
    where = system.folder.name if inside else system.folder
    yield f"Next: wattbench bench --system {where} --task {names[0]} --rounds 2"


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{max(10, round(seconds, -1)):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _module(path: Path) -> list[str]:
    """Read, not run."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        return [f"{path}: not Python ({error or type(error).__name__}). Correct it there."]
    found, inherits = {}, False
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            inherits = inherits or bool(node.bases)
            methods = {each.name: each for each in node.body if isinstance(each, ast.FunctionDef)}
            if METHODS.keys() <= methods.keys():
                found[node.name] = methods
    if inherits and not found:  # what it inherits is not read
        return []
    if len(found) != 1:
        return [
            f"{path}: {len(found)} classes have `load` and `predict`; there must be one, with "
            "load(self, artifact, about, serve, threads) and predict(self, examples)."
        ]
    (methods,) = found.values()
    faults = []
    for name, given in METHODS.items():
        takes = methods[name].args
        least = len(takes.posonlyargs + takes.args) - 1 - len(takes.defaults)
        most = len(takes.posonlyargs + takes.args) - 1
        if not least <= given or not (given <= most or takes.vararg):
            faults.append(
                f"{path}: line {methods[name].lineno}: {name} is called with {given} "
                f"argument{'s' * (given > 1)} beside self, but takes {most}."
            )
    return faults


def _command(folder: Path, program: str) -> list[str]:
    path = folder / program
    if "/" not in program:
        if shutil.which(program):
            return []
        return [f"{folder}: {program} is not on this machine. Install it, or name another program."]
    if not os.access(path, os.X_OK):
        return [f"{path}: not executable. Run: chmod +x {path}"]
    if path.read_bytes()[:2] not in (b"#!", b"\x7fE"):
        return [
            f"{path}: neither a program nor a script. Let its first line name what runs it: "
            "#!/bin/sh"
        ]
    return []
