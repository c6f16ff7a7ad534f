"""What a kit holds."""

import json
import os
import platform
import zipfile
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet
from safetensors.numpy import load_file

from harness.cli.main import main
from harness.errors import SourceError
from harness.kit.kit import Kit
from harness.kit.pack import _replace_encoders
from harness.kit.weights import round_encoder
from harness.models.checkpoint_files import read_dtype
from harness.models.load_checkpoint import from_pretrained
from harness.tasks.registry import get_task
from harness.tasks.splits import sample_rows
from harness.tasks.superglue import _sample_parquet
from harness.tasks.task import Task, _load_examples
from tests.support.systems import build_all

HERE = ".".join(platform.python_version_tuple()[:2])


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a machine has that lacks nothing."""
    monkeypatch.setattr("harness.kit.packages.Target.has", lambda target, requirement: True)
    path = tmp_path / "packages.txt"
    path.touch()
    return path


def pack(
    project: Path, packages: Path, *options: str, monkeypatch: pytest.MonkeyPatch
) -> zipfile.ZipFile:
    monkeypatch.chdir(project)
    out = packages.with_name("kit.zip")
    command = ["pack", str(out), "--configuration", "cpu-1", "--target-packages", str(packages)]
    assert main([*command, *options]) == 0
    return zipfile.ZipFile(out)


def test_kit_holds_code_systems_weights_and_data_and_no_more(
    project: Path,
    reviews: Task,
    packages: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = ["--system", "distilled-int8", "--task", reviews.address, "--rounds", "2"]
    with pack(project, packages, *options, monkeypatch=monkeypatch) as file:
        names = set(file.namelist())
        kit = Kit.model_validate_json(file.read("kit.json"))
    systems = {name.split("/")[2] for name in names if name.endswith("/submission.toml")}
    assert systems == {
        *("minilm-l6", "minilm-l6-unpadded", "null", "distilled", "distilled-int8"),
    }, "with the teacher"
    assert {name for name in names if name.startswith("data/")} == {
        f"data/tasks/reviews/{name}"
        for name in ("task.toml", "train.jsonl", "selection.jsonl", "validation.jsonl")
    }
    assert {name for name in names if "encoders/" in name} == {
        f"code/encoders/encoder0/{name}"
        for name in ("config.json", "model.safetensors", "tokenizer.json")
    }
    assert "code/harness/worker/process.py" in names
    assert not [name for name in names if name.endswith(".pyc") or "tests" in name]
    assert (kit.python, kit.rounds, kit.minutes) == (HERE, 2, 10)
    (session,) = kit.sessions
    assert session.task == "tasks/reviews/task.toml"
    assert session.systems == ("distilled-int8", "minilm-l6", "minilm-l6-unpadded", "null")
    out = capsys.readouterr().out
    assert "start weights" in out
    assert "measures: reviews under cpu-1: distilled-int8, minilm-l6" in out


def test_weights_in_fp16_are_half_as_large_and_train_in_fp32(
    tiny_encoder: Path, tmp_path: Path
) -> None:
    round_encoder(tiny_encoder, tmp_path / "rounded")
    whole = load_file(tiny_encoder / "model.safetensors")
    rounded = load_file(tmp_path / "rounded" / "model.safetensors")
    assert whole.keys() == rounded.keys()
    for name, value in rounded.items():
        if value.dtype == np.float16:
            np.testing.assert_array_equal(value, whole[name].astype(np.float16))
    assert (read_dtype(tiny_encoder), read_dtype(tmp_path / "rounded")) == ("fp32", "fp16")
    model = from_pretrained(tmp_path / "rounded", 2)
    assert {str(parameter.dtype) for parameter in model.parameters()} == {"torch.float32"}
    assert sorted(path.name for path in (tmp_path / "rounded").iterdir()) == sorted(
        path.name for path in tiny_encoder.iterdir()
    )


def test_weights_that_fp16_cannot_hold_are_refused(tiny_encoder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    for path in tiny_encoder.iterdir():
        os.link(path, tmp_path / path.name)
    weights = load_file(tiny_encoder / "model.safetensors")
    weights["embeddings.word_embeddings.weight"][0, 0] = 1e6
    (tmp_path / "model.safetensors").unlink()
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(SourceError, match=r"has values that fp16 cannot hold. Pack it in fp32"):
        round_encoder(tmp_path, tmp_path / "out")


def test_manifests_name_the_encoders_of_the_kit() -> None:
    manifest = """
title = "all-MiniLM-L6-v2 and more"
[model]
pretrained = 'all-MiniLM-L6-v2'  # the usual one
[[step]]
student = "other"
"""
    names = {"all-MiniLM-L6-v2": "../../encoders/x"}
    assert _replace_encoders(manifest, names) == manifest.replace(
        "'all-MiniLM-L6-v2'", '"../../encoders/x"'
    )


def test_data_of_a_part_is_another_version_and_the_validation_split_is_complete(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = get_task("boolq")
    whole = {split: len(task.examples(split)) for split in ("train", "selection", "validation")}
    assert task.pack
    versions = {task.version}
    for name, count in (("all", 0), ("part", 10)):
        monkeypatch.setenv("WATTBENCH_DATA", str(data))
        assert task.pack(tmp_path / name, count) == "boolq"
        monkeypatch.setenv("WATTBENCH_DATA", str(tmp_path / name))
        _load_examples.cache_clear()
        packed = {split: len(task.examples(split)) for split in whole}
        assert packed["validation"] == whole["validation"]
        assert packed["train"] + packed["selection"] == (count or 24)
        versions.add(task.version)
    assert len(versions) == 2, "only the part is another"


def test_data_of_an_intermediate_task_is_packed_too(
    project: Path, data: Path, packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = project / "baselines" / "minilm-l6" / "submission.toml"
    text = manifest.read_text()
    manifest.write_text(text.replace("[serve]", '[step.tasks.cb]\nintermediate = "rte"\n[serve]'))
    with pack(project, packages, "--task", "cb", monkeypatch=monkeypatch) as file:
        names = {name for name in file.namelist() if name.startswith("data/")}
        kit = Kit.model_validate_json(file.read("kit.json"))
    assert names == {
        f"data/{task}/{split}.jsonl" for task in ("CB", "RTE") for split in ("train", "val")
    }
    assert [session.task for session in kit.sessions] == ["cb"]


def test_sample_is_the_same_for_any_order_of_the_rows() -> None:
    rows = [str(number).encode() for number in range(100)]
    sample = [rows[number] for number in sample_rows(rows, 10)]
    again = [rows[::-1][number] for number in sample_rows(rows[::-1], 10)]
    assert sorted(sample) == sorted(again)
    assert len(sample) == 10
    assert sample_rows(rows, 0) == sample_rows(rows, 500) == list(range(100))


def test_sample_of_a_parquet_file_keeps_the_names_of_its_classes(tmp_path: Path) -> None:
    metadata = {b"huggingface": b'{"info": {}}'}
    table = pyarrow.table({"idx": list(range(50))}).replace_schema_metadata(metadata)
    parquet.write_table(table, tmp_path / "all.parquet")
    _sample_parquet(tmp_path / "all.parquet", 7, tmp_path / "part.parquet")
    part = parquet.read_table(tmp_path / "part.parquet")
    assert part.num_rows == 7
    assert part.schema.metadata[b"huggingface"] == metadata[b"huggingface"]
    numbers = part["idx"].to_pylist()
    assert numbers == sorted(numbers)


def test_artifacts_are_packed_instead_of_weights(
    built_project: Path, reviews: Task, packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_all(built_project, ["onnx-int8", "null"], reviews)
    options = ["--system", "onnx-int8", "--task", reviews.address, "--with-artifacts"]
    with pack(built_project, packages, *options, monkeypatch=monkeypatch) as file:
        names = file.namelist()
        texts = [file.read(name) for name in names if name.endswith("/artifact.json")]
    packed = [json.loads(text)["recipe"][-1]["use"] for text in texts]
    assert sorted(packed) == ["export", "finetune", "quantize"], "int8 depends on the machine"
    assert not [name for name in names if "encoders/" in name]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "under which configuration? Name it with --configuration. Known: cpu-1"),
        (["--configuration", "cpu-3"], "configuration 'cpu-3' does not exist. Did you mean 'cpu-"),
        (
            ["--configuration", "cpu-1", "--system", "cuda-fp16"],
            "--system cuda-fp16 needs a GPU: add --configuration gpu-1",
        ),
        (
            ["--configuration", "cpu-1", "--system", "gpu-1:cuda-fp16"],
            "--system gpu-1:cuda-fp16: add --configuration gpu-1, or correct its name",
        ),
        (["--configuration", "cpu-1", "--examples", "boolq"], "write TASK=N, such as boolq=2000"),
        (
            ["--configuration", "cpu-1", "--examples", "boolq=5"],
            "--examples boolq: the kit has no such training data, only that of reviews",
        ),
        (
            ["--configuration", "cpu-1", "--examples", "reviews=5"],
            "Shorten train.jsonl itself, and leave --examples out",
        ),
        (
            ["--configuration", "cpu-1", "--with-artifacts", "--precision", "fp16"],
            "Leave it out, or --precision and --examples",
        ),
        (["--configuration", "cpu-1", "--with-artifacts"], "is not built for reviews. Run: watt"),
        (
            ["--configuration", "cpu-1", "--max-mib", "0.01"],
            "but --max-mib is 0.01. The largest part is code",
        ),
    ],
)
def test_what_cannot_be_packed_is_one_message(
    project: Path,
    reviews: Task,
    packages: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(project)
    out = packages.with_name("kit.zip")
    command = ["pack", str(out), "--task", reviews.address, "--target-packages", str(packages)]
    assert main([*command, *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not out.exists()
    assert not list(out.parent.glob(".kit.zip*"))
