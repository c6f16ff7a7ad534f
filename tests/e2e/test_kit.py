"""A kit, from packing over a machine without a network to the board.

That machine has the packages of this process, but no checkout, cache, home directory or network.
"""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.results import record
from harness.tasks.task import Task

OFFLINE = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9")


def pack(project: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> Path:
    """Pack a kit for a machine with all packages of this one."""
    monkeypatch.chdir(project)
    folder = project.parent / "node"
    folder.mkdir()
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "list", "--format=freeze", "--disable-pip-version-check"],
        check=True,
        capture_output=True,
        text=True,
    )
    (project / "packages.txt").write_text(listed.stdout)
    kit = folder / "kit.zip"
    command = ["pack", str(kit), "--configuration", "cpu-1", "--smoke", "--rounds", "1"]
    assert main([*command, "--target-packages", "packages.txt", *options]) == 0
    return kit


def run_there(kit: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    """Run a kit in an environment without a cache, a home directory and a network."""
    home = kit.parent / "home"
    home.mkdir(exist_ok=True)
    kept = ("PATH", "LD_LIBRARY_PATH", "OPENBLAS_CORETYPE")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    done = subprocess.run(
        [sys.executable, kit.name, *options],
        cwd=kit.parent,
        env={**environment, **OFFLINE, "HOME": str(home)},
        capture_output=True,
        text=True,
    )
    assert list(home.iterdir()) == [], "nothing outside of the kit's folder"
    return done


def test_kit_trains_and_measures_there_and_its_records_are_added_here(
    project: Path,
    reviews: Task,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = ["--system", "minilm-l6", "--precision", "fp16", "--task", reviews.address]
    kit = pack(project, monkeypatch, *options)
    done = run_there(kit)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "kit: measured  reviews under cpu-1: 1 of 1 blocks\n" in done.stdout
    archive = kit.parent / "kit" / "records.zip"
    with zipfile.ZipFile(archive) as file:
        assert all(name.endswith((".json", ".json.gz")) for name in file.namelist())
    shutil.rmtree(project / "results", ignore_errors=True)
    capsys.readouterr()
    assert main(["add", str(archive)]) == 0
    out = capsys.readouterr().out
    assert "added: session " in out
    results = project / "results" / "smoke"
    paths = {path.stem: path for path in results.glob("records/*/reviews/offline/*.json")}
    assert set(paths) == {"minilm-l6", "minilm-l6-unpadded", "null"}
    measured = record.read_record(paths["minilm-l6"])
    assert measured.failure is None
    recipe = (measured.artifact or {})["recipe"]
    assert recipe[0]["encoder_dtype"] == "fp16", "the record says what was rounded"
    assert measured.software["revision"] != "unknown"
    board = (results / "README.md").read_text()
    assert "\n| minilm-l6-unpadded " in board
    assert "Stale, because it was built from start weights in fp16: " in board
    assert main(["add", str(archive)]) == 0
    assert "added: nothing" in capsys.readouterr().out


@pytest.mark.slow
def test_kit_with_artifacts_trains_nothing_and_leaves_off_what_does_not_fit(
    built_project: Path, reviews: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--system", "onnx-int8", "--with-artifacts", "--task", reviews.address]
    kit = pack(built_project, monkeypatch, *options, "--configuration", "cpu-16")
    done = run_there(kit)
    if len(os.sched_getaffinity(0)) < 16:
        assert done.returncode == 1, done.stdout + done.stderr
        assert "kit: left off  reviews under cpu-16: it failed, see above\n" in done.stdout
        assert "configuration 'cpu-16' does not fit: it needs " in done.stderr
    assert "kit: measured  reviews under cpu-1: 1 of 1 blocks\n" in done.stdout
    assert "finetune" not in done.stdout
    (path,) = (kit.parent / "kit").glob("results/records/*/reviews/offline/onnx-int8.json")
    assert json.loads(path.read_text())["failure"] is None
