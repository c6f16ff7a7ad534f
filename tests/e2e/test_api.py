"""The Python interface, with folders and with loaded systems."""

import re
from functools import partial
from pathlib import Path

import pytest

import harness
from harness.errors import HarnessError
from harness.runner.config import SMOKE, RunConfig
from harness.tasks.task import Task
from tests.support.systems import REPOSITORY


@pytest.fixture
def folder(built_project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(built_project)
    monkeypatch.setattr("harness.api.RunConfig", partial(RunConfig, timing=SMOKE))
    return built_project / "submissions" / "onnx-int8"


def test_systems_are_built_measured_with_the_references_and_loaded(
    folder: Path, reviews: Task
) -> None:
    system = harness.load_submission(folder)
    artifact = harness.build_submission(system, reviews.address)
    assert artifact is not None
    assert artifact == harness.build_submission(folder, reviews.address)
    session = harness.measure_submissions(
        [system, folder], configuration="cpu-1", rounds=1, tasks=[reviews.address]
    )
    frame = harness.load_records("results/records")
    assert set(frame["session"]) == {session}
    assert set(frame["system"]) == {"minilm-l6", "minilm-l6-unpadded", "null", "onnx-int8"}


def test_loaded_system_is_exported(folder: Path, reviews: Task, tmp_path: Path) -> None:
    system = harness.load_submission(folder)
    out = harness.export_system(system, tmp_path / "out", reviews.address)
    assert (out / "predict.py").is_file()
    with pytest.raises(HarnessError, match="out"):
        harness.export_system(folder, out, reviews.address)


def test_what_cannot_be_done_is_one_message(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="Give at least one folder"):
        harness.measure_submissions([])
    with pytest.raises(HarnessError, match="there is no record"):
        harness.load_records(tmp_path / "records")


@pytest.mark.parametrize("document", ["README.md", "docs/reference/api.md"])
def test_example_of_the_documents_runs(
    document: str, folder: Path, reviews: Task, capsys: pytest.CaptureFixture[str]
) -> None:
    """As written, but on the small task and in one block."""
    (code,) = re.findall(r"(?s)```python\n(.*?)```", (REPOSITORY / document).read_text())
    code = code.replace('== "sentiment"', f'== "{reviews.name}"')
    code = code.replace('"sentiment"', repr(reviews.address)).replace("rounds=2", "rounds=1")
    exec(code, {})
    (exported,) = folder.parent.parent.glob("fast-model")
    assert (exported / "predict.py").is_file()
    if "print(" in code:
        assert re.search(r"onnx-int8 .* \d", capsys.readouterr().out)
