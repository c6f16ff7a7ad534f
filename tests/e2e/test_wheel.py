"""The wheel, installed in a new environment, measures a model in an empty folder."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from harness.submissions.manifest import find_systems
from tests.support.checkpoints import save_checkpoint
from tests.support.systems import REPOSITORY

PARTS = ("harness", "baselines", "submissions", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for part in PARTS:  # a build writes into its source
        if (REPOSITORY / part).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(REPOSITORY / part, source / part, ignore=ignored)
        else:
            shutil.copy(REPOSITORY / part, source / part)
    options = "--quiet --no-deps --no-build-isolation --disable-pip-version-check"
    command = [sys.executable, "-m", "pip", "wheel", *options.split(), "--wheel-dir", str(out)]
    subprocess.run([*command, str(source)], check=True, capture_output=True)
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command of an environment with the wheel; dependencies are those of this process."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = str(folder / "bin" / "python")
    pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", str(wheel)], check=True)
    return folder / "bin" / "wattbench"


def run_installed(command: Path, folder: Path, cache: Path, *arguments: str) -> str:
    """Run the command in a folder; PYTHONPATH adds the dependencies, but no editable package."""
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"PYTHONPATH": sysconfig.get_path("purelib"), "WATTBENCH_CACHE": str(cache)}
    done = subprocess.run(
        [str(command), *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_wheel_holds_every_system_and_published_table_and_no_bytecode(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for name, folder in find_systems(REPOSITORY).items():
        for path in folder.iterdir():
            if path.is_file():
                assert f"harness/bundled/{folder.parent.name}/{name}/{path.name}" in names
    for path in (REPOSITORY / "baselines" / "published").glob("*.toml"):
        assert f"harness/bundled/baselines/published/{path.name}" in names
    assert not [name for name in names if name.endswith(".pyc")]
    assert not [name for name in names if "tests/" in name or name.startswith("results/")]


def test_wheel_measures_a_model_on_a_task_in_an_empty_folder(
    installed: Path, tmp_path: Path, tiny_encoder: Path, reviews_file: Path, cache_with_data: Path
) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    save_checkpoint(folder / "my-bert", tiny_encoder)
    for path in reviews_file.parent.iterdir():
        shutil.copy(path, folder / path.name)
    command = ["run", "--model", "./my-bert", "--task", "./task.toml", "--rounds", "1"]
    out = run_installed(installed, folder, cache_with_data, *command)
    assert "my-bert-int8" in out
    written = {path.name for path in (folder / "results").iterdir()}
    assert {"README.md", "index.html", "leaderboard.csv", "records"} <= written
    names = {path.stem for path in folder.glob("results/records/*/reviews/offline/*.json")}
    assert names == {"my-bert", "my-bert-int8", "my-bert-unpadded", "null"}
    assert not (Path(installed).parents[1] / "results").exists()


def test_wheel_lists_shipped_and_own_systems(installed: Path, tmp_path: Path) -> None:
    run_installed(installed, tmp_path, tmp_path / "cache", "new", "my-idea", "--from", "majority")
    listed = run_installed(installed, tmp_path, tmp_path / "cache", "systems")
    assert {"my-idea", *find_systems(REPOSITORY)} <= set(listed.split())
