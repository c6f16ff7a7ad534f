"""A second machine with the same store builds nothing that the first has built."""

from collections.abc import Callable
from pathlib import Path

import pytest

from harness import build as build_module
from harness.build import build_in_this_process
from harness.optimize.training import teacher_logits
from harness.store.cache import artifact_dir, cache_dir
from harness.submissions.plan import Plan, plan_system
from harness.tasks.task import Task
from harness.telemetry.configuration import choose_configuration
from tests.support.systems import load_systems

ChangeMachine = Callable[[str], None]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "store"
    monkeypatch.setenv("WATTBENCH_STORE", f"file://{folder}")
    return folder


def build(project: Path, name: str, task: Task) -> list[str]:
    """Build a system, and return the lines of progress."""
    (system,) = load_systems(project, [name])
    lines: list[str] = []
    plan = Plan((plan_system(system, task, 0),))
    build_in_this_process(plan, choose_configuration("cpu-1"), lines.append)
    return lines


@pytest.fixture
def change_machine(
    tmp_path: Path, sources: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> ChangeMachine:
    """Go on with an empty cache, and the same store."""

    def change(name: str) -> None:
        (tmp_path / name).mkdir()
        (tmp_path / name / "sources").symlink_to(sources)
        monkeypatch.setenv("WATTBENCH_CACHE", str(tmp_path / name))

    return change


def refuse(*arguments: object) -> None:
    raise AssertionError("it is in the store")


def test_only_the_last_artifact_is_copied(
    project: Path,
    reviews: Task,
    store: Path,
    change_machine: ChangeMachine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert "  finetune: done in" in "\n".join(build(project, "onnx-int8", reviews))
    first = cache_dir()
    change_machine("second")
    monkeypatch.setattr(build_module, "_run_step", refuse)
    assert build(project, "onnx-int8", reviews) == [
        "from the shared store: onnx-int8 for reviews",
    ]
    (copied,) = (cache_dir() / "artifacts").iterdir()
    original = first / "artifacts" / copied.name
    assert (copied / "artifact.json").read_bytes() == (original / "artifact.json").read_bytes()
    assert build(project, "onnx-int8", reviews) == []


def test_steps_that_another_machine_has_built_are_not_repeated(
    project: Path, reviews: Task, change_machine: ChangeMachine
) -> None:
    build(project, "minilm-l6", reviews)
    change_machine("second")
    lines = "\n".join(build(project, "onnx-int8", reviews))
    assert "finetune" not in lines
    assert "quantize: done in" in lines


def test_a_teacher_answers_a_text_on_one_machine(
    project: Path,
    reviews: Task,
    store: Path,
    change_machine: ChangeMachine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    build(project, "distilled", reviews)
    change_machine("second")
    monkeypatch.setattr(teacher_logits, "_compute", refuse)
    (system,) = load_systems(project, ["distilled"])
    planned = plan_system(system, reviews, 0)
    step = next(step for step in planned.steps if step.use == "distill")
    (store / "artifacts" / f"{step.key}.json").unlink()
    assert "distill: done in" in "\n".join(build(project, "distilled", reviews))


def test_a_damaged_artifact_is_built_again_and_replaced(
    project: Path, reviews: Task, store: Path, change_machine: ChangeMachine
) -> None:
    build(project, "minilm-l6", reviews)
    (weights,) = store.glob("artifacts/*/*/model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-8])
    change_machine("second")
    assert "finetune: done in" in "\n".join(build(project, "minilm-l6", reviews))
    change_machine("third")
    assert "finetune" not in "\n".join(build(project, "minilm-l6", reviews))


def test_a_build_goes_on_without_a_store_that_is_down(
    tmp_path: Path, project: Path, reviews: Task, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store.write_text("a file, where the store should be")
    build(project, "tfidf-logreg", reviews)
    (system,) = load_systems(project, ["tfidf-logreg"])
    assert artifact_dir(plan_system(system, reviews, 0).key).is_dir()
    assert capsys.readouterr().err.count("going on without it") == 1
