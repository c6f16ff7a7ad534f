"""ONNX graphs as users and other tools export them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tokenizers import Tokenizer

from harness.engines.base import ServeConfig
from harness.errors import BuildError, ManifestError, SourceError
from harness.models import tokenization
from harness.models.pretrained import compute_key, get_checkpoint_spec
from harness.optimize.base import Artifact
from harness.submissions.checkpoint import declare_model_systems
from harness.submissions.manifest import read_system
from tests.support.adoption import adopt_checkpoint, compute_scores, random_texts, word_tokenizer
from tests.support.graphs import build_graph, get_weights

LENGTH = 24
ROWS = random_texts(12, 60)

Change = Callable[[onnx.ModelProto], object]


def save_checkpoint(folder: Path, model: onnx.ModelProto, name: str = "model.onnx") -> Path:
    (folder / name).parent.mkdir(parents=True)
    onnx.save(model, folder / name)
    word_tokenizer(0).save(str(folder / "tokenizer.json"))
    config = {"id2label": {"0": "neg", "1": "pos"}, "pad_token_id": 0}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def compute_expected(length: int = 64) -> np.ndarray:
    """The logits by NumPy, without padding."""
    embeddings, matrix = get_weights()
    tokenizer: Tokenizer = word_tokenizer(0)
    tokenizer.enable_truncation(length)
    ids = [encoding.ids for encoding in tokenization.tokenize(tokenizer, ROWS)]
    return np.stack([embeddings[row].mean(axis=0) @ matrix for row in ids])


def check_scores(artifact: Artifact, expected: np.ndarray, tolerance: float = 1e-4) -> None:
    for padding, batch in (("longest", 1), ("max", 1), ("longest", 4)):
        serve = ServeConfig("onnxruntime", padding=padding, batch=batch)
        assert compute_scores(artifact, ROWS, serve) == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize(
    "variant",
    [
        {},
        {"ids": TensorProto.INT32, "mask": TensorProto.INT32},
        {"mask": TensorProto.BOOL},
        {"mask": TensorProto.FLOAT},
        {"outputs": ("hidden", "logits")},
        {"outputs": ("hidden", "pooled", "label", "output_0")},
        {"outputs": ("pooled", "logits", "hidden"), "mask": TensorProto.BOOL},
    ],
)
def test_types_and_outputs_of_a_graph_are_looked_at(
    tmp_path: Path, variant: dict[str, Any]
) -> None:
    folder = save_checkpoint(tmp_path / "model", build_graph(**variant))
    artifact = adopt_checkpoint(folder, tmp_path / "artifact", ROWS)
    check_scores(artifact, compute_expected())
    graph = onnx.load(artifact.folder / "model.onnx").graph
    assert {value.type.tensor_type.elem_type for value in graph.input} == {TensorProto.INT64}
    assert len(graph.output) == 1


def test_openvino_serves_a_graph_without_token_types(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    folder = save_checkpoint(tmp_path / "model", build_graph(mask=TensorProto.BOOL))
    artifact = adopt_checkpoint(folder, tmp_path / "artifact", ROWS)
    scores = compute_scores(artifact, ROWS, ServeConfig("openvino", batch=4))
    assert scores == pytest.approx(compute_expected(), abs=1e-4)


def test_graph_that_fits_is_copied_byte_by_byte(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path / "model", build_graph())
    artifact = adopt_checkpoint(folder, tmp_path / "artifact", ROWS)
    name = "model.onnx"
    assert (artifact.folder / name).read_bytes() == (folder / name).read_bytes()


def test_half_precision_graph_gives_scores_in_fp32_and_is_not_quantized(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path / "model", build_graph(half=True))
    artifact = adopt_checkpoint(folder, tmp_path / "artifact", ROWS)
    assert artifact.metadata.dtype == "fp16"
    scores = compute_scores(artifact, ROWS[:1], ServeConfig("onnxruntime"))
    assert scores.dtype == np.float32
    check_scores(artifact, compute_expected(), tolerance=0.02)


def test_weights_among_the_inputs_are_no_inputs(tmp_path: Path, cache: Path) -> None:
    """As exporters wrote them before version 4 of the format."""
    model = build_graph()
    for tensor in model.graph.initializer:
        model.graph.input.append(
            helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        )
    folder = save_checkpoint(tmp_path / "model", model)
    check_scores(adopt_checkpoint(folder, tmp_path / "artifact", ROWS), compute_expected())


@pytest.mark.parametrize("location", ["weights.bin", "model.onnx.data", "parts/one"])
@pytest.mark.parametrize("linked", [False, True])
def test_weights_in_another_file_are_taken_along(
    tmp_path: Path, location: str, linked: bool
) -> None:
    """With `linked`, the files are links, as in the cache of the hub."""
    folder = save_checkpoint(tmp_path / "model", build_graph())
    model = onnx.load(folder / "model.onnx")
    (folder / location).parent.mkdir(exist_ok=True)
    onnx.save(
        model,
        folder / "model.onnx",
        save_as_external_data=True,
        location=location,
        size_threshold=0,
    )
    key = compute_key(str(folder), tmp_path)
    if linked:
        for name in ("model.onnx", location):
            blob = tmp_path / "blobs" / name
            blob.parent.mkdir(parents=True, exist_ok=True)
            (folder / name).rename(blob)
            (folder / name).symlink_to(blob)
    assert compute_key(str(folder), tmp_path) == key
    artifact = adopt_checkpoint(folder, tmp_path / "artifact", ROWS)
    assert sorted(path.name for path in artifact.folder.iterdir()) == [
        "model.onnx",
        "tokenizer.json",
    ]
    check_scores(artifact, compute_expected())
    (folder / location).write_bytes(bytes(1 << 16))
    assert compute_key(str(folder), tmp_path) != key, "the weights are part of the key"


@pytest.mark.parametrize("name", ["onnx/model.onnx", "model_quantized.onnx", "onnx/mine.onnx"])
def test_graph_is_where_other_tools_put_it(tmp_path: Path, name: str) -> None:
    folder = save_checkpoint(tmp_path / "model", build_graph(), name)
    check_scores(adopt_checkpoint(folder, tmp_path / "artifact", ROWS), compute_expected())


def test_one_of_several_graphs_must_be_called_model(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path / "model", build_graph(), "onnx/model_fp16.onnx")
    onnx.save(build_graph(), folder / "onnx" / "model_int8.onnx")
    with pytest.raises(SourceError, match=r"onnx: model_fp16.onnx, model_int8.onnx: which of the"):
        get_checkpoint_spec(str(folder), tmp_path)


def test_graph_of_one_length_is_padded_to_it(tmp_path: Path, project: Path) -> None:
    folder = save_checkpoint(tmp_path / "mine", build_graph(shape=(1, LENGTH)))
    artifact = adopt_checkpoint(folder, tmp_path / "artifact", ROWS)
    assert artifact.metadata.max_length == artifact.metadata.model["length"] == LENGTH
    scores = compute_scores(artifact, ROWS, ServeConfig("onnxruntime", padding="max"))
    assert scores == pytest.approx(compute_expected(LENGTH), abs=1e-4)
    folders = declare_model_systems(str(folder), {})
    assert list(folders) == ["mine", "mine-int8"]
    for name, system_folder in folders.items():
        assert read_system(system_folder, project).serve["offline"].padding == "max", name
    manifest = (folders["mine"] / "submission.toml").read_text()
    for number, (old, new, fault) in enumerate(
        [
            ('"max"', '"longest"', "takes exactly 24 tokens: set padding = 'max'"),
            ("batch = 1", "batch = 8", "takes one text at once: set batch = 1"),
        ]
    ):
        changed = tmp_path / f"changed-{number}"
        changed.mkdir()
        (changed / "submission.toml").write_text(manifest.replace(old, new))
        with pytest.raises(ManifestError, match=fault):
            read_system(changed, project)


def test_graph_longer_than_the_tasks_maximum_keeps_the_tasks(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path / "mine", build_graph(shape=("batch", 100)))
    rows = [(" ".join(f"w{number % 60}" for number in range(90)),), *ROWS]
    artifact = adopt_checkpoint(folder, tmp_path / "artifact", rows)
    assert (artifact.metadata.max_length, artifact.metadata.model["length"]) == (64, 100)
    scores = compute_scores(artifact, ROWS, ServeConfig("onnxruntime", padding="max", batch=4))
    assert scores == pytest.approx(compute_expected(64), abs=1e-4)


def rename(old: str, new: str) -> Change:
    def change(model: onnx.ModelProto) -> None:
        for value in model.graph.input:
            value.name = new if value.name == old else value.name
        for node in model.graph.node:
            node.input[:] = [new if name == old else name for name in node.input]

    return change


def remove_padding(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"pad_token_id": None}))


@pytest.mark.parametrize(
    ("variant", "change", "fault"),
    [
        ({}, rename("attention_mask", "input_mask"), "has an input input_mask. Export it with"),
        ({}, rename("input_ids", "token_type_ids"), "has no input input_ids"),
        ({"shape": (4, "sequence")}, None, "takes exactly 4 texts at once"),
        ({"shape": ("batch", "sequence", 1)}, None, "3 dimensions"),
        ({"ids": TensorProto.DOUBLE}, None, "input input_ids has type DOUBLE"),
    ],
)
def test_graph_that_no_engine_can_feed_is_refused_when_it_is_read(
    tmp_path: Path, variant: dict[str, Any], change: Change | None, fault: str
) -> None:
    model = build_graph(**variant)
    if change:
        change(model)
    folder = save_checkpoint(tmp_path / "model", model)
    with pytest.raises(SourceError, match=fault):
        get_checkpoint_spec(str(folder), tmp_path)


def test_graph_of_one_length_needs_a_padding_token(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path / "model", build_graph(shape=(1, LENGTH)))
    remove_padding(folder)
    with pytest.raises(SourceError, match=r"takes exactly 24 tokens, but config.json names no pad"):
        get_checkpoint_spec(str(folder), tmp_path)


def test_graph_without_logits_is_refused_with_what_it_gives(tmp_path: Path) -> None:
    model = build_graph(outputs=("hidden", "pooled", "logits"))
    del model.graph.output[2]
    folder = save_checkpoint(tmp_path / "model", model)
    with pytest.raises(
        BuildError,
        match=r"model.onnx gives hidden \[1, \d+, 8\], pooled \[1, 8\] .* has 2 labels. Export",
    ):
        adopt_checkpoint(folder, tmp_path / "artifact", ROWS)


def test_graph_that_onnxruntime_does_not_know_is_refused(tmp_path: Path) -> None:
    model = build_graph()
    model.graph.node[0].op_type = "Grasp"
    folder = save_checkpoint(tmp_path / "model", model)
    with pytest.raises(BuildError, match=r"onnxruntime cannot use model.onnx .*Grasp"):
        adopt_checkpoint(folder, tmp_path / "artifact", ROWS)


def test_token_without_an_embedding_is_refused(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path / "model", build_graph())
    tokenizer = word_tokenizer(0)
    tokenizer.add_special_tokens(["[NEW]"])
    tokenizer.save(str(folder / "tokenizer.json"))
    with pytest.raises(BuildError, match=r"fails on the token '\[NEW\]' of its own tokenizer"):
        adopt_checkpoint(folder, tmp_path / "artifact", ROWS)


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("pytorch_model.bin", "may hold a pickle, which is never loaded.*save_pretrained"),
        ("adapter_model.safetensors", "is an adapter: merge it"),
        ("model.fp16.safetensors", "Rename it to model.safetensors"),
        ("tf_model.h5", "belongs to another framework"),
        ("model.gguf", "No engine reads that format"),
        ("checkpoint-500/config.json", "Name the folder that holds the model"),
        ("README.md", "Save the model again with transformers"),
    ],
)
def test_folder_without_weights_says_what_lies_there(
    tmp_path: Path, name: str, remedy: str
) -> None:
    folder = save_checkpoint(tmp_path / "model", build_graph())
    (folder / "model.onnx").unlink()
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"{}")
    with pytest.raises(SourceError, match=f"neither model.safetensors nor model.onnx.*{remedy}"):
        get_checkpoint_spec(str(folder), tmp_path)
