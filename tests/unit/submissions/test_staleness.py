"""Rows that are no longer what their manifest builds."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from harness.results.record import MEASUREMENT_VERSION, Record
from harness.results.state import State
from harness.store.cache import folder_digest
from harness.submissions.manifest import read_system
from harness.submissions.plan import plan_system
from harness.submissions.staleness import StalenessCheck
from harness.tasks.registry import get_task
from tests.support.records import make_record
from tests.support.systems import REPOSITORY

VNNI, NO_VNNI = ["avx2", "avx512_vnni"], ["avx2"]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the shipped manifests."""
    for name in ("baselines", "submissions"):
        shutil.copytree(REPOSITORY / name, tmp_path / name)
    return tmp_path


def record_system(
    project: Path, name: str, flags: list[str] = VNNI, seed: int = 0, task: str = "sentiment"
) -> Record:
    """Return a record of what the manifest builds."""
    parent = "baselines" if (project / "baselines" / name).is_dir() else "submissions"
    record, _ = make_record(name, [1.0], 0.9, task=task)
    record.system["folder"] = f"{parent}/{name}"
    record.machine["flags"] = flags
    record.task["version"] = get_task(task).version
    system = read_system(project / parent / name, project)
    key = plan_system(system, get_task(task), seed, flags).key
    record.artifact = {"key": key, "seed": seed, "recipe": []} if key else None
    return replace(record, measurement=MEASUREMENT_VERSION)


def find_state(project: Path, record: Record) -> State:
    return StalenessCheck(project).find_state(record)


@pytest.mark.parametrize("name", ["minilm-l6", "fastformers", "cascade", "null", "static"])
@pytest.mark.parametrize("flags", [VNNI, NO_VNNI])
def test_row_is_current_on_whatever_machine_it_was_built(
    project: Path, name: str, flags: list[str]
) -> None:
    assert find_state(project, record_system(project, name, flags, seed=3)) == State("current")


@pytest.mark.parametrize("changed", ["fastformers", "minilm-l6"])
def test_row_is_stale_after_a_change_of_its_recipe_or_its_teachers(
    project: Path, changed: str
) -> None:
    record = record_system(project, "fastformers")
    (manifest,) = project.glob(f"*/{changed}/submission.toml")
    text = manifest.read_text()
    manifest.write_text(
        text.replace("epochs = 3", "epochs = 4").replace("epochs = 2", "epochs = 1")
    )
    if manifest.read_text() == text:
        manifest.write_text(text + '\n[[step]]\nuse = "finetune"\nepochs = 9\n')
    state = find_state(project, record)
    assert state == State("stale", ("its manifest builds another artifact now",))


def test_row_is_stale_under_another_version_of_the_measurement(project: Path) -> None:
    record = replace(record_system(project, "null"), measurement=0)
    state = find_state(project, record)
    assert state.name == "stale"
    assert "version 0 of the measurement" in state.reasons[0]


def test_older_version_of_a_task_makes_no_row_stale(project: Path) -> None:
    """It has a section of its own."""
    record = record_system(project, "minilm-l6")
    record.task["version"] = "0"
    task = replace(get_task("sentiment"), edition="0", content=None)
    system = read_system(project / "baselines" / "minilm-l6", project)
    record.artifact["key"] = plan_system(system, task, 0, VNNI).key
    assert find_state(project, record) == State("current")


def test_custom_code_is_compared_by_its_digest(project: Path) -> None:
    folder = project / "submissions" / "mine"
    folder.mkdir()
    text = 'title = "x"\nauthors = ["x"]\nlicence = "MIT"\ntasks = ["any"]\ndivision = "open"\n'
    (folder / "submission.toml").write_text(f'{text}[serve]\nmodule = "model.py"\n')
    (folder / "model.py").write_text("class Engine: ...\n")
    record = record_system(project, "mine")
    record.system["code"] = folder_digest(folder)
    assert find_state(project, record) == State("current")
    (folder / "model.py").write_text("class Engine: pass\n")
    assert find_state(project, record) == State("stale", ("its code has changed",))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"folder": "submissions/gone"}, "there is no submissions/gone"),
        ({"folder": "models/bert"}, "it was made of a model with --model"),
    ],
)
def test_what_cannot_be_computed_is_not_checked(
    project: Path, change: dict[str, str], reason: str
) -> None:
    record = record_system(project, "minilm-l6")
    record.system |= change
    state = find_state(project, record)
    assert state.name == "not checked"
    assert reason in state.reasons[0]


def test_custom_task_that_is_gone_is_not_checked(project: Path, tmp_path: Path) -> None:
    record = record_system(project, "minilm-l6")
    record.inputs = {"task": str(tmp_path / "gone.toml")}
    assert find_state(project, record).name == "not checked"
