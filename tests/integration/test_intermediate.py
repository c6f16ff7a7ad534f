"""Steps with values for one task, and training on an intermediate task first."""

import re
from pathlib import Path

import pytest

from harness.build import build_in_this_process
from harness.cli.main import main
from harness.errors import ManifestError
from harness.models import classifier
from harness.models.classifier import EncoderSpec
from harness.optimize.base import Artifact
from harness.store.cache import artifact_dir
from harness.submissions.manifest import read_system
from harness.submissions.plan import Plan, PlannedSystem, make_plan, plan_system
from harness.tasks.registry import get_task
from harness.telemetry.configuration import choose_configuration
from tests.support.systems import quiet

STEP = """
[[step]]
use = "finetune"
epochs = 1
learning_rate = 1e-3
"""


@pytest.fixture
def manifest(project: Path, data: Path, tiny_encoder: Path) -> Path:
    """A system that starts from the tiny encoder, whose recipe a test completes."""
    folder = project / "submissions" / "mine"
    folder.mkdir()
    path = folder / "submission.toml"
    path.write_text(
        f"""
title = "A submission"
authors = ["a"]
licence = "MIT"
division = "open"
tasks = ["any"]
[model]
pretrained = "{tiny_encoder}"
[serve]
engine = "pytorch"
{STEP}"""
    )
    return path


def plan(manifest: Path, task: str) -> PlannedSystem:
    return plan_system(read_system(manifest.parent), get_task(task), 0)


def add(manifest: Path, lines: str) -> None:
    manifest.write_text(manifest.read_text() + lines)


def test_values_for_one_task_change_no_other(manifest: Path) -> None:
    before = {task: plan(manifest, task).key for task in ("cb", "rte", "axb")}
    add(manifest, "[step.tasks.rte]\nepochs = 2\n")
    after = {task: plan(manifest, task) for task in before}
    assert after["cb"].key == before["cb"]
    assert after["rte"].key != before["rte"]
    assert after["axb"].key == after["rte"].key, "it is trained on rte"
    assert after["rte"].steps[0].values["epochs"] == 2
    add(manifest, "[step.tasks.wic]\nepochs = 2\n")
    assert plan(manifest, "rte").key == after["rte"].key


def test_intermediate_task_is_trained_on_first_and_shared(manifest: Path) -> None:
    alone = plan(manifest, "rte").key
    add(manifest, 'intermediate = "rte"\n')
    planned = plan(manifest, "cb")
    assert [(step.use, step.task.name) for step in planned.steps] == [
        ("finetune", "rte"),
        ("finetune", "cb"),
    ]
    assert planned.steps[1].parent == planned.steps[0].key == alone
    assert planned.steps[1].encoder is None
    assert plan(manifest, "rte").key == alone, "on the task itself nothing precedes"
    system = read_system(manifest.parent)
    both = make_plan([system], [get_task("cb"), get_task("rte")])
    assert len(both.steps) == 2
    assert Plan.from_json(both.to_json()) == both


def test_training_starts_from_the_intermediate_model_with_a_new_head(manifest: Path) -> None:
    add(manifest, '[step.tasks.cb]\nintermediate = "rte"\n')
    system = read_system(manifest.parent)
    made = make_plan([system], [get_task("cb")])
    build_in_this_process(made, choose_configuration("cpu-1"), quiet)
    first, second = (Artifact.read(artifact_dir(key)) for key in made.steps)
    assert first.metadata.task[0] == "rte"
    assert second.metadata.labels == 3
    assert [step["use"] for step in second.metadata.recipe] == ["finetune", "finetune"]
    before, after = (
        classifier.load(artifact.folder, EncoderSpec.from_dict(artifact.metadata.model))
        for artifact in (first, second)
    )
    assert before.classifier.weight.shape[0] == 2
    assert after.classifier.weight.shape[0] == 3
    word = "bert.embeddings.word_embeddings.weight"
    moved = (before.state_dict()[word] - after.state_dict()[word]).abs().max()
    assert 0 < moved < 0.1, "a few updates from the intermediate model, and not from the encoder"


def test_steps_before_the_trained_one_are_run_on_the_intermediate_task(manifest: Path) -> None:
    add(manifest, f'[[step]]\nuse = "vocabulary"\n{STEP}intermediate = "rte"\n')
    planned = plan(manifest, "cb")
    assert [(step.use, step.task.name) for step in planned.steps[-4:]] == [
        ("finetune", "rte"),
        ("vocabulary", "rte"),
        ("finetune", "rte"),
        ("finetune", "cb"),
    ]
    assert planned.steps[-1].parent == planned.steps[-2].key


@pytest.mark.parametrize("examples", [7, 100])
def test_only_so_many_examples_are_trained_on(manifest: Path, examples: int) -> None:
    add(manifest, f"examples = {examples}\n")
    made = make_plan([read_system(manifest.parent)], [get_task("rte")])
    (artifact,) = build_in_this_process(made, choose_configuration("cpu-1"), quiet)
    assert artifact is not None
    available = len(get_task("rte").examples("train"))
    expected = {"used": 7, "available": available} if examples < available else None
    assert artifact.metadata.details.get("examples") == expected
    assert artifact.metadata.recipe[-1]["examples"] == examples


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        ("[step.tasks.rtee]\nepochs = 2\n", "[step.tasks.rtee] is not a task. Did you mean 'rte'"),
        ("[step.tasks.rte]\nepoch = 2\n", "[step.tasks.rte] .*epoch.*epochs"),
        ("[step.tasks.rte]\nepochs = 0\n", "[step.tasks.rte] epochs = 0: choose 1..100"),
        ("[step.tasks]\nrte = 3\n", "rte must be a table, written as [step.tasks.rte]"),
        ('intermediate = "boolqq"\n', "intermediate = 'boolqq'.*Did you mean 'boolq'"),
        ('intermediate = "axb"\n', "intermediate = 'axb': no such training split"),
        (
            'intermediate = "rte"\n[step.tasks.rte]\nintermediate = "wic"\n'
            '[step.tasks.wic]\nintermediate = "rte"\n',
            "rte -> wic -> rte is a cycle",
        ),
        (
            '[[step]]\nuse = "prune"\nheads = 2\nffn = 8\n[step.tasks.rte]\nheads = 1\n',
            "changes the architecture of the model",
        ),
    ],
)
def test_faults_name_the_task(manifest: Path, lines: str, fault: str) -> None:
    add(manifest, lines)
    with pytest.raises(ManifestError, match=re.escape(fault).replace(r"\.\*", ".*")):
        read_system(manifest.parent)


def test_plan_of_a_build_names_steps_tasks_and_times(
    manifest: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    add(manifest, '[step.tasks.cb]\nintermediate = "rte"\n')
    monkeypatch.chdir(manifest.parent.parent.parent)
    command = ["build", "--plan", "--system", "mine", "--task", "cb", "--task", "rte"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    row = next(line for line in printed.splitlines() if line.startswith("mine"))
    assert "finetune on rte > finetune" in row
    assert sum(line.startswith("mine ") for line in printed.splitlines()) == 1, "rte is shared"
    assert re.search(r"in all about \d+ (s|min|h), within a factor of two", printed)
    assert not list(artifact_dir("").glob("*"))
