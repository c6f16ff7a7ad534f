"""Builds in a process of their own."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.build import build
from harness.errors import BuildError
from harness.store.cache import artifact_dir
from harness.submissions.plan import plan_build
from harness.tasks.task import Task
from harness.telemetry.configuration import choose_configuration
from tests.support.systems import quiet, systems
from tests.support.workers import ENOUGH


def test_what_is_built_is_skipped(built_project: Path, reviews: Task) -> None:
    lines: list[str] = []
    names = ("minilm-l6", "minilm-l6-unpadded", "onnx-int8")
    build(
        systems(built_project, names),
        [reviews],
        choose_configuration("cpu-1"),
        built_project,
        log=lines.append,
    )
    assert not lines
    artifact = plan_build(systems(built_project, ["onnx-int8"])[0], reviews, 0, built_project)[
        -1
    ].key
    (artifact_dir(artifact) / "artifact.json").unlink()
    artifact_dir(artifact).rename(built_project / "moved")
    build(
        systems(built_project, names),
        [reviews],
        choose_configuration("cpu-1"),
        built_project,
        log=lines.append,
    )
    assert [line for line in lines if line.startswith("build")] == [
        "build 1/1: onnx-int8 for reviews"
    ]
    assert not any("finetune" in line for line in lines), "the teacher is there"


def test_killed_build_leaves_no_half_artifact_and_is_taken_up(
    project: Path, reviews: Task, cache_with_data: Path
) -> None:
    (reference,) = systems(project, ["minilm-l6"])
    order = [str(reference.folder), reviews.address, "cpu-1", str(project), "0"]
    child = subprocess.Popen(
        [sys.executable, "-m", "harness.build", *order], stdout=subprocess.PIPE
    )
    assert child.stdout
    scratch = cache_with_data / "tmp"
    deadline = time.monotonic() + ENOUGH
    while not (scratch.is_dir() and list(scratch.iterdir())) and time.monotonic() < deadline:
        time.sleep(0.05)
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    (step,) = plan_build(reference, reviews, 0, project)
    assert not artifact_dir(step.key).exists()
    build([reference], [reviews], choose_configuration("cpu-1"), project, log=quiet)
    assert not list(scratch.iterdir()), "what the killed build left is swept away"
    about = json.loads((artifact_dir(step.key) / "artifact.json").read_text())
    cost = about["recipe"][0]["cost"]
    assert cost["energy"]["source"].startswith(("modelled", "measured"))
    assert cost["cpu_seconds"] > 0


def test_build_that_fails_says_file_and_reason(project: Path, reviews: Task) -> None:
    manifest = project / "baselines" / "minilm-l6" / "submission.toml"
    manifest.write_text(manifest.read_text().replace("1e-3", "1e30"))
    with pytest.raises(BuildError, match=r"submission\.toml: .*not finite.*Lower learning_rate"):
        build(
            systems(project, ["minilm-l6"]),
            [reviews],
            choose_configuration("cpu-1"),
            project,
            log=quiet,
        )
