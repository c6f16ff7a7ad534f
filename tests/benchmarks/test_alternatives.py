"""What a user would pick instead, with the same weights: rows of `tox -e microbench`."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from onnxruntime.quantization import quantize_dynamic
from pytest_benchmark.fixture import BenchmarkFixture

from harness.engines import base
from harness.engines.base import EngineConfig, ServeConfig
from harness.engines.batching import EncoderEngine
from harness.models import tokenization
from harness.models.answers import Scores
from harness.models.pretrained import ENCODERS
from harness.optimize.base import Artifact
from harness.optimize.export import Export
from harness.optimize.quantize import Quantize
from harness.results import statistics
from harness.tasks.registry import get_task
from tests.benchmarks.graphs import change, loaded
from tests.benchmarks.test_harness import CORES

ROUNDS = 7

LENGTHS = {"sentiment": 300, "boolq": 100}
"""Texts of a task's training split: of 27 and of about 130 tokens on average."""


class Pipeline:
    """`transformers.pipeline` with its defaults but for the length of inputs."""

    def __init__(self) -> None:
        from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

        folder = ENCODERS["all-MiniLM-L6-v2"].fetch()
        model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        self.pipeline = pipeline("text-classification", model=model, tokenizer=tokenizer)

    def scores(self, examples: Sequence[base.Candidates]) -> Scores:
        parts = [dict(zip(("text", "text_pair"), part, strict=False)) for (part,) in examples]
        found = self.pipeline(parts, truncation=True, max_length=512, top_k=None)
        return np.array([[one["score"] for one in scores] for scores in found], np.float32)


def serve_with_defaults(artifact: Artifact, file: Path) -> base.Engine:
    """One text at a time in a session of onnxruntime without options."""
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    config = EngineConfig(
        artifact.folder, artifact.engine_metadata, ServeConfig("onnxruntime"), CORES
    )
    return EncoderEngine(config, lambda batch: session.run(None, batch.feeds)[0])


def serve_with_openvinos_defaults(artifact: Artifact) -> base.Engine:
    """One text at a time; bf16 on a processor that supports it."""
    import openvino

    model = openvino.Core().compile_model(artifact.folder / "model.onnx", "CPU")
    names = {entry.any_name for entry in model.inputs}
    config = EngineConfig(artifact.folder, artifact.engine_metadata, ServeConfig("openvino"), CORES)

    def forward(batch: tokenization.Batch) -> Any:
        return model({name: values for name, values in batch.feeds.items() if name in names})[0]

    return EncoderEngine(config, forward)


@pytest.mark.parametrize("task", LENGTHS)
def test_best_execution_is_faster_than_what_libraries_offer(
    benchmark: BenchmarkFixture,
    plain: Artifact,
    make: Callable[..., Artifact],
    task: str,
    tmp_path: Path,
) -> None:
    """The same weights, all in turns, as ratios to `transformers.pipeline`."""
    torch.set_num_threads(CORES)
    texts = [example.candidates for example in get_task(task).examples("train")[: LENGTHS[task]]]

    def load(artifact: Artifact, name: str = "onnxruntime", **serve: Any) -> base.Engine:
        return loaded(change(artifact, artifact.folder, {"max_length": 512}), name, **serve)

    graph = change(
        plain, make(Export(optimize=False, first_only=False)).folder, {"max_length": 512}
    )
    quantize_dynamic(graph.folder / "model.onnx", tmp_path / "model.onnx")
    dynamic, static = (make(Export(), Quantize(method=method)) for method in ("dynamic", "static"))
    nncf = make(Export(), Quantize(method="static", by="nncf"))
    engines = {
        "transformers.pipeline": Pipeline(),
        "PyTorch": load(plain, "pytorch"),
        "PyTorch, torch.compile": load(plain, "pytorch", compile=True),
        "onnxruntime": serve_with_defaults(graph, graph.folder / "model.onnx"),
        "onnxruntime, quantize_dynamic": serve_with_defaults(graph, tmp_path / "model.onnx"),
        "OpenVINO": serve_with_openvinos_defaults(graph),
        "OpenVINO, NNCF int8": load(nncf, "openvino", instances="per-core"),
        "closed-int8": load(dynamic, instances="per-core"),
        "static int8, at most 512 tokens at once": load(
            static, instances="per-core", batch=16, tokens=512, order="by-length"
        ),
    }
    seconds: dict[str, list[float]] = {name: [] for name in engines}

    def play() -> None:
        for name, engine in engines.items():
            started = time.perf_counter()
            engine.scores(texts)
            seconds[name].append(time.perf_counter() - started)

    benchmark.pedantic(play, rounds=ROUNDS, warmup_rounds=1)
    first, *others = (times[1:] for times in seconds.values())
    ratios = {
        name: statistics.estimate_ratio(first, times)
        for name, times in zip(list(engines)[1:], others, strict=True)
    }
    print(f"\n{task}: transformers.pipeline, at best {len(texts) / min(first):.1f} examples/s")
    for name, ratio in ratios.items():
        print(f"{name}: {ratio.value:.2f}x [{ratio.low:.2f}, {ratio.high:.2f}]")
    benchmark.extra_info["ratios"] = {name: round(ratio.value, 2) for name, ratio in ratios.items()}
    ours = seconds["closed-int8"][1:]
    for name in list(engines)[:5]:  # OpenVINO may be as fast, on long texts
        assert statistics.estimate_ratio(seconds[name][1:], ours).low > 1, name
