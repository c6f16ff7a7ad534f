"""Submissions for tests, and short sessions of some systems."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from harness.build import build_in_this_process
from harness.optimize.base import Artifact
from harness.results import record
from harness.runner.config import SMOKE, RunConfig
from harness.runner.session import measure as run_session
from harness.submissions.lookup import add_references
from harness.submissions.manifest import find_systems, read_system
from harness.submissions.plan import Plan, make_plan, plan_system
from harness.submissions.system import System
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
    """Discard a line of progress."""


def plan_systems(project: Path, names: Sequence[str], task: Task) -> Plan:
    """Plan systems and the references of the suite `quick`, on a task."""
    systems = add_references(load_systems(project, names), get_suite("quick"), project)
    return make_plan(systems, [task])


def write_submission(project: Path, steps: str, serve: str, name: str = "mine") -> Path:
    """Write a submission that starts from `minilm-l6`; return its folder."""
    folder = project / "submissions" / name
    folder.mkdir(exist_ok=True)
    (folder / "submission.toml").write_text(MANIFEST.format(steps=steps, serve=serve))
    return folder


def write_early_exit_submissions(project: Path) -> None:
    """Write `exits`, with two operating points, and let `cascade` be of `tfidf-logreg` and it."""
    write_submission(project, EXITS, SERVE_EXITS, "exits")
    manifest = project / "submissions" / "cascade" / "submission.toml"
    text = manifest.read_text()
    manifest.write_text(text.replace('"static", "fastformers"', '"tfidf-logreg", "exits"'))


def copy_example(project: Path, name: str = "custom-module", copy: str = "") -> Path:
    """Copy an example with custom code, and declare it for any task; return its folder."""
    folder = project / "submissions" / (copy or name)
    shutil.copytree(EXAMPLES / name, folder)
    manifest = folder / "submission.toml"
    manifest.write_text(manifest.read_text().replace('tasks = ["sentiment"]', 'tasks = ["any"]'))
    return folder


def load_systems(project: Path, names: Sequence[str]) -> list[System]:
    """Return the systems of these names."""
    known = find_systems(project)
    return [read_system(known[name], project) for name in names]


def build(system: System, task: Task, seed: int = 0) -> Artifact | None:
    """Build one system in this process; return its artifact."""
    plan = Plan((plan_system(system, task, seed),))
    (artifact,) = build_in_this_process(plan, choose_configuration("cpu-1"), quiet)
    return artifact


def build_all(project: Path, names: Sequence[str], task: Task, seed: int = 0) -> None:
    """Build in this process, which has imported torch already."""
    plan = make_plan(load_systems(project, names), [task], seed)
    build_in_this_process(plan, choose_configuration("cpu-1"), quiet)


def measure(
    project: Path,
    names: Sequence[str],
    task: Task,
    session: str = "",
    memory_gb: float = 4.0,
    log: Callable[[str], None] = quiet,
    seeds: int = 1,
    **config: Any,
) -> str:
    """Run a session with short windows, by default of one block; return its name."""
    return run_session(
        make_plan(load_systems(project, names), [task], seeds=seeds),
        get_suite("quick"),
        choose_configuration("cpu-1").model_copy(update={"memory_gb": memory_gb}),
        project / "results",
        RunConfig(**({"blocks": 1, "timing": SMOKE, "resume": session} | config)),
        log,
    )


def build_and_measure(
    project: Path, names: Sequence[str], task: Task, **options: Any
) -> dict[str, record.Record]:
    """Build and measure; return the records of `offline` by system.

    `options` are those of `measure`.
    """
    build_all(project, names, task)
    session = measure(project, names, task, **options)
    return offline_records(project, session)


def offline_records(project: Path, session: str) -> dict[str, record.Record]:
    """Return the records of `offline` of a session, by system."""
    paths = (project / "results" / "records" / session).glob("*/offline/*.json")
    return {path.stem: record.read_record(path) for path in paths}
