"""What is published of a project gives the same plan on a machine that has nothing else."""

import shutil
import tomllib
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.fleet.fleet import publish_plan
from harness.fleet.project import DATA, PublishedProject, get_folder, open_project, publish_project
from harness.store import shared
from harness.submissions.lookup import get_system
from harness.tasks.registry import get_task
from harness.tasks.task import Task
from tests.support.systems import copy_example, plan_systems, write_submission


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(shared.VARIABLE, f"file://{tmp_path}/store")


def open_elsewhere(
    published: PublishedProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Open it on a machine with an empty cache."""
    monkeypatch.setenv("WATTBENCH_CACHE", str(tmp_path / "elsewhere"))
    folder = open_project(published.digest)
    assert folder.is_relative_to(tmp_path / "elsewhere")
    return folder


@pytest.mark.parametrize("names", [[], ["fastformers", "cascade"]])
def test_plan_is_the_same_on_another_machine(
    names: list[str],
    project: Path,
    tiny_encoder: Path,
    reviews: Task,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also of references alone, where no submission is copied; the encoder lies elsewhere here."""
    plan = plan_systems(project, names, reviews)
    published = publish_plan(plan)
    shutil.move(tiny_encoder, tmp_path / "away")
    try:
        folder = open_elsewhere(published, tmp_path, monkeypatch)
        task = get_task(str(folder / DATA / published.tasks["reviews"]))
        there = plan_systems(folder, names, task)
        assert there.steps.keys() == plan.steps.keys()
        assert [part.system.name for part in there.systems] == [
            part.system.name for part in plan.systems
        ]
    finally:
        shutil.move(tmp_path / "away", tiny_encoder)


def test_systems_that_are_named_by_paths_are_found_by_name(
    project: Path, reviews: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = tmp_path / "other" / "large"
    shutil.copytree(project / "baselines" / "minilm-l6", teacher)
    mine = write_submission(project, '[[step]]\nuse = "export"', 'engine = "onnxruntime"')
    manifest = mine / "submission.toml"
    manifest.write_text(manifest.read_text().replace('"minilm-l6"', '"../../../other/large"'))
    plan = plan_systems(project, ["mine"], reviews)
    folder = open_elsewhere(publish_plan(plan), tmp_path, monkeypatch)
    copied = tomllib.loads((folder / "submissions" / "mine" / "submission.toml").read_text())
    assert copied["model"]["teacher"] == "large"
    assert get_system("mine", folder).teacher == get_system("large", folder)


def test_systems_within_a_system_are_found_with_what_they_need_from_elsewhere(
    project: Path, reviews: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `search` writes them: the teacher lies in the folder, and begins with another system."""
    large = tmp_path / "other" / "large"
    shutil.copytree(project / "baselines" / "minilm-l6", large)
    student = write_submission(
        project, '[[step]]\nuse = "vocabulary"', 'engine = "pytorch"', "student"
    )
    mine = write_submission(project, '[[step]]\nuse = "export"', 'engine = "onnxruntime"')
    inner = mine / "systems" / "student"
    shutil.move(student, inner)
    for folder, teacher in ((mine, "systems/student"), (inner, str(large))):
        manifest = folder / "submission.toml"
        manifest.write_text(manifest.read_text().replace('"minilm-l6"', f'"{teacher}"'))
    plan = plan_systems(project, ["mine"], reviews)
    published = publish_plan(plan)
    shutil.move(large, tmp_path / "away")
    folder = open_elsewhere(published, tmp_path, monkeypatch)
    task = get_task(str(folder / DATA / published.tasks["reviews"]))
    assert plan_systems(folder, ["mine"], task).steps.keys() == plan.steps.keys()


def test_tasks_of_both_kinds_are_found(
    project: Path, reviews: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = write_submission(project, '[[step]]\nuse = "export"', 'engine = "onnxruntime"')
    manifest = mine / "submission.toml"
    text = manifest.read_text()
    shutil.copytree(reviews.path.parent, mine / "own")
    for tasks, expected in (
        ('["sentiment", "own/task.toml"]', {"sentiment", "reviews"}),
        ('["own/task.toml"]', {"reviews"}),
    ):
        manifest.write_text(text.replace('tasks = ["any"]', f"tasks = {tasks}"))
        published = publish_project([get_system("mine", project)], [get_task("sentiment"), reviews])
        with monkeypatch.context() as patch:
            folder = open_elsewhere(published, tmp_path, patch)
            assert {task.name for task in get_system("mine", folder).tasks} == expected
    published = publish_project([get_system("mine", project)], [get_task("sentiment")])
    folder = open_elsewhere(published, tmp_path, monkeypatch)
    assert get_system("mine", folder).tasks == get_system("minilm-l6", folder).tasks, "any"


def test_two_systems_of_one_name_are_refused(project: Path, reviews: Task) -> None:
    other = project / "other" / "minilm-l6"
    shutil.copytree(project / "baselines" / "minilm-l6", other)
    systems = [get_system("minilm-l6", project), get_system(str(other), project)]
    with pytest.raises(HarnessError, match="two systems are called minilm-l6"):
        publish_project(systems, [reviews])


def test_damaged_project_is_refused(project: Path, reviews: Task) -> None:
    copy_example(project)
    published = publish_plan(plan_systems(project, ["custom-module"], reviews))
    (get_folder(published.digest) / "submissions" / "custom-module" / "model.py").write_text("")
    with pytest.raises(HarnessError, match=r"is damaged. Remove it"):
        open_project(published.digest)
