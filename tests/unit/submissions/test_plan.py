from pathlib import Path

from harness.submissions.plan import plan_build
from harness.tasks.registry import get_task
from tests.support.systems import load_systems


def plan_keys(project: Path, name: str, seed: int = 0) -> list[str]:
    (system,) = load_systems(project, (name,))
    return [planned.key for planned in plan_build(system, get_task("sentiment"), seed, project)]


def test_same_plan_has_same_keys_and_another_seed_has_others(project: Path) -> None:
    keys = plan_keys(project, "onnx-int8")
    assert keys == plan_keys(project, "onnx-int8")
    assert not set(keys) & set(plan_keys(project, "onnx-int8", seed=1))


def test_change_of_the_teachers_recipe_changes_all_keys(project: Path) -> None:
    before = plan_keys(project, "onnx-int8")
    manifest = project / "baselines" / "minilm-l6" / "submission.toml"
    manifest.write_text(manifest.read_text().replace("epochs = 1", "epochs = 2"))
    assert not set(before) & set(plan_keys(project, "onnx-int8"))


def test_change_of_a_step_changes_the_keys_from_this_step_on(project: Path) -> None:
    before = plan_keys(project, "onnx-int8")
    (system,) = load_systems(project, ("onnx-int8",))
    text = system.manifest.read_text()
    system.manifest.write_text(text.replace('"export"', '"export"\noptimize = false'))
    after = plan_keys(project, "onnx-int8")
    assert after[0] == before[0]
    assert not set(after[1:]) & set(before[1:])
