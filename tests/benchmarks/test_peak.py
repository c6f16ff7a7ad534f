"""How far from the limit of the machine: rows of `tox -e microbench`.

The limit is what one large int8 matrix product reaches; a system is compared with it by the
operations of its own matrix products, on texts of the lengths of a task.
"""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from pytest_benchmark.fixture import BenchmarkFixture

from harness.models import tokenization
from harness.models.classifier import Classifier
from harness.models.encoder_spec import EncoderSpec
from harness.models.pretrained import ENCODERS
from harness.optimize.base import Artifact, ArtifactMeta
from harness.optimize.export import Export
from harness.optimize.quantize import Quantize
from harness.optimize.training import encoders
from harness.tasks.registry import get_task
from tests.benchmarks.graphs import loaded, run_step
from tests.benchmarks.test_harness import CORES

SIDE = 2048
"""Rows, columns and inner size of the large product."""

SYSTEMS = {"closed-int8": (6, 12, 1536), "fastformers": (3, 8, 768)}
"""Layers, heads and feed-forward neurons of systems of width 384."""

TEXTS = {"sentiment": 1000, "boolq": 200}
ROUNDS = 5


def make_product() -> bytes:
    """An onnxruntime model of one product of two square matrices, quantized as in a system."""
    generator = np.random.default_rng(0)
    weights = generator.integers(-127, 128, (SIDE, SIDE), np.int8)
    node = helper.make_node(
        "DynamicQuantizeMatMul", ["a", "b", "scale", "zero"], ["c"], domain="com.microsoft"
    )
    constants = [
        helper.make_tensor("b", TensorProto.INT8, weights.shape, weights.tobytes(), raw=True),
        helper.make_tensor("scale", TensorProto.FLOAT, [SIDE], [0.01] * SIDE),
        helper.make_tensor("zero", TensorProto.INT8, [SIDE], [0] * SIDE),
    ]
    ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, [SIDE, SIDE])] for name in "ac"]
    graph = helper.make_graph([node], "product", *ends, constants)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


def time_products(count: int) -> float:
    """Operations per second of products on so many threads at once, each in a session of its own,
    like instances; the best of some rounds.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    model = make_product()
    sessions = [
        onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        for _ in range(count)
    ]
    values = np.random.default_rng(1).standard_normal((SIDE, SIDE), np.float32)
    best = 0.0
    for _ in range(ROUNDS):
        threads = [
            threading.Thread(target=session.run, args=(None, {"a": values})) for session in sessions
        ]
        started = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        best = max(best, count * 2 * SIDE**3 / (time.perf_counter() - started))
    return best


def count_operations(spec: EncoderSpec, tokens: int) -> int:
    """Operations of the matrix products of an input; the last layer has a query for its first
    token only. An addition and a multiplication are two.
    """
    total = 0
    for layer, (heads, ffn) in enumerate(zip(spec.heads, spec.ffn, strict=True)):
        queries = tokens if layer < spec.layers - 1 else 1
        inner = heads * spec.head_size
        total += 2 * spec.width * inner * (2 * tokens + queries)  # keys, values; queries
        total += 2 * 2 * queries * tokens * inner  # scores and the mixture, in fp32
        total += 2 * queries * spec.width * (inner + 2 * ffn)  # output and feed-forward
    return total


@pytest.fixture(scope="module")
def peak() -> float:
    """Operations per second of all cores."""
    one, all_cores = time_products(1), time_products(CORES)
    print(f"\nint8 product: one thread {one / 1e12:.2f} TOPS, {CORES} {all_cores / 1e12:.2f} TOPS")
    return max(one, all_cores)


@pytest.fixture(scope="module")
def make_system(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Artifact]:
    """Systems with random weights; each once."""
    made: dict[str, Artifact] = {}

    def make_once(name: str) -> Artifact:
        if name not in made:
            made[name] = build(name)
        return made[name]

    def build(name: str) -> Artifact:
        layers, heads, ffn = SYSTEMS[name]
        folder = ENCODERS["all-MiniLM-L6-v2"].fetch()
        spec = EncoderSpec.from_config(json.loads((folder / "config.json").read_text()), 2)
        torch.manual_seed(0)
        model = Classifier(replace(spec, heads=(heads,) * layers, ffn=(ffn,) * layers))
        tokenizer = tokenization.load_tokenizer(folder / "tokenizer.json", 512)
        out = tmp_path_factory.mktemp("weights")
        values: dict[str, Any] = encoders.save_model(model, tokenizer, out)
        values |= {"key": name, "max_length": 512, "labels": 2}
        artifact = Artifact(out, ArtifactMeta.from_dict(json.loads(json.dumps(values))))
        for params in (Export(), Quantize()):
            artifact = run_step(artifact, params, tmp_path_factory.mktemp("graph"))
        return artifact

    return make_once


@pytest.mark.parametrize("task", TEXTS)
@pytest.mark.parametrize("name", SYSTEMS)
def test_share_of_the_peak_that_offline_reaches(
    benchmark: BenchmarkFixture,
    make_system: Callable[[str], Artifact],
    peak: float,
    name: str,
    task: str,
) -> None:
    """A share of one or more would say that the peak or the operations are wrong."""
    artifact = make_system(name)
    spec = EncoderSpec.from_dict(artifact.metadata.model)
    tokenizer = tokenization.load_tokenizer(Path(artifact.folder) / "tokenizer.json", 512)
    chosen = get_task(task)
    texts = [example.candidates for example in chosen.examples("train")[: TEXTS[task]]]
    lengths = [len(tokenizer.encode(*candidate).ids) for (candidate,) in texts]
    operations = sum(count_operations(spec, length) for length in lengths)
    engine = loaded(artifact, instances="per-core")
    benchmark.pedantic(lambda: engine.scores(texts), rounds=ROUNDS, warmup_rounds=1)
    rate = operations / benchmark.stats.stats.min
    share = rate / peak
    benchmark.extra_info["share_of_peak"] = round(share, 3)
    mean = sum(lengths) / len(lengths)
    print(
        f"\n{name}, {task}: {mean:.0f} tokens, {operations / len(texts) / 1e6:.0f} million "
        f"operations a text, {rate / 1e12:.2f} TOPS, {share:.0%} of the peak"
    )
    assert 0.1 < share < 1
