"""Where systems, published tables and results are, in a checkout and outside of one."""

import shutil
from pathlib import Path

import pytest

import harness
from harness.cli.main import main
from harness.cli.options import results_folder
from harness.errors import HarnessError, ManifestError
from harness.reports.reproduction import PublishedTable
from harness.submissions import project
from harness.submissions.lookup import get_system
from harness.submissions.manifest import find_systems
from harness.submissions.project import find_project
from tests.support.systems import REPOSITORY


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, outside of a checkout."""
    folder = tmp_path / "empty"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def copy_system(name: str, folder: Path) -> Path:
    return shutil.copytree(REPOSITORY / "submissions" / name, folder / "submissions" / name)


def test_outside_of_a_checkout_the_shipped_systems_are_there(empty: Path) -> None:
    assert find_project() == empty
    assert find_systems(empty).keys() == find_systems(REPOSITORY).keys()
    assert get_system("fastformers", empty).teacher is not None
    assert PublishedTable.read(empty, "fastformers-table3").systems
    assert results_folder(empty) == empty / "results"
    assert not list(empty.iterdir())


def test_copies_in_the_package_are_used_if_there_are_any(
    empty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tmp_path / "bundled"
    shutil.copytree(REPOSITORY / "baselines", bundle / "baselines")
    copy_system("onnx-int8", bundle)
    monkeypatch.setattr(project, "BUNDLE", bundle)
    folders = find_systems(empty)
    assert "onnx-int8" in folders
    assert "fastformers" not in folders
    assert all(folder.is_relative_to(bundle) for folder in folders.values())


def test_submissions_of_the_current_folder_are_added(empty: Path) -> None:
    copy_system("onnx-int8", empty).rename(empty / "submissions" / "my-idea")
    folders = find_systems(empty)
    assert folders["my-idea"] == empty / "submissions" / "my-idea"
    assert folders.keys() - {"my-idea"} == find_systems(REPOSITORY).keys()
    system = get_system("my-idea", empty)
    assert system.teacher is not None
    assert system.teacher.folder == REPOSITORY / "baselines" / "minilm-l6"


def test_local_system_with_the_name_of_a_shipped_one_is_refused_naming_both(empty: Path) -> None:
    copy_system("onnx-int8", empty)
    with pytest.raises(ManifestError) as refused:
        find_systems(empty)
    message = str(refused.value)
    assert str(empty / "submissions" / "onnx-int8") in message
    assert str(REPOSITORY / "submissions" / "onnx-int8") in message
    assert message.endswith(f"Rename {empty / 'submissions' / 'onnx-int8'}.")


def test_checkout_wins_over_the_package(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(REPOSITORY / "baselines", empty / "baselines")
    copy_system("onnx-int8", empty)
    below = empty / "submissions" / "onnx-int8"
    monkeypatch.chdir(below)
    assert find_project() == empty
    assert find_systems(empty)["onnx-int8"] == below
    assert "fastformers" not in find_systems(empty)


def test_unknown_system_says_where_was_looked(empty: Path) -> None:
    with pytest.raises(HarnessError, match=r"or among those of the package. Did you mean 'static'"):
        get_system("statik", empty)


def test_new_submission_outside_of_a_checkout(
    empty: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["new", "my-idea", "--from", "static"]) == 0
    assert main(["check", "submissions/my-idea"]) == 0
    assert "OK. Division open" in capsys.readouterr().out
    assert main(["new", "static"]) == 2
    assert "exists already" in capsys.readouterr().err
    assert [path.name for path in empty.iterdir()] == ["submissions"]


@pytest.mark.usefixtures("empty")
def test_functions_take_the_name_of_a_shipped_system() -> None:
    assert harness.load_submission("fastformers").name == "fastformers"
    with pytest.raises(HarnessError, match="system 'fastformer' does not exist"):
        harness.load_submission("fastformer")
