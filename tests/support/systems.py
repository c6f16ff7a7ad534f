"""Submissions as tests declare them, and short sessions of some systems."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.build import build_in_this_process
from harness.results import record
from harness.runner.config import SMOKE, RunConfig
from harness.runner.session import measure as run_session
from harness.submissions.manifest import System, find_systems, read_system
from harness.tasks.registry import get_suite
from harness.tasks.task import Task
from harness.telemetry.configuration import choose_configuration

REPOSITORY = Path(__file__).parent.parent.parent
EXAMPLES = REPOSITORY / "tests" / "data" / "submissions"

MANIFEST = """
title = "A submission"
authors = ["a"]
licence = "MIT"
division = "open"
tasks = ["any"]
[model]
teacher = "minilm-l6"
{steps}
[serve]
{serve}
"""

EXITS = """
[[step]]
use = "exits"
after = [0]
epochs = 1
transfer = false
[[step]]
use = "export"
[[step]]
use = "calibrate"
"""

SERVE_EXITS = """
engine = "onnxruntime"
[serve.points]
soon = 0.3
never = "never"
"""


def quiet(line: str) -> None:
    """Where progress goes."""


def declare(project: Path, steps: str, serve: str, name: str = "mine") -> Path:
    """A submission of the project that begins with `minilm-l6`. Returns: its folder."""
    folder = project / "submissions" / name
    folder.mkdir(exist_ok=True)
    (folder / "submission.toml").write_text(MANIFEST.format(steps=steps, serve=serve))
    return folder


def declare_leaving(project: Path) -> None:
    """`exits`, with three operating points, and `cascade` of a bag of words and `exits`."""
    declare(project, EXITS, SERVE_EXITS, "exits")
    both = project / "submissions" / "cascade" / "submission.toml"
    both.write_text(both.read_text().replace('"static", "fastformers"', '"tfidf-logreg", "exits"'))


def example(project: Path, name: str = "custom-module", copy: str = "") -> Path:
    """A copy of an example with code of its own, for any task. Returns: its folder."""
    folder = project / "submissions" / (copy or name)
    shutil.copytree(EXAMPLES / name, folder)
    manifest = folder / "submission.toml"
    manifest.write_text(manifest.read_text().replace('tasks = ["sentiment"]', 'tasks = ["any"]'))
    return folder


def systems(project: Path, names: Sequence[str]) -> list[System]:
    """The systems of these names."""
    known = find_systems(project)
    return [read_system(known[name], project) for name in names]


def build_all(project: Path, names: Sequence[str], task: Task, seed: int = 0) -> None:
    """Build in this process, which has loaded torch already."""
    for system in systems(project, names):
        build_in_this_process(system, task, choose_configuration("cpu-1"), project, seed, quiet)


def measure(
    project: Path,
    names: Sequence[str],
    task: Task,
    session: str = "",
    memory_gb: float = 4.0,
    log: Callable[[str], None] = quiet,
    **config: Any,
) -> str:
    """A session with short windows, of one block unless said otherwise. Returns: its name."""
    return run_session(
        systems(project, names),
        [task],
        get_suite("quick"),
        replace(choose_configuration("cpu-1"), memory_gb=memory_gb),
        project,
        project / "results",
        RunConfig(**({"blocks": 1, "timing": SMOKE, "resume": session} | config)),
        log,
    )


def measured(
    project: Path, names: Sequence[str], task: Task, **options: Any
) -> dict[str, record.Record]:
    """Build, and measure with the options of `measure`.

    Returns: the records of `offline` by system.
    """
    build_all(project, names, task)
    session = measure(project, names, task, **options)
    return offline_records(project, session)


def offline_records(project: Path, session: str) -> dict[str, record.Record]:
    """The records of `offline` of a session, by system."""
    paths = (project / "results" / "records" / session).glob("*/offline/*.json")
    return {path.stem: record.read_record(path) for path in paths}
