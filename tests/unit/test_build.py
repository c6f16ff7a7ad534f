"""Plans: which artifact is made of what."""

from pathlib import Path

from harness.submissions.plan import plan_build
from harness.tasks.registry import get_task
from tests.support.systems import systems


def test_keys_follow_what_an_artifact_is_made_of(project: Path) -> None:
    (int8,) = systems(project, ("onnx-int8",))
    task = get_task("sentiment")
    before = [each.key for each in plan_build(int8, task, 0, project)]
    assert before == [each.key for each in plan_build(int8, task, 0, project)]
    assert not set(before) & {each.key for each in plan_build(int8, task, 1, project)}
    manifest = project / "baselines" / "minilm-l6" / "submission.toml"
    manifest.write_text(manifest.read_text().replace("epochs = 1", "epochs = 2"))
    after = [each.key for each in plan_build(int8, task, 0, project)]
    assert not set(before) & set(after), "the teacher's recipe changed, so all is built anew"
    manifest = int8.manifest
    manifest.write_text(manifest.read_text().replace('"export"', '"export"\noptimize = false'))
    (changed,) = systems(project, ("onnx-int8",))
    last = [each.key for each in plan_build(changed, task, 0, project)]
    assert last[0] == after[0], "the first step is the same"
    assert last[1:] != after[1:]
