"""What the harness itself costs: rows of `tox -e microbench`.

The null worker shows the cost of a query; the bare onnxruntime loop beside it shows what the same
session costs without a harness. Training is compared with the loop of a tutorial.
"""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from harness.build import MALLOC_TUNABLES
from harness.engines import onnxruntime
from harness.engines.base import EngineConfig, ServeConfig
from harness.loadgen.scenarios import QuerySamples
from harness.models import classifier, load_checkpoint, tokenization
from harness.models.pretrained import ENCODERS
from harness.optimize import exits, export
from harness.optimize.base import Artifact, ArtifactMeta, Inputs, StepContext
from harness.optimize.finetune import Finetune
from harness.optimize.training import encoders, schedule
from harness.optimize.training.loop import fix_seed_and_threads
from harness.optimize.training.tokens import Tokens
from harness.store.cache import cache_dir
from harness.tasks.registry import get_task
from harness.tasks.task import Example
from harness.worker.driver import Worker

CORES = min(2, len(os.sched_getaffinity(0)))


@pytest.fixture(scope="module")
def examples() -> tuple[Example, ...]:
    return get_task("sentiment").examples("validation")


@pytest.fixture(scope="module")
def null() -> Iterator[Worker]:
    with Worker(CORES) as worker:
        about = {"labels": 2, "max_length": 128}
        serve = {"engine": "constant"}
        worker.load({"artifact": "", "about": about, "serve": serve, "threads": CORES})
        yield worker


def test_null_single_stream_takes_at_most_150_microseconds(
    benchmark: BenchmarkFixture, null: Worker, examples: tuple[Example, ...]
) -> None:
    samples = QuerySamples.from_examples(examples, 2)
    lines = [samples.query(row, [row]) for row in range(len(examples))]
    turns = iter(range(10**9))
    benchmark.pedantic(
        lambda: null.ask(lines[next(turns) % len(lines)], 5.0), rounds=20_000, warmup_rounds=500
    )
    times = sorted(benchmark.stats.stats.data)
    p99 = times[int(0.99 * len(times))]
    benchmark.extra_info["p99_microseconds"] = round(p99 * 1e6)
    median = times[len(times) // 2]
    print(f"\nnull, single_stream: median {median * 1e6:.0f} us, p99 {p99 * 1e6:.0f} us")
    assert median < 150e-6


def test_null_offline_answers_250_000_examples_a_second(
    benchmark: BenchmarkFixture, null: Worker, examples: tuple[Example, ...]
) -> None:
    samples = QuerySamples.from_examples(examples, 2)
    lines = [samples.query(number, range(len(examples))) for number in range(100)]
    benchmark.pedantic(lambda: null.exchange(lines, 10.0), rounds=10, warmup_rounds=2)
    rate = 100 * len(examples) / benchmark.stats.stats.median
    benchmark.extra_info["examples_per_second"] = round(rate)
    print(f"\nnull, offline: {rate:,.0f} examples/s")
    assert rate > 250_000


def untrained(out: Path, after: Sequence[int] = ()) -> Artifact:
    """The pinned encoder with a new classifier, and more after these layers, counted from 0."""
    folder = ENCODERS["all-MiniLM-L6-v2"].fetch()
    torch.manual_seed(0)
    tokenizer = tokenization.load_tokenizer(folder / "tokenizer.json", 128)
    model = exits.add_exits(load_checkpoint.from_pretrained(folder, 2), after)
    about = encoders.save_model(model, tokenizer, out)
    plain = json.loads(json.dumps({"key": "plain", "max_length": 128, "labels": 2, **about}))
    return Artifact(out, ArtifactMeta.from_dict(plain))


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The pinned encoder with an untrained classifier: speed does not depend on weights."""
    start = untrained(tmp_path_factory.mktemp("plain"))
    out = tmp_path_factory.mktemp("graph")
    about = export.run(
        Inputs(start), get_task("sentiment"), export.Export(), StepContext(out, 0, CORES)
    )
    return Artifact(out, ArtifactMeta.from_dict({**about, "max_length": 128, "labels": 2}))


def serve_graph(graph: Artifact) -> dict[str, object]:
    serve = {"engine": "onnxruntime"}
    return {
        "artifact": str(graph.folder),
        "about": graph.engine_metadata,
        "serve": serve,
        "threads": CORES,
    }


def test_bare_onnxruntime_loop(
    benchmark: BenchmarkFixture, graph: Artifact, examples: tuple[Example, ...]
) -> None:
    loaded = onnxruntime.load(
        EngineConfig(graph.folder, graph.engine_metadata, ServeConfig("onnxruntime"), CORES)
    )
    turns = iter(range(10**9))
    benchmark.pedantic(
        lambda: loaded.scores([examples[next(turns) % len(examples)].candidates]),
        rounds=500,
        warmup_rounds=20,
    )


def test_the_same_graph_through_the_harness(
    benchmark: BenchmarkFixture, graph: Artifact, examples: tuple[Example, ...]
) -> None:
    samples = QuerySamples.from_examples(examples, 2)
    lines = [samples.query(row, [row]) for row in range(len(examples))]
    turns = iter(range(10**9))
    with Worker(CORES) as worker:
        worker.load(serve_graph(graph))
        benchmark.pedantic(
            lambda: worker.ask(lines[next(turns) % len(lines)], 5.0), rounds=500, warmup_rounds=20
        )


def naive_steps(model: torch.nn.Module, folder: Path, examples: list[Example]) -> float:
    """A tutorial's loop: fp32, random batches padded to the longest. Returns: seconds."""
    tokenizer = tokenization.load_tokenizer(folder / "tokenizer.json", 128)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    model.train()
    started = time.perf_counter()
    for start in range(0, len(examples), 32):
        rows = examples[start : start + 32]
        batch = tokenization.pad(
            tokenization.tokenize(tokenizer, [example.candidates[0] for example in rows])
        )
        out = model(
            input_ids=torch.from_numpy(batch.ids),
            attention_mask=torch.from_numpy(batch.mask),
            token_type_ids=torch.from_numpy(batch.segments),
            labels=torch.tensor([example.label for example in rows]),
        )
        out.loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return time.perf_counter() - started


def test_finetuning_is_one_and_a_half_times_the_naive_loop(
    benchmark: BenchmarkFixture, tmp_path: Path
) -> None:
    """In turns, each in a process of its own, as build.py starts it and as a user would."""

    def seconds(implementation: str) -> float:
        environment = dict(os.environ)
        if implementation == "ours":
            environment["GLIBC_TUNABLES"] = MALLOC_TUNABLES
        command = [sys.executable, "-m", "tests.benchmarks.test_harness", implementation]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return float(done.stdout.split()[-1])

    ratios: list[float] = []
    benchmark.pedantic(lambda: ratios.append(seconds("naive") / seconds("ours")), rounds=3)
    ratios.sort()
    benchmark.extra_info["ratios"] = [round(ratio, 2) for ratio in ratios]
    print(f"\nfine-tuning against the naive loop: {', '.join(f'{ratio:.2f}x' for ratio in ratios)}")
    assert ratios[1] > 1.5


def _time_training(implementation: str) -> float:
    """Seconds for 640 examples with the implementation `naive` or `ours`."""
    folder = ENCODERS["all-MiniLM-L6-v2"].fetch()
    examples = list(get_task("sentiment").examples("train")[:640])
    random.Random(0).shuffle(examples)
    fix_seed_and_threads(0, CORES)
    schedule.MIN_UPDATES = 1
    if implementation == "naive":
        from transformers import BertForSequenceClassification

        model = BertForSequenceClassification.from_pretrained(folder)
        naive_steps(model, folder, examples[:64])
        return naive_steps(model, folder, examples)
    ours = load_checkpoint.from_pretrained(folder, 2)
    tokenizer = tokenization.load_tokenizer(folder / "tokenizer.json", 128)
    few = encoders.tokenize_examples(tokenizer, examples[:64])
    one = Finetune(epochs=1)
    _train(ours, few, few, one)
    everything = encoders.tokenize_examples(tokenizer, examples)
    nothing = encoders.tokenize_examples(tokenizer, examples[:1])
    started = time.perf_counter()
    _train(ours, everything, nothing, one)
    return time.perf_counter() - started


def _train(
    model: classifier.Classifier,
    rows: Tokens,
    selection: Tokens,
    params: Finetune,
) -> None:
    loss = encoders.build_cross_entropy(model, rows)
    encoders.train(model, rows.lengths, loss, selection, params, StepContext(cache_dir(), 0, CORES))


if __name__ == "__main__":
    print(_time_training(sys.argv[1]))
