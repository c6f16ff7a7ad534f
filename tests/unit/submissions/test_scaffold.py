import os
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.submissions.manifest import read_system
from harness.submissions.system import System
from harness.tasks.task import Task
from tests.support.systems import build_and_measure


@pytest.fixture
def git_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "user.name")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", 'Ada "A" Lovelace')


def create(project: Path, name: str, *options: str) -> System:
    """Run `wattbench new`, and read the manifest that it writes."""
    assert main(["new", name, *options]) == 0
    return read_system(project / "submissions" / name, project)


@pytest.mark.parametrize("options", [[], ["--from", "fastformers"], ["--python"], ["--command"]])
def test_new_submission_passes_the_check(
    project: Path, git_user: None, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    monkeypatch.chdir(project)
    system = create(project, "idea", *options)
    assert (system.title, system.authors) == ("idea", ("Ada A Lovelace",))
    assert main(["check", str(system.folder)]) == 0


def test_copy_has_the_recipe_of_its_origin(
    project: Path, git_user: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    copy = create(project, "copied", "--from", "fastformers")
    steps = [step_config.step.name for step_config in copy.recipe]
    assert steps[:2] == ["distill", "vocabulary"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fastformers"], "'fastformers' exists already"),
        (["../x"], "'../x' is not allowed as a name"),
        (["other", "--from", "fastformer"], "Did you mean 'fastformers'?"),
    ],
)
def test_rejected_name_leaves_nothing(
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(project)
    before = sorted(path.name for path in (project / "submissions").iterdir())
    assert main(["new", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert sorted(path.name for path in (project / "submissions").iterdir()) == before


def test_templates_with_custom_code_answer_alike_and_above_chance(
    project: Path, git_user: None, reviews: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    for name, option in (("py", "--python"), ("sh", "--command")):
        manifest = create(project, name, option).manifest
        manifest.write_text(manifest.read_text().replace('["sentiment"]', '["any"]'))
    assert os.access(project / "submissions" / "sh" / "run.sh", os.X_OK)
    records = build_and_measure(project, ("null", "py", "sh"), reviews)
    assert records["py"].failure is records["sh"].failure is None
    assert records["py"].score == records["sh"].score
    assert (records["py"].score or {})["value"] > 0.53
