"""A package that adds a step, an engine and a task, installed into a temporary folder."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.results.record import Record, read_record
from tests.support.systems import REPOSITORY

SOURCE = REPOSITORY / "tests" / "data" / "extension"

MANIFEST = """
title = "Keywords"
authors = ["a"]
licence = "MIT"
division = "open"
tasks = ["weather", "sentiment"]
[[step]]
use = "keywords"
words = 20
[serve]
engine = "keywords"
instances = 2
"""


def install(source: Path, target: Path) -> None:
    """Install a package with pip, without a network."""
    options = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--target"]
    command = [sys.executable, "-m", "pip", "install", *options, str(target), str(source)]
    subprocess.run(command, check=True, env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"})


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the package is installed into."""
    folder = tmp_path_factory.mktemp("extension")
    source = shutil.copytree(SOURCE, folder / "source")
    install(source, folder / "1.0")
    declaration = source / "pyproject.toml"
    declaration.write_text(declaration.read_text().replace('"1.0"', '"1.1"'))
    install(source, folder / "1.1")
    return folder


def run(project: Path, packages: Path, *arguments: str, status: int = 0) -> str:
    """Run the command with a package installed; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "harness", *arguments],
        cwd=project,
        env={**os.environ, "PYTHONPATH": f"{packages}{os.pathsep}{REPOSITORY}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def extended(project: Path) -> Path:
    """A project with a submission that uses the package."""
    folder = project / "submissions" / "keywords"
    folder.mkdir()
    (folder / "submission.toml").write_text(MANIFEST)
    (folder / "README.md").write_text("# keywords\n")
    return project


def find_record(project: Path) -> Record:
    (path,) = (project / "results" / "smoke" / "records").glob("*/weather/offline/keywords.json")
    return read_record(path)


def test_step_engine_and_task_of_a_package_are_built_and_measured(
    extended: Path, package: Path
) -> None:
    assert "[keywords] from wattbench-keywords 1.0" in run(extended, package / "1.0", "steps")
    assert "weather" in run(extended, package / "1.0", "tasks")
    assert "OK" in run(extended, package / "1.0", "check", "submissions/keywords")
    chosen = ("--system", "keywords", "--task", "weather", "--smoke")
    run(extended, package / "1.0", "bench", *chosen)
    record = find_record(extended)
    assert record.failure is None
    assert (record.score or {})["value"] == 1.0
    assert record.software["wattbench-keywords"] == "1.0"
    assert record.artifact
    assert record.artifact["recipe"][0]["words"] == 20


def test_version_of_the_package_is_part_of_the_key(extended: Path, package: Path) -> None:
    script = (
        "import json; from pathlib import Path\n"
        "from harness.submissions.manifest import read_system\n"
        "from harness.submissions.plan import plan_system\n"
        "from harness.tasks.registry import get_task\n"
        "own = read_system(Path('submissions/keywords'))\n"
        "other = read_system(Path('baselines/majority'))\n"
        "pairs = [(own, 'sentiment'), (other, 'weather'), (other, 'sentiment')]\n"
        "print(json.dumps([plan_system(s, get_task(t), 0).key for s, t in pairs]))\n"
    )
    keys = {}
    for version in ("1.0", "1.1"):
        done = subprocess.run(
            [sys.executable, "-c", script],
            cwd=extended,
            env={**os.environ, "PYTHONPATH": f"{package / version}{os.pathsep}{REPOSITORY}"},
            capture_output=True,
            text=True,
            check=True,
        )
        keys[version] = json.loads(done.stdout)
    step, task, neither = (keys["1.0"][n] == keys["1.1"][n] for n in range(3))
    assert not step, "the step is the package's"
    assert not task, "the task is the package's"
    assert neither, "wattbench's own step on wattbench's own task"


def test_without_the_package_its_names_are_unknown(extended: Path, tmp_path: Path) -> None:
    text = run(extended, tmp_path, "check", "submissions/keywords", status=2)
    assert "step 'keywords' does not exist" in text
    assert "task 'weather' does not exist" in text
    assert "engine 'keywords' does not exist" in text


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "keywords = ",
            "prune = ",
            "adds 'prune' to wattbench.steps, and so does wattbench itself",
        ),
        ("step:STEP", "nothing:STEP", "cannot be imported (ModuleNotFoundError"),
        ("step:STEP", "step:Keywords", "must be a harness.optimize.base.Step"),
    ],
)
def test_faulty_package_is_named(
    extended: Path, package: Path, tmp_path: Path, old: str, new: str, message: str
) -> None:
    packages = shutil.copytree(package / "1.0", tmp_path / "packages")
    (points,) = packages.glob("*.dist-info/entry_points.txt")
    before, section, after = points.read_text().partition("[wattbench.steps]")
    points.write_text(before + section + after.replace(old, new, 1))
    text = run(extended, packages, "check", "submissions/keywords", status=2)
    assert message in text
    assert "wattbench-keywords 1.0" in text
    assert "Traceback" not in text
