"""The examples of submissions with code of their own, and a short session of some systems."""

import shutil
from pathlib import Path

from harness import record
from harness.build import build
from harness.configuration import choose
from harness.manifest import find_systems, read_system
from harness.measure import run
from harness.measure.run import Effort
from harness.tasks.task import suite, task
from tests.conftest import REPOSITORY

EXAMPLES = REPOSITORY / "tests" / "data" / "submissions"


def example(project: Path, name: str = "own-module", as_: str = "") -> Path:
    folder = project / "submissions" / (as_ or name)
    shutil.copytree(EXAMPLES / name, folder)
    return folder


def measured(project: Path, names: tuple[str, ...]) -> dict[str, record.Record]:
    systems = [read_system(find_systems(project)[each], project) for each in names]
    asked, where = [task("sentiment")], choose("cpu-1")
    build(systems, asked, where, project, say=lambda line: None)
    session = run.measure(
        systems,
        asked,
        suite("quick"),
        where,
        project,
        project / "results",
        Effort(1),
        say=lambda line: None,
    )
    found = (project / "results" / "records" / session).glob("sentiment/offline/*.json")
    return {path.stem: record.read(path) for path in found}
