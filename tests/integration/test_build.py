import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from harness import build as build_module
from harness.build import build_in_this_process, build_missing
from harness.errors import BuildError
from harness.optimize.training import loop
from harness.progress import ProgressLine
from harness.store.cache import artifact_dir, checkpoint_dir
from harness.submissions.plan import make_plan, plan_system
from harness.tasks.task import Task
from harness.telemetry.configuration import choose_configuration
from tests.support.systems import load_systems, quiet
from tests.support.workers import ENOUGH


def build(project: Path, names: list[str], task: Task) -> list[str]:
    """Build the systems; return the lines of progress."""
    lines: list[str] = []
    configuration = choose_configuration("cpu-1")
    build_missing(make_plan(load_systems(project, names), [task]), configuration, lines.append)
    return lines


def test_only_missing_artifacts_are_built(built_project: Path, reviews: Task) -> None:
    names = ["minilm-l6", "minilm-l6-unpadded", "onnx-int8"]
    assert not build(built_project, names, reviews)
    (int8,) = load_systems(built_project, ["onnx-int8"])
    key = plan_system(int8, reviews, 0).steps[-1].key
    (artifact_dir(key) / "artifact.json").unlink()
    artifact_dir(key).rename(built_project / "moved")
    lines = build(built_project, names, reviews)
    assert [line for line in lines if line.startswith("build")] == [
        "build 1/1: onnx-int8 for reviews"
    ]
    assert not any("finetune" in line for line in lines), "the teacher is built already"
    finetune, _, _ = (step.key for step in plan_system(int8, reviews, 0).steps)
    for number, lost in enumerate((key, finetune)):
        artifact_dir(lost).rename(built_project / f"moved-{number}")
    lines = build(built_project, ["onnx-int8"], reviews)
    done = [line for line in lines if ": done in" in line]
    assert len(done) == 1, "what led to the exported graph is not needed"
    assert done[0].startswith("  quantize")
    (built_project / "moved-1").rename(artifact_dir(finetune))


def test_progress_of_the_build_process_arrives_as_progress(project: Path, reviews: Task) -> None:
    lines = build(project, ["tfidf-logreg"], reviews)
    progress = [line for line in lines if isinstance(line, ProgressLine)]
    assert progress[0].text == "  tfidf-logreg"
    assert progress[0].done == 0.0
    others = [line for line in lines if line not in progress]
    assert others[0] == "build 1/1: tfidf-logreg for reviews"
    assert others[-1].startswith("  tfidf-logreg: done in ")


def test_killed_build_leaves_no_incomplete_artifact_and_can_be_repeated(
    project: Path, reviews: Task, cache_with_data: Path
) -> None:
    (reference,) = load_systems(project, ["minilm-l6"])
    plan = make_plan([reference], [reviews])
    process = subprocess.Popen(
        [sys.executable, "-m", "harness.build", "cpu-1"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin
    assert process.stdout
    process.stdin.write(plan.to_json())
    process.stdin.close()
    scratch = cache_with_data / "tmp"
    deadline = time.monotonic() + ENOUGH
    while not (scratch.is_dir() and list(scratch.iterdir())) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it was still building"
    process.stdout.close()
    (planned,) = plan_system(reference, reviews, 0).steps
    assert not artifact_dir(planned.key).exists()
    build_missing(plan, choose_configuration("cpu-1"), quiet)
    assert not list(scratch.iterdir()), "the files of the killed build are removed"
    metadata = json.loads((artifact_dir(planned.key) / "artifact.json").read_text())
    cost = metadata["recipe"][0]["cost"]
    assert cost["energy"]["source"].startswith(("modelled", "measured"))
    assert cost["cpu_seconds"] > 0


def test_cost_counts_the_runs_that_were_interrupted(
    project: Path, reviews: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_module, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(loop, "LOG_SECONDS", 0.0)
    manifest = project / "baselines" / "minilm-l6" / "submission.toml"
    manifest.write_text(manifest.read_text().replace("epochs = 1", "epochs = 2"))
    plan = make_plan(load_systems(project, ["minilm-l6"]), [reviews])
    (step,) = plan.steps.values()

    def interrupt(line: str) -> None:
        if "epoch 2" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_in_this_process(plan, choose_configuration("cpu-1"), interrupt)
    spent = checkpoint_dir(step.key) / "spent.json"
    seconds, cpu_seconds = json.loads(spent.read_text())
    assert seconds > 0
    assert cpu_seconds > 0
    spent.write_text(json.dumps([seconds + 5000, cpu_seconds + 9000]))
    (artifact,) = build_in_this_process(plan, choose_configuration("cpu-1"), quiet)
    assert artifact
    cost = artifact.metadata.recipe[0]["cost"]
    assert cost["seconds"] > seconds + 5000
    assert cost["cpu_seconds"] > cpu_seconds + 9000
    assert "interrupted" in cost["energy"]["source"]
    if cost["energy"]["source"].startswith("modelled"):
        watts = choose_configuration("cpu-1").watts_per_core
        assert cost["energy"]["cpu_wh"] == pytest.approx(
            watts * cost["cpu_seconds"] / 3600, rel=0.01
        )
    assert not checkpoint_dir(step.key).exists()


def test_memory_that_a_step_has_freed_is_returned() -> None:
    """The allocator of a build process keeps it, in pieces that the next step cannot use."""
    script = """
import ctypes, psutil
from harness.build import _return_freed_memory
allocate = ctypes.CDLL(None).malloc
free = ctypes.CDLL(None).free
allocate.restype, free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
def read():
    return psutil.Process().memory_info().rss / 1e6
blocks = [allocate(10_000_000) for _ in range(40)]
for block in blocks:
    ctypes.memset(block, 1, 10_000_000)
for block in blocks[:-1]:  # the last one keeps the end of the heap in use
    free(block)
before = read()
_return_freed_memory()
print(before - read())
"""
    environment = {**os.environ, "GLIBC_TUNABLES": build_module.MALLOC_TUNABLES}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert float(done.stdout) > 300, "of 390 MB that were freed"


def test_killed_build_process_is_explained(
    project: Path, reviews: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the kernel does when memory is short: the process itself cannot say why it ends."""

    def kill(line: str) -> None:
        for process in psutil.Process().children():
            with suppress(psutil.ZombieProcess):
                if "harness.build" in process.cmdline():
                    process.kill()

    plan = make_plan(load_systems(project, ["minilm-l6"]), [reviews])
    with pytest.raises(BuildError, match=r"submission\.toml: .*killed.*memory.*max_length"):
        build_missing(plan, choose_configuration("cpu-1"), kill)
    assert build_module._explain_end(-signal.SIGSEGV, "") == (
        "the build process ended with signal SIGSEGV."
    )
    assert build_module._explain_end(1, "the end") == (
        "the build process ended with status 1. the end"
    )


def test_failed_build_is_reported_with_file_and_reason(project: Path, reviews: Task) -> None:
    manifest = project / "baselines" / "minilm-l6" / "submission.toml"
    manifest.write_text(manifest.read_text().replace("1e-3", "1e30"))
    with pytest.raises(BuildError, match=r"submission\.toml: .*not finite.*Lower learning_rate"):
        build(project, ["minilm-l6"], reviews)
