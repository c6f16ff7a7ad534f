"""Paths of a manifest that is written elsewhere."""

from pathlib import Path

import pytest
import tomli_w

from harness.schema import read_toml
from harness.submissions.ablation import create_variants
from harness.submissions.manifest import read_system
from harness.submissions.plan import plan_system
from harness.submissions.relocate import relocate
from harness.tasks.registry import get_task
from tests.support.words_task import write_words_task

MANIFEST = {
    "title": "a",
    "authors": ["a"],
    "licence": "MIT",
    "division": "open",
    "tasks": ["../../words/task.toml", "sentiment"],
    "model": {"pretrained": "encoder"},
    "step": [{"use": "finetune"}, {"use": "export"}],
    "serve": {"engine": "onnxruntime", "padding": "longest"},
}


@pytest.fixture
def folder(tmp_path: Path, cache: Path, tiny_encoder: Path) -> Path:
    """A submission whose task and encoder are given by relative paths."""
    write_words_task(tmp_path / "words")
    folder = tmp_path / "submissions" / "mine"
    folder.mkdir(parents=True)
    (folder / "encoder").symlink_to(tiny_encoder)
    (folder / "submission.toml").write_text(tomli_w.dumps(MANIFEST))
    return folder


@pytest.mark.parametrize("relative", [True, False])
def test_a_moved_manifest_declares_the_same_system(
    folder: Path, tmp_path: Path, relative: bool
) -> None:
    other = tmp_path / "deep" / "er" / "moved"
    other.mkdir(parents=True)
    moved = relocate(read_toml(folder / "submission.toml"), folder, other if relative else None)
    (other / "submission.toml").write_text(tomli_w.dumps(moved))
    task = get_task(str(tmp_path / "words" / "task.toml"))
    keys = [
        [step.key for step in plan_system(read_system(place), task, 0).steps]
        for place in (folder, other)
    ]
    assert keys[0] == keys[1]
    assert moved["tasks"][1] == "sentiment"
    assert moved["tasks"][0].startswith("..") == relative


def test_names_are_left_as_they_are(tmp_path: Path) -> None:
    models = (
        {"teacher": "minilm-l6"},
        {"pretrained": "all-MiniLM-L6-v2"},
        {"members": ["static", "fastformers"]},
    )
    for model in models:
        manifest = MANIFEST | {"model": model, "tasks": ["any"]}
        assert relocate(manifest, tmp_path, tmp_path / "other") == manifest


def test_paths_of_systems_are_moved(tmp_path: Path) -> None:
    manifest = MANIFEST | {"model": {"members": ["./a", "b"]}, "tasks": ["any"]}
    moved = relocate(manifest, tmp_path / "one", tmp_path / "two")
    assert moved["model"]["members"] == ["../one/a", "b"]


def test_a_system_with_relative_paths_can_be_ablated(folder: Path, tmp_path: Path) -> None:
    variants = create_variants(read_system(folder), tmp_path)
    names = {variant.name for variant in variants}
    assert names >= {"mine-without-padding", "mine-without-export"}
