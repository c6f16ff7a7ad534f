import itertools
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.engines import registry
from harness.engines.base import EngineConfig, ServeConfig
from harness.errors import BuildError, HarnessError, ManifestError
from harness.optimize import export, prune, quantize
from harness.optimize.base import Artifact, Inputs, StepContext
from harness.optimize.export import Export
from harness.optimize.prune import Prune
from harness.optimize.quantize import Quantize
from harness.submissions.manifest import read_system
from harness.tasks.task import Example
from tests.support.systems import write_submission
from tests.support.words import TASK, keep, scores, share_right
from tests.support.workers import ENOUGH

TEXTS = [example.candidates for example in TASK.examples("validation")]


def quantized(artifact: Artifact, out: Path, **params: Any) -> Artifact:
    context = StepContext(out, 0, 2)
    return keep(out, quantize.run(Inputs(artifact), TASK, Quantize(**params), context))


def served(artifact: Artifact, name: str, threads: int = 2, **serve: Any) -> Any:
    return registry.load_engine(
        EngineConfig(artifact.folder, artifact.engine_metadata, ServeConfig(name, **serve), threads)
    )


def test_static_quantization_keeps_the_answers(exported: Artifact, tmp_path: Path) -> None:
    artifact = quantized(exported, tmp_path, method="static", calibration=64)
    kinds = [node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node]
    assert "MatMulIntegerToFloat" in kinds
    assert not {"DynamicQuantizeLinear", "MatMulInteger"} & set(kinds), "all scales are fixed"
    if not exported.metadata.model["buckets"]:
        assert "QAttention" in kinds  # fused attention stays fused, and is quantized too
    assert [path.name for path in tmp_path.glob("*.onnx")] == ["model.onnx"]
    assert share_right(scores(artifact)) >= share_right(scores(exported)) - 0.02
    assert artifact.metadata.details["selection"]["before"] >= 0.95


@pytest.fixture(scope="module")
def fixed(finetuned: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    exported = tmp_path_factory.mktemp("exported")
    context = StepContext(exported, 0, 2)
    artifact = keep(exported, export.run(Inputs(finetuned), TASK, Export(), context))
    return quantized(artifact, tmp_path_factory.mktemp("fixed"), method="static", calibration=64)


@settings(deadline=None, max_examples=25)
@given(
    rows=st.lists(st.integers(0, len(TEXTS) - 1), min_size=1, max_size=40),
    batch=st.integers(2, 20),
    order=st.sampled_from(["given", "by-length"]),
)
def test_answers_of_static_int8_do_not_depend_on_the_batch(
    fixed: Artifact, rows: list[int], batch: int, order: str
) -> None:
    alone = scores(fixed)
    loaded = served(fixed, "onnxruntime", batch=batch, order=order)
    together = loaded.scores([TEXTS[row] for row in rows])
    np.testing.assert_allclose(together, alone[rows], atol=1e-3)
    assert np.array_equal(together.argmax(1), alone[rows].argmax(1))


def test_key_of_static_int8_tells_how_scales_are_fixed() -> None:
    """Artifacts of onnxruntime's static quantizer, and all others, keep their keys."""
    assert Quantize(method="static").key_values()["scales"] == 2
    for params in (Quantize(), Quantize(by="nncf", method="static"), Quantize(dtype="fp16")):
        assert "scales" not in params.key_values()


def test_half_precision_weights_are_half_as_large(finetuned: Artifact, tmp_path: Path) -> None:
    whole = (finetuned.folder / "model.safetensors").stat().st_size
    expected = scores(finetuned)
    for dtype in ("bf16", "fp16"):
        out = tmp_path / dtype
        out.mkdir()
        artifact = quantized(finetuned, out, dtype=dtype)
        assert (out / "model.safetensors").stat().st_size < 0.55 * whole
        result = scores(artifact)
        assert result.dtype == np.float32
        np.testing.assert_allclose(result, expected, atol=0.1)
        assert np.abs(result - expected).max() > 0  # the precision really differs


def test_half_precision_graph_agrees(exported: Artifact, tmp_path: Path) -> None:
    artifact = quantized(exported, tmp_path, dtype="fp16")
    kinds = {tensor.data_type for tensor in onnx.load(tmp_path / "model.onnx").graph.initializer}
    assert onnx.TensorProto.FLOAT16 in kinds
    np.testing.assert_allclose(scores(artifact), scores(exported), atol=0.05)


def test_empty_calibration_slice_is_a_build_error(exported: Artifact, tmp_path: Path) -> None:
    def empty(split: str) -> tuple[Example, ...]:
        return () if split == "train" else TASK.examples(split)

    task = replace(TASK, name="empty", load=empty)
    params = Quantize(method="static")
    with pytest.raises(BuildError, match="no training examples to calibrate on"):
        quantize.run(Inputs(exported), task, params, StepContext(tmp_path, 0, 1))


EXPORT = '[[step]]\nuse = "export"\n'
QUANTIZE = '[[step]]\nuse = "quantize"\n'
ORT, TORCH = 'engine = "onnxruntime"', 'engine = "pytorch"'

FAULTS = {
    (EXPORT + QUANTIZE + '[[step]]\nuse = "finetune"', ORT): (
        "step 3 'finetune': it takes encoder or safetensors, but gets onnx"
    ),
    (QUANTIZE + 'dtype = "bf16"\n[[step]]\nuse = "finetune"', TORCH): (
        "step 2 'finetune': it needs fp32 weights, but gets bf16; quantize after it"
    ),
    (QUANTIZE + 'dtype = "fp16"\n[[step]]\nuse = "prune"\nheads = 1\nffn = 1', TORCH): (
        "step 2 'prune': it needs fp32 weights, but gets fp16"
    ),
    (QUANTIZE + 'dtype = "bf16"\n' + EXPORT, ORT): (
        "step 2 'export': it needs fp32 weights, but gets bf16; quantize after it"
    ),
    (EXPORT + QUANTIZE + 'dtype = "bf16"', ORT): "bf16 is made from safetensors, but it gets onnx",
    (
        EXPORT + QUANTIZE + QUANTIZE,
        ORT,
    ): "step 3 'quantize': it needs fp32, but gets int8: quantize",
    (EXPORT + QUANTIZE + 'method = "static"\ncalibration = 0', ORT): (
        "calibration = 0: choose 1 or above"
    ),
    (EXPORT + QUANTIZE + 'by = "intel"', ORT): "by = 'intel': choose 'onnxruntime' or 'nncf'",
    (EXPORT + QUANTIZE, 'engine = "openvino"'): "engine 'openvino' cannot serve a graph that",
    (EXPORT + QUANTIZE + 'by = "nncf"', ORT): "engine 'onnxruntime' cannot serve openvino",
    (EXPORT + 'norm = "none"', ORT): "norm = 'none': choose 'layer' or 'skip'",
    (EXPORT, ORT + "\ninstances = 0"): r"instances = 0: choose 1..256 or 'per-core'",
    (EXPORT, ORT + '\ninstances = "many"'): r"instances = 'many': choose 1..256 or 'per-core'",
}


@pytest.mark.parametrize(("steps", "serve"), FAULTS)
def test_impossible_recipe_is_refused_before_anything_is_built(
    project: Path, steps: str, serve: str
) -> None:
    folder = write_submission(project, steps, serve)
    with pytest.raises(ManifestError, match=FAULTS[steps, serve]):
        read_system(folder, project)


def test_single_stream_has_one_instance(project: Path) -> None:
    serve = ORT + '\ninstances = "per-core"'
    system = read_system(write_submission(project, EXPORT, serve), project)
    assert system.serve["offline"].count_instances(4) == 4
    assert system.serve["single_stream"].count_instances(4) == 1


def test_instances_never_outnumber_the_threads() -> None:
    assert ServeConfig("x", instances=8).count_instances(2) == 2
    assert EngineConfig(Path(), {}, ServeConfig("x", instances=2), 5).threads_per_instance == 2
    assert (
        EngineConfig(Path(), {}, ServeConfig("x", instances="per-core"), 4).threads_per_instance
        == 1
    )


@pytest.mark.parametrize("name", ["onnxruntime", "openvino", "pytorch"])
@pytest.mark.parametrize("serve", [{}, {"batch": 5, "order": "by-length"}], ids=["one", "batched"])
def test_instances_give_the_same_scores_in_the_same_order(
    finetuned: Artifact, exported: Artifact, name: str, serve: dict[str, Any]
) -> None:
    artifact = finetuned if name == "pytorch" else exported
    loaded = served(artifact, name, instances=2, **serve)
    np.testing.assert_allclose(loaded.scores(TEXTS), scores(finetuned), atol=1e-4)
    np.testing.assert_allclose(loaded.scores(TEXTS[:1]), scores(finetuned)[:1], atol=1e-4)


def test_instances_of_pytorch_are_processes(finetuned: Artifact) -> None:
    import psutil

    before = {child.pid for child in psutil.Process().children()}
    loaded = served(finetuned, "pytorch", instances=2)
    after = {child.pid for child in psutil.Process().children()}
    assert len(loaded.scores(TEXTS)) == len(TEXTS)
    assert len(after - before) >= 2


def test_process_that_cannot_load_says_why(tmp_path: Path, finetuned: Artifact) -> None:
    (tmp_path / "tokenizer.json").write_bytes((finetuned.folder / "tokenizer.json").read_bytes())
    empty = Artifact(tmp_path, finetuned.metadata)
    with pytest.raises(RuntimeError, match=r"BuildError.*model\.safetensors"):
        served(empty, "pytorch", instances=2)


def test_fault_of_one_instance_reaches_the_caller(exported: Artifact) -> None:
    loaded = served(exported, "onnxruntime", instances=2)

    def failing(batch: Any) -> Any:
        raise RuntimeError("out of memory")

    loaded.forward = failing
    with pytest.raises(RuntimeError, match="out of memory"):
        loaded.scores(TEXTS)


def test_openvino_serves_the_exported_graph(exported: Artifact) -> None:
    result = served(exported, "openvino").scores(TEXTS)
    np.testing.assert_allclose(result, scores(exported), atol=1e-4)


def test_openvino_serves_a_graph_quantized_by_nncf(exported: Artifact, tmp_path: Path) -> None:
    artifact = quantized(exported, tmp_path, by="nncf", calibration=32)
    assert artifact.format == "openvino"
    assert {path.name for path in tmp_path.iterdir()} == {
        "artifact.json",
        "model.bin",
        "model.xml",
        "tokenizer.json",
    }
    right = share_right(served(artifact, "openvino").scores(TEXTS))
    assert right >= share_right(scores(exported)) - 0.02
    assert artifact.metadata.details["selection"]["after"] >= 0.95


def test_openvino_refuses_a_graph_with_quantized_fused_attention(
    exported: Artifact, tmp_path: Path
) -> None:
    artifact = quantized(exported, tmp_path)
    if exported.metadata.model["buckets"]:  # without fused attention it has standard operators
        assert share_right(served(artifact, "openvino").scores(TEXTS)) > 0.95
        return
    with pytest.raises(HarnessError, match="quantize with by = 'nncf'"):
        served(artifact, "openvino")


def test_missing_extra_names_the_command(
    exported: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.delitem(sys.modules, "harness.engines.openvino", raising=False)
    with pytest.raises(HarnessError, match=r"pip install 'wattbench\[openvino\]'"):
        served(exported, "openvino")
    with pytest.raises(BuildError, match=r"pip install 'wattbench\[openvino\]'"):
        quantized(exported, tmp_path, by="nncf")


def test_missing_gpu_is_refused_in_one_line(finetuned: Artifact, exported: Artifact) -> None:
    for artifact, name in ((finetuned, "pytorch"), (exported, "onnxruntime")):
        config = EngineConfig(
            artifact.folder, artifact.engine_metadata, ServeConfig(name), 1, "cuda"
        )
        with pytest.raises(HarnessError, match=r"cuda|CUDA") as caught:
            registry.load_engine(config)
        assert "\n" not in str(caught.value)


def test_cuda_graphs_need_a_gpu(finetuned: Artifact) -> None:
    with pytest.raises(HarnessError, match="cuda_graphs needs a GPU"):
        served(finetuned, "pytorch", cuda_graphs=True)


def test_recorded_shapes_answer_as_the_model_does(
    finetuned: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in replays: it computes from the recorded inputs into the recorded logits."""
    from types import SimpleNamespace

    import torch

    from harness.engines import pytorch
    from harness.engines.batching import EncoderEngine
    from harness.models import classifier

    replayed = []

    def record(self: pytorch.CudaGraphs, rows: int, length: int) -> Any:
        inputs = torch.ones((3, rows, length), dtype=torch.int64)
        logits = torch.empty(rows, 2)

        def replay() -> None:
            replayed.append((rows, length))
            logits.copy_(self._model(*inputs))

        on_gpu = SimpleNamespace(cpu=lambda: logits.clone())  # as from a GPU, a copy
        return SimpleNamespace(replay=replay), inputs, on_gpu

    monkeypatch.setattr(pytorch.CudaGraphs, "_record", record)
    serve = ServeConfig("pytorch", batch=4, cuda_graphs=True)
    config = EngineConfig(finetuned.folder, finetuned.engine_metadata, serve, 1)
    spec = classifier.EncoderSpec.from_dict(finetuned.metadata.model)
    model = classifier.load(finetuned.folder, spec)
    model.bert.encoder.always_masked = True
    engine = EncoderEngine(config, pytorch.CudaGraphs(model, config).forward)
    texts = [*TEXTS[:9], [[" ".join(["word"] * 40)]]]  # the last batch has two inputs
    plain = served(finetuned, "pytorch", threads=1)
    for part in (texts, texts[:1], texts[-1:]):
        np.testing.assert_allclose(engine.scores(part), plain.scores(part), atol=1e-5)
    assert {rows for rows, _ in replayed} == {1, 4}, "the batch of two has no graph"
    longest = finetuned.metadata.max_length
    assert all(length % 16 == 0 or length == longest for _, length in replayed)


@pytest.mark.slow
def test_compiled_model_answers_as_the_model_does(finetuned: Artifact) -> None:
    compiled = served(finetuned, "pytorch", compile=True, batch=4)
    plain = served(finetuned, "pytorch")
    for part in (TEXTS[:9], TEXTS[:1]):
        np.testing.assert_allclose(compiled.scores(part), plain.scores(part), atol=1e-5)


def test_global_scope_keeps_the_best_of_all_layers(finetuned: Artifact, tmp_path: Path) -> None:
    import torch

    layers = [torch.tensor([0.9, 0.8, 0.7, 0.6]), torch.tensor([0.5, 0.1, 0.2, 0.3])]
    assert prune.select_globally(layers, 2) == [[0, 1, 2], [0]]
    assert prune.select_per_layer(layers, 2) == [[0, 1], [0, 3]]
    with pytest.raises(BuildError, match="2 layers cannot keep 5 each"):
        prune.select_globally(layers, 5)
    params = Prune(heads=2, ffn=16, scope="global")
    metadata = prune.run(Inputs(finetuned), TASK, params, StepContext(tmp_path, 0, 1))
    assert sum(metadata["model"]["heads"]) == 4
    assert sum(metadata["model"]["ffn"]) == 32
    assert min(metadata["model"]["heads"]) >= 1


def test_layers_of_different_sizes_can_be_exported(finetuned: Artifact, tmp_path: Path) -> None:
    from harness.models import classifier
    from harness.models.classifier import EncoderSpec
    from harness.optimize import export
    from harness.optimize.training import encoders

    whole = classifier.load(finetuned.folder, EncoderSpec.from_dict(finetuned.metadata.model))
    small = prune.keep_heads_and_neurons(whole, [[0, 2, 3], [1]], [list(range(40)), list(range(9))])
    tokenizer = encoders.load_model(finetuned, TASK)[1]
    folders = [tmp_path / name for name in ("pruned", "graph")]
    for folder in folders:
        folder.mkdir()
    pruned = keep(folders[0], encoders.save_model(small, tokenizer, folders[0]))
    for first_only in (True, False):
        params = export.Export(first_only=first_only)
        context = StepContext(folders[1], 0, 1)
        graph = keep(folders[1], export.run(Inputs(pruned), TASK, params, context))
        if not finetuned.metadata.model["buckets"]:
            assert graph.metadata.details["fused"]["Attention"] == (1 if first_only else 2)
        np.testing.assert_allclose(scores(graph), scores(pruned), atol=1e-4)


def test_threads_over_one_session_work_at_the_same_time(exported: Artifact) -> None:
    """The first calls of both instances wait for each other."""
    loaded = served(exported, "onnxruntime", instances=2)
    forward, both, calls = loaded.forward, threading.Barrier(2), itertools.count()

    def together(batch: Any) -> Any:
        if next(calls) < 2:
            both.wait(ENOUGH)
        return forward(batch)

    loaded.forward = together
    loaded.scores(TEXTS[:40])
    assert next(calls) >= 40
