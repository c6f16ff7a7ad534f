"""The whole FastFormers recipe through build.py, on a tiny encoder and real text."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from harness.engines import base, registry
from harness.engines.base import EngineConfig
from harness.models import classifier
from harness.models.classifier import EncoderSpec
from harness.store.cache import artifact_dir, checkpoint_dir
from harness.submissions.manifest import read_system
from harness.submissions.plan import Plan, plan_system
from harness.submissions.system import System
from harness.tasks.registry import get_task
from harness.tasks.task import Task
from tests.support.systems import write_submission

LEARN = """
[[step]]
use = "distill"
epochs = 1
learning_rate = 1e-3
transfer = false
"""

STEPS = f"""
{LEARN}layers = 1
[[step]]
use = "vocabulary"
[[step]]
use = "prune"
heads = 2
ffn = 32
{LEARN}
[[step]]
use = "export"
[[step]]
use = "quantize"
"""

SERVE = """
engine = "onnxruntime"
[serve.offline]
instances = "per-core"
"""

KILLED_AT_A_RENAME = """
import os, signal, sys
from pathlib import Path

real = Path.rename

def rename(self, target):
    if Path(target).name == sys.argv[1]:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(self, target)

Path.rename = rename
from harness.build import _main
sys.exit(_main("cpu-1"))
"""
"""Builds the plan from standard input, and dies when the artifact of this key is complete but for
the rename."""


@pytest.fixture
def system(project: Path) -> System:
    return read_system(write_submission(project, STEPS, SERVE, "all-steps"), project)


def build_and_die(key: str, plan: Plan) -> int:
    return subprocess.run(
        [sys.executable, "-c", KILLED_AT_A_RENAME, key],
        input=plan.to_json().encode(),
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
    ).returncode


@pytest.mark.slow
def test_step_that_is_killed_leaves_nothing_half_and_is_resumed(
    reviews: Task, system: System, cache_with_data: Path
) -> None:
    """Each build resumes the step that killed the one before, and is killed at the next."""
    planned = plan_system(system, reviews, 0)
    steps = planned.steps
    assert len(steps) == 7
    for number, step in enumerate(steps):
        assert build_and_die(step.key, Plan((planned,))) == -9
        built = {folder.name for folder in (cache_with_data / "artifacts").iterdir()}
        assert built == {step.key for step in steps[:number]}
        trains = step.use in ("finetune", "distill")
        assert checkpoint_dir(step.key).exists() == trains
    assert build_and_die("none", Plan((planned,))) == 0
    for step in steps:
        about = json.loads((artifact_dir(step.key) / "artifact.json").read_text())
        assert about["key"] == step.key
        assert about["recipe"][-1]["use"] == step.use
        assert not checkpoint_dir(step.key).exists()
    assert not list((cache_with_data / "tmp").iterdir())
    found = planned.find_artifact()
    assert found is not None
    check_answers(found.folder, steps[4].key, system, reviews)


def check_answers(folder: Path, trained: str, system: System, reviews: Task) -> None:
    """The quantized graph of the pruned student answers as its weights do."""
    about = json.loads((folder / "artifact.json").read_text())
    shape = EncoderSpec.from_dict(about["model"])
    assert (shape.heads, shape.ffn) == ((2,), (32,))
    weights = artifact_dir(trained)
    before = json.loads((weights / "artifact.json").read_text())
    assert classifier.load(weights, EncoderSpec.from_dict(before["model"])).spec == shape
    candidates = [example.candidates for example in reviews.examples("train")]
    serve = base.ServeConfig("pytorch")
    expected = (
        registry.load_engine(EngineConfig(weights, before, serve, 1)).scores(candidates).argmax(1)
    )
    found = (
        registry.load_engine(EngineConfig(folder, about, system.serve["offline"], 2))
        .scores(candidates)
        .argmax(1)
    )
    assert float(np.mean(found == expected)) >= 0.97
    scores = about["selection"]
    assert abs(scores["before"] - scores["after"]) <= 0.05


def test_student_is_another_when_its_teachers_recipe_changes(project: Path, system: System) -> None:
    task = get_task("sentiment")
    before = [step.key for step in plan_system(system, task, 0).steps]
    assert before == [step.key for step in plan_system(system, task, 0).steps]
    manifest = project / "baselines" / "minilm-l6" / "submission.toml"
    manifest.write_text(manifest.read_text().replace("epochs = 1", "epochs = 2"))
    changed = read_system(system.folder, project)
    after = [step.key for step in plan_system(changed, task, 0).steps]
    assert not set(before) & set(after)


def test_student_is_another_when_its_transfer_text_changes(project: Path, system: System) -> None:
    from dataclasses import replace

    from harness.tasks.task import Transfer

    steps = STEPS.replace("transfer = false", "transfer = true")
    learned = read_system(write_submission(project, steps, SERVE, "with-transfer"), project)
    task = get_task("sentiment")
    assert task.transfer is not None
    other = replace(task, transfer=Transfer("other text", task.transfer.load))
    one, two = (
        [step.key for step in plan_system(learned, variant, 0).steps] for variant in (task, other)
    )
    assert one[0] == two[0], "the teacher does not read it"
    assert one[1] != two[1]
    without = [
        [step.key for step in plan_system(system, variant, 0).steps] for variant in (task, other)
    ]
    assert without[0][1] == without[1][1], "nor does a student that is told not to"


def test_shared_steps_are_built_once(project: Path, system: System) -> None:
    """Two systems whose recipes begin alike share the artifacts of the beginning."""
    folder = write_submission(project, f"{LEARN}layers = 1", 'engine = "pytorch"', "shorter")
    shorter = plan_system(read_system(folder, project), get_task("sentiment"), 0).steps
    whole = plan_system(system, get_task("sentiment"), 0).steps
    assert [step.key for step in shorter] == [step.key for step in whole[:2]]
