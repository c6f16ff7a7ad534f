"""Checks a submission without building or running anything of it: `wattbench check`."""

import ast
import os
import shlex
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from harness.engines.registry import get_engines
from harness.errors import HarnessError
from harness.store import untrusted
from harness.submissions.build_time import estimate_build_seconds, format_duration
from harness.submissions.manifest import find_systems, read_system
from harness.submissions.plan import plan_system
from harness.submissions.scaffold import NAME_PATTERN
from harness.submissions.system import System
from harness.tasks.registry import get_task
from harness.tasks.task import Task

METHODS = {"load": 4, "predict": 1}
"""The methods of a custom class, and how many arguments each is called with."""


def check(folder: Path, root: Path) -> tuple[System | None, list[str]]:
    """Check a submission's folder, its manifest and its custom code.

    Args:
        folder: the submission's folder.
        root: the project.

    Returns:
        The system, or None if its manifest cannot be read; and one sentence per fault, with the
        file and the fix.
    """
    folder = folder if folder.name else folder.resolve()
    if not folder.is_dir():
        return None, [
            f"{folder}: there is no such folder, and no system of this name. Give the folder that "
            "contains submission.toml."
        ]
    faults = _check_folder(folder, root)
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
        faults += _check_module(folder / serve.module)
    if serve.command:
        faults += _check_command(folder, serve.command[0])
    return system, faults


def describe(system: System, root: Path) -> Iterator[str]:
    """Yield lines about a submission without faults: its steps, the build time, the next command.

    Args:
        system: the system.
        root: the project.
    """
    steps = " > ".join(step_config.use for step_config in system.recipe) or "no steps"
    yield f"{system.folder}: OK. Division {system.division}; {steps}."
    extra = getattr(get_engines().get(system.serve["offline"].engine), "extra", "")
    if extra and find_spec(extra) is None:
        yield f"  it needs an extra that is not installed: pip install 'wattbench[{extra}]'"
    tasks = system.get_task_addresses()
    for task in tasks:
        yield f"  {task}: {_describe_build(system, get_task(task))}"
    if "- **Idea**:\n" in (system.folder / "README.md").read_text(errors="replace"):
        yield "  README.md is still the template; fill it in"
    is_submission = system.folder.resolve().parent == (root / "submissions").resolve()
    name = system.folder.name if is_submission else shlex.quote(str(system.folder))
    yield f"Next: wattbench bench --system {name} --task {tasks[0]} --rounds 2"


def _check_folder(folder: Path, root: Path) -> list[str]:
    faults = [f"{folder}: {fault}" for fault in untrusted.find_dangerous_files(folder)]
    name = folder.resolve().name
    namesake = find_systems(root).get(name)
    if namesake is not None and namesake.resolve() != folder.resolve():
        faults.append(f"{folder}: {namesake} has the same name. Rename the folder.")
    if not NAME_PATTERN.fullmatch(name):
        faults.append(
            f"{folder}: rename the folder; only letters, digits, '.', '_' and '-' are allowed."
        )
    readme = folder / "README.md"
    if not readme.is_file() or not readme.read_text(errors="replace").strip():
        faults.append(
            f"{readme}: missing or empty. Describe in a few words what the submission does and why."
        )
    return faults


def _describe_build(system: System, task: Task) -> str:
    planned = plan_system(system, task, 0)
    missing = sum(not step.is_built for step in planned.steps)
    if not missing:
        return "built, or nothing to build"
    count = f"{missing} step{'s' if missing > 1 else ''} to build"
    if not all(step.task.available_locally() for step in planned.steps):
        return f"{count}; the data of the task is not available locally yet"
    duration = format_duration(sum(estimate_build_seconds(planned.steps).values()))
    return f"{count}, about {duration} on this machine (within a factor of two)"


def _check_module(path: Path) -> list[str]:
    """Return the faults of a Python file with a custom class; the file is parsed, not run."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError, MemoryError, RecursionError) as error:
        return [f"{path}: not Python ({error or type(error).__name__}). Correct it there."]
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    candidates = {}
    for node in classes:
        methods = {item.name: item for item in node.body if isinstance(item, ast.FunctionDef)}
        if METHODS.keys() <= methods.keys():
            candidates[node.name] = methods
    if not candidates and any(node.bases for node in classes):
        return []  # the methods may be inherited from code that is not read here
    if len(candidates) != 1:
        return [
            f"{path}: {len(candidates)} classes have `load` and `predict`. Define exactly one, "
            "with load(self, artifact, metadata, serve, threads) and predict(self, examples)."
        ]
    (methods,) = candidates.values()
    faults: list[str] = []
    for name, count in METHODS.items():
        faults += _check_arguments(path, methods[name], count)
    return faults


def _check_arguments(path: Path, method: ast.FunctionDef, count: int) -> Iterator[str]:
    """Yield a fault if the method cannot be called with this many arguments besides self."""
    arguments = method.args
    most = len(arguments.posonlyargs + arguments.args) - 1
    least = most - len(arguments.defaults)
    if not least <= count or not (count <= most or arguments.vararg):
        yield (
            f"{path}: line {method.lineno}: {method.name} is called with {count} "
            f"argument{'s' if count > 1 else ''} besides self, but takes {most}."
        )


def _check_command(folder: Path, program: str) -> list[str]:
    if "/" not in program:
        if shutil.which(program):
            return []
        return [
            f"{folder}: {program} is not installed on this machine. Install it, or name another "
            "program."
        ]
    path = folder / program
    if not os.access(path, os.X_OK):
        return [f"{path}: not executable. Run: chmod +x {shlex.quote(str(path))}"]
    if path.read_bytes()[:2] not in (b"#!", b"\x7fE"):
        return [
            f"{path}: neither a program nor a script with an interpreter. Start the file with a "
            "line like #!/bin/sh"
        ]
    return []
