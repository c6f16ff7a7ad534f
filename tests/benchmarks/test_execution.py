"""What each way to execute the same weights gives: rows of `tox -e microbench`.

All variants of a comparison take turns, round by round, over the same texts; speed does not depend
on weights, so the pinned encoder serves with an untrained classifier.
"""

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from harness.engines import base, registry
from harness.engines.base import EngineConfig, ServeConfig
from harness.engines.batching import EncoderEngine
from harness.models import tokenization
from harness.optimize import export, quantize
from harness.optimize.base import Artifact, ArtifactMeta, Inputs, StepContext
from harness.optimize.export import Export
from harness.optimize.quantize import Quantize
from harness.results import statistics
from harness.tasks.registry import get_task
from tests.benchmarks.test_harness import CORES, untrained

TEXTS = 300
ROUNDS = 7


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return untrained(tmp_path_factory.mktemp("plain"))


def change(artifact: Artifact, folder: Path, values: dict[str, Any]) -> Artifact:
    return Artifact(folder, ArtifactMeta.from_dict(artifact.metadata.to_dict() | values))


@pytest.fixture(scope="module")
def make(plain: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Artifact]:
    """Exports, and quantizes where asked."""

    def made(exported: Export, quantized: Quantize | None = None) -> Artifact:
        graph = tmp_path_factory.mktemp("graph")
        about = export.run(
            Inputs(plain), get_task("sentiment"), exported, StepContext(graph, 0, CORES)
        )
        if quantized is None:
            return change(plain, graph, about)
        out, start = tmp_path_factory.mktemp("int8"), change(plain, graph, about)
        done = quantize.run(
            Inputs(start), get_task("sentiment"), quantized, StepContext(out, 0, CORES)
        )
        return change(plain, out, done)

    return made


@pytest.fixture(scope="module")
def texts() -> list[Any]:
    return [example.candidates for example in get_task("sentiment").examples("train")[:TEXTS]]


def compare(
    benchmark: BenchmarkFixture, slow: base.Engine, fast: base.Engine, texts: list[Any]
) -> statistics.Interval:
    """How many times faster `fast` is, with its 95% interval; in turns, one warm-up each."""
    seconds: dict[int, list[float]] = {0: [], 1: []}

    def play() -> None:
        for number, engine in enumerate((slow, fast)):
            started = time.perf_counter()
            engine.scores(texts)
            seconds[number].append(time.perf_counter() - started)

    benchmark.pedantic(play, rounds=ROUNDS, warmup_rounds=1)
    found = statistics.estimate_ratio(seconds[0][1:], seconds[1][1:])
    benchmark.extra_info["ratio"] = f"{found.value:.2f}x [{found.low:.2f}, {found.high:.2f}]"
    rates = [TEXTS / min(times) for times in seconds.values()]
    print(
        f"\n{benchmark.extra_info['ratio']}, at best {rates[0]:.0f} and {rates[1]:.0f} examples/s"
    )
    return found


def loaded(artifact: Artifact, name: str = "onnxruntime", **serve: Any) -> base.Engine:
    return registry.load_engine(
        EngineConfig(artifact.folder, artifact.engine_metadata, ServeConfig(name, **serve), CORES)
    )


def test_best_execution_is_not_slower_than_onnxruntimes_defaults(
    benchmark: BenchmarkFixture, make: Callable[..., Artifact], texts: list[Any], tmp_path: Path
) -> None:
    """`closed-int8` against the plain graph, `quantize_dynamic` and a session with no options."""
    from onnxruntime.quantization import quantize_dynamic

    start = make(Export(optimize=False, first_only=False))
    quantize_dynamic(start.folder / "model.onnx", tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(
        tmp_path / "model.onnx", providers=["CPUExecutionProvider"]
    )

    def forward(batch: tokenization.Batch) -> Any:
        return session.run(None, batch.feeds)[0]

    default = EncoderEngine(
        EngineConfig(start.folder, start.engine_metadata, ServeConfig("onnxruntime"), CORES),
        forward,
    )
    ours = loaded(make(Export(), Quantize()), instances="per-core")
    assert compare(benchmark, default, ours, texts).low > 1


def test_residual_and_layer_norm_apart_are_faster(
    benchmark: BenchmarkFixture, make: Callable[..., Artifact], texts: list[Any]
) -> None:
    one, other = (make(Export(norm=norm), Quantize()) for norm in ("skip", "layer"))
    assert compare(benchmark, loaded(one), loaded(other), texts).value > 1


def test_last_layer_of_the_first_token_alone_is_faster(
    benchmark: BenchmarkFixture, make: Callable[..., Artifact], texts: list[Any]
) -> None:
    one, other = (make(Export(first_only=first), Quantize()) for first in (False, True))
    assert compare(benchmark, loaded(one), loaded(other), texts).value > 1


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_an_instance_a_core_is_faster_than_one_on_all(
    benchmark: BenchmarkFixture, make: Callable[..., Artifact], texts: list[Any]
) -> None:
    artifact = make(Export(), Quantize())
    many = loaded(artifact, instances="per-core")
    assert compare(benchmark, loaded(artifact), many, texts).value > 1


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_threads_over_one_session_measure_as_well_as_processes(
    benchmark: BenchmarkFixture,
    make: Callable[..., Artifact],
    texts: list[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    artifact = make(Export(), Quantize())
    threads = loaded(artifact, instances="per-core")
    kind = registry.ENGINES["onnxruntime"]
    monkeypatch.setitem(registry.ENGINES, "onnxruntime", replace(kind, shares_model=False))
    processes = loaded(artifact, instances="per-core")
    assert compare(benchmark, processes, threads, texts).value > 0.9


@pytest.mark.parametrize("by", ["onnxruntime", "nncf"])
def test_static_against_dynamic(
    benchmark: BenchmarkFixture, make: Callable[..., Artifact], texts: list[Any], by: str
) -> None:
    """A reading, not a claim: which is faster depends on the length of the text."""
    static = make(Export(), Quantize(method="static", by=by))
    name = "openvino" if by == "nncf" else "onnxruntime"
    compare(benchmark, loaded(make(Export(), Quantize())), loaded(static, name), texts)
