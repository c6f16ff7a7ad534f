import shutil
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.submissions.plan import Plan, make_plan, plan_system
from harness.tasks.registry import get_task
from harness.tasks.task import Task
from tests.support.systems import load_systems, write_early_exit_submissions


def plan_keys(project: Path, name: str, seed: int = 0) -> list[str]:
    (system,) = load_systems(project, (name,))
    return [planned.key for planned in plan_system(system, get_task("sentiment"), seed).steps]


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


def test_plan_as_json_is_the_same_plan(project: Path) -> None:
    write_early_exit_submissions(project)
    names = ("minilm-l6", "onnx-int8", "null", "exits", "cascade")
    plan = make_plan(load_systems(project, names), [get_task("sentiment")], seed=3, seeds=2)
    again = Plan.from_json(plan.to_json())
    assert again == plan
    assert list(again.steps) == list(plan.steps)
    assert {"exits@soon", "exits@never", "onnx-int8@seed4"} <= {
        planned.system.name for planned in again.systems
    }


def test_steps_of_a_plan_follow_their_inputs(project: Path) -> None:
    write_early_exit_submissions(project)
    plan = make_plan(load_systems(project, ("cascade", "onnx-int8")), [get_task("sentiment")])
    seen: set[str] = set()
    for key, step in plan.steps.items():
        inputs = {step.parent, step.teacher, *(member.key for member in step.members)} - {""}
        assert inputs <= seen, step.use
        seen.add(key)


def test_task_that_changed_since_the_plan_was_made_is_refused(
    project: Path, reviews: Task, tmp_path: Path
) -> None:
    folder = shutil.copytree(Path(reviews.address).parent, tmp_path / "copy")
    task = get_task(str(folder / "task.toml"))
    text = make_plan(load_systems(project, ("null",)), [task]).to_json()
    assert Plan.from_json(text).tasks[0].version == task.version
    train = folder / "train.jsonl"
    train.write_text("\n".join(train.read_text().splitlines()[:-1]) + "\n")
    with pytest.raises(HarnessError, match=r"changed from version .* since the plan was made"):
        Plan.from_json(text)


def test_only_what_leads_to_a_missing_artifact_is_missing(project: Path) -> None:
    (system,) = load_systems(project, ["fastformers"])
    planned = plan_system(system, get_task("sentiment"), 0)

    def find(*there: str) -> list[str]:
        keys = {step.key for step in planned.steps if step.use in there}
        return [step.use for step in planned.find_missing(lambda step: step.key in keys)]

    chain = ["distill", "vocabulary", "prune", "distill", "export", "quantize"]
    assert find() == ["finetune", *chain]
    assert find("finetune") == chain
    assert find("export") == ["quantize"]
    assert find("prune") == ["finetune", "distill", "export", "quantize"], "it learns again"
    assert find("quantize") == []
