"""The committed JSON Schemas: those of the models, and right about every committed file."""

import importlib.util
import json
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest

from harness.submissions.scaffold import create_submission
from tests.support.systems import REPOSITORY
from tests.support.words_task import write_words_task

SCHEMAS = REPOSITORY / "docs" / "schemas"
MANIFESTS = sorted(
    path
    for pattern in ("baselines/*", "submissions/*", "tests/data/submissions/*")
    for path in REPOSITORY.glob(f"{pattern}/submission.toml")
)


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    """The script that writes the schemas."""
    spec = importlib.util.spec_from_file_location("s", REPOSITORY / "docs" / "json_schemas.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def validator(name: str) -> jsonschema.Draft7Validator:
    schema = json.loads((SCHEMAS / f"{name}.schema.json").read_text())
    jsonschema.Draft7Validator.check_schema(schema)
    return jsonschema.Draft7Validator(schema)


def find_faults(name: str, value: Any) -> list[str]:
    return [error.message for error in validator(name).iter_errors(value)]


def read_manifest(name: str) -> dict[str, Any]:
    return tomllib.loads((REPOSITORY / "submissions" / name / "submission.toml").read_text())


def test_committed_schemas_are_those_of_the_models(generator: ModuleType) -> None:
    schemas = generator.build_schemas()
    assert {path.name for path in SCHEMAS.iterdir()} == set(schemas)
    for name, schema in schemas.items():
        remedy = "run: python docs/json_schemas.py"
        assert (SCHEMAS / name).read_text() == generator.format_schema(schema), remedy


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.parent.name)
def test_every_committed_manifest_is_accepted(path: Path) -> None:
    assert find_faults("submission", tomllib.loads(path.read_text())) == []


@pytest.mark.parametrize("custom", ["", "module", "command"])
def test_new_manifests_are_accepted(custom: str, project: Path) -> None:
    folder = create_submission("mine", project, "", custom)
    manifest = (folder / "submission.toml").read_text()
    assert find_faults("submission", tomllib.loads(manifest)) == []


def test_task_files_are_accepted(tmp_path: Path) -> None:
    guide = (REPOSITORY / "docs" / "guides" / "own-data-and-model.md").read_text()
    printed = guide.partition("```toml\n")[2].partition("```")[0]
    for text in (write_words_task(tmp_path / "words").read_text(), printed):
        assert find_faults("task", tomllib.loads(text)) == []


def test_every_committed_record_is_accepted() -> None:
    check = validator("record")
    folders = (REPOSITORY / "results", REPOSITORY / "tests" / "data" / "board")
    paths = [path for folder in folders for path in folder.rglob("records/*/*/*/*.json")]
    assert len(paths) > 100
    for path in paths:
        faults = [error.message for error in check.iter_errors(json.loads(path.read_bytes()))]
        assert faults == [], path


def change_head(manifest: dict[str, Any]) -> None:
    manifest["titel"] = "x"


def change_model(manifest: dict[str, Any]) -> None:
    manifest["model"]["members"] = ["static", "fastformers"]


def change_step(manifest: dict[str, Any]) -> None:
    manifest["step"][0]["optimise"] = True


def change_range(manifest: dict[str, Any]) -> None:
    manifest["step"].append({"use": "prune", "heads": 0, "ffn": 8})


def change_required(manifest: dict[str, Any]) -> None:
    manifest["step"].append({"use": "prune", "heads": 4})


def change_serve(manifest: dict[str, Any]) -> None:
    manifest["serve"]["offline"]["batches"] = 2


def change_engine(manifest: dict[str, Any]) -> None:
    manifest["serve"]["module"] = "model.py"


@pytest.mark.parametrize(
    "change",
    [
        *(change_head, change_model, change_step, change_range),
        *(change_required, change_serve, change_engine),
    ],
)
def test_unknown_key_or_wrong_value_in_a_manifest_is_refused(change: Any) -> None:
    manifest = read_manifest("onnx-int8")
    manifest["serve"].setdefault("offline", {})
    assert find_faults("submission", manifest) == []
    change(manifest)
    assert find_faults("submission", manifest) != []


def test_steps_of_another_package_are_accepted() -> None:
    manifest = read_manifest("onnx-int8")
    manifest["step"] = [{"use": "keywords", "words": 20}]
    assert find_faults("submission", manifest) == []


def test_unknown_key_in_a_task_file_is_refused(tmp_path: Path) -> None:
    task = tomllib.loads(write_words_task(tmp_path / "words").read_text())
    task["fields"]["lable"] = "label"
    assert len(find_faults("task", task)) == 1


def test_every_key_that_a_person_writes_is_described() -> None:
    for name in ("submission", "task"):
        schema = validator(name).schema
        pending = [schema]
        while pending:
            table = pending.pop()
            for key, value in table.get("properties", {}).items():
                assert "description" in value or "const" in value or key in NAMELESS, key
                pending += [value, *value.get("items", {}).get("oneOf", [])]


NAMELESS = {"use"}
