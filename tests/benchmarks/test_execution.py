"""What each way to execute the same weights gives: rows of `tox -e microbench`.

All variants of a comparison take turns, round by round, over the same texts; speed does not depend
on weights, so the pinned encoder serves with an untrained classifier.
"""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from tokenizers import Tokenizer

from harness.engines import base, registry
from harness.engines.base import ServeConfig
from harness.engines.onnxruntime import INPUT_TYPES
from harness.loadgen.scenarios import QuerySamples
from harness.models.answers import Scores
from harness.optimize.base import Artifact
from harness.optimize.export import Export
from harness.optimize.quantize import Quantize
from harness.results import statistics
from harness.tasks.registry import get_task
from harness.worker.driver import Worker
from tests.benchmarks.graphs import loaded, run_step
from tests.benchmarks.test_harness import CORES, untrained

TEXTS = 300
ROUNDS = 7


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


class PlainLoop:
    """What a tutorial writes: one text after the other through tokenizers and a session without
    options, but for the number of threads.
    """

    def __init__(self, artifact: Artifact) -> None:
        self.tokenizer = Tokenizer.from_file(str(artifact.folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(128)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = CORES
        self.session = onnxruntime.InferenceSession(artifact.folder / "model.onnx", options)
        self.inputs = {entry.name: entry.type for entry in self.session.get_inputs()}

    def scores(self, examples: Sequence[base.Candidates]) -> Scores:
        parts = []
        for ((text,),) in examples:
            encoding = self.tokenizer.encode(text)
            values = {
                "input_ids": encoding.ids,
                "attention_mask": encoding.attention_mask,
                "token_type_ids": encoding.type_ids,
            }
            feeds = {
                name: np.array([values[name]], INPUT_TYPES[kind])
                for name, kind in self.inputs.items()
            }
            parts.append(self.session.run(None, feeds)[0])
        return np.concatenate(parts)


class OneByOne:
    """An engine that gets its examples as in `single_stream`."""

    def __init__(self, engine: base.Engine) -> None:
        self.engine = engine

    def scores(self, examples: Sequence[base.Candidates]) -> Scores:
        return np.concatenate([self.engine.scores([example]) for example in examples])


QUANTIZATIONS = pytest.mark.parametrize("quantized", [None, Quantize()], ids=["fp32", "int8"])

SLOWER = 0.98
"""A row may take 2% more than a plain loop: it checks and collects what a tutorial does not."""

SLOWER_IN_WORKER = 0.9
"""Through the worker 10%: the driver needs one of the cores on which the worker's threads spin."""


@QUANTIZATIONS
@pytest.mark.parametrize("scenario", ["single_stream", "offline"])
def test_engine_is_not_slower_than_a_plain_loop(
    benchmark: BenchmarkFixture,
    make: Callable[..., Artifact],
    texts: list[Any],
    quantized: Quantize | None,
    scenario: str,
) -> None:
    """The same graph, with the same threads, in one process, by default settings of both."""
    artifact = make(Export(), quantized)
    engine, plain = loaded(artifact), PlainLoop(artifact)
    np.testing.assert_allclose(plain.scores(texts[:20]), engine.scores(texts[:20]), atol=0.01)
    ours = OneByOne(engine) if scenario == "single_stream" else engine
    assert compare(benchmark, plain, ours, texts).high > SLOWER


@QUANTIZATIONS
def test_worker_is_not_slower_than_a_plain_loop_beyond_the_share_of_the_harness(
    benchmark: BenchmarkFixture,
    make: Callable[..., Artifact],
    quantized: Quantize | None,
) -> None:
    """Single queries through the protocol, less what the same queries take with `null`."""
    artifact = make(Export(), quantized)
    plain = PlainLoop(artifact)
    examples = get_task("sentiment").examples("train")[:TEXTS]
    candidates = [example.candidates for example in examples]
    samples = QuerySamples.from_examples(examples, 2)
    lines = [samples.query(row, [row]) for row in range(len(examples))]
    seconds: list[list[float]] = [[], [], []]
    serve = ServeConfig("onnxruntime").to_dict()
    message = {"about": artifact.engine_metadata, "threads": CORES}
    with Worker(CORES) as worker, Worker(CORES) as null:
        worker.load(message | {"artifact": str(artifact.folder), "serve": serve})
        null.load(message | {"artifact": "", "serve": {"engine": "constant"}})

        def ask(asked: Worker) -> Callable[[], object]:
            return lambda: [asked.ask(line, 5.0) for line in lines]

        plays = (lambda: plain.scores(candidates), ask(worker), ask(null))

        def play() -> None:
            for number, run in enumerate(plays):
                started = time.perf_counter()
                run()
                seconds[number].append(time.perf_counter() - started)

        benchmark.pedantic(play, rounds=ROUNDS, warmup_rounds=1)
    own = [total - harness for total, harness in zip(seconds[1], seconds[2], strict=True)]
    ratio = statistics.estimate_ratio(seconds[0][1:], own[1:])
    benchmark.extra_info["ratio"] = f"{ratio.value:.2f}x [{ratio.low:.2f}, {ratio.high:.2f}]"
    print(f"\n{benchmark.extra_info['ratio']}")
    assert ratio.high > SLOWER_IN_WORKER


def test_a_chain_of_graphs_is_not_held_up_by_its_own_threads(
    benchmark: BenchmarkFixture, make: Callable[..., Artifact], texts: list[Any], tmp_path: Path
) -> None:
    """Single queries to three graphs of two layers each, and to one graph of six. The threads of
    three sessions share two cores: where each kept spinning after its call, this was 0.37x.
    """
    artifact = untrained(tmp_path, after=(1, 3))
    for number, params in enumerate((Export(), Quantize())):
        out = tmp_path / str(number)
        out.mkdir()
        artifact = run_step(artifact, params, out)
    one = OneByOne(loaded(make(Export(), Quantize())))
    chain = OneByOne(loaded(artifact, threshold="never"))
    assert compare(benchmark, one, chain, texts).value > 0.6


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
    """A reading for NNCF: which is faster depends on the length of the text."""
    static = make(Export(), Quantize(method="static", by=by))
    name = "openvino" if by == "nncf" else "onnxruntime"
    ratio = compare(benchmark, loaded(make(Export(), Quantize())), loaded(static, name), texts)
    assert by == "nncf" or ratio.value > 0.9


def test_batches_of_static_int8_are_faster_on_short_texts(
    benchmark: BenchmarkFixture, make: Callable[..., Artifact], texts: list[Any]
) -> None:
    artifact = make(Export(), Quantize(method="static"))
    batched = loaded(artifact, batch=16, order="by-length")
    assert compare(benchmark, loaded(artifact), batched, texts).value > 1.05
