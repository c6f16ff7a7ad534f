"""What an update of a three-layer student costs: rows of `tox -e microbench`."""

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from harness.models.classifier import Classifier
from harness.optimize import distill, prune
from harness.optimize.distill import Distill
from harness.optimize.training import encoders, losses
from harness.optimize.training.tokens import Tokens
from harness.tasks.registry import get_task
from tests.benchmarks.test_harness import untrained

TEXTS = 256
ROUNDS = 3

FUSED = "with the fused attention kernel"

VARIANTS: dict[str, dict[str, object]] = {
    FUSED: {},
    "as by default": {},
    "no dropout": {"dropout": False},
    "and 64 texts per update": {"dropout": False, "batch": 64},
}


@pytest.mark.parametrize("is_pruned", [False, True], ids=["whole", "pruned"])
def test_plain_attention_and_parameters_make_an_update_cheaper(
    benchmark: BenchmarkFixture, tmp_path: Path, is_pruned: bool
) -> None:
    """In CPU time, on one thread, which other programs of the machine change least."""
    torch.set_num_threads(1)
    task = get_task("sentiment")
    teacher, tokenizer = encoders.load_model(untrained(tmp_path), task)
    data = encoders.tokenize_examples(tokenizer, task.examples("train")[:TEXTS])
    epochs = {
        name: make_epoch(
            teacher,
            data,
            Distill(**values),  # type: ignore[arg-type]
            0 if name == FUSED else encoders.get_plain_attention("cpu"),
            is_pruned,
        )
        for name, values in VARIANTS.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in epochs}

    def play() -> None:
        for name, epoch in epochs.items():
            started = time.process_time()
            epoch()
            seconds[name].append(time.process_time() - started)

    benchmark.pedantic(play, rounds=ROUNDS, warmup_rounds=1)
    for name, times in seconds.items():
        per_text = min(times[1:]) / TEXTS * 1000
        benchmark.extra_info[name] = round(per_text, 2)
        print(f"\n{name}: {per_text:.2f} CPU-ms per text", end="")
    share = 0.9 if encoders.has_bf16("cpu") else 1.05  # in fp32 the kernel is nearly as fast
    assert min(seconds["as by default"]) < share * min(seconds[FUSED])
    assert min(seconds["no dropout"]) < 0.9 * min(seconds["as by default"])


def make_epoch(
    teacher: Classifier, data: Tokens, params: Distill, plain_attention: int, is_pruned: bool
) -> Callable[[], None]:
    """Return an epoch of a three-layer student on random logits; pruned as in `fastformers`."""
    student = distill.keep_layers(teacher, (1, 3, 5))
    if is_pruned:
        heads, neurons = [list(range(8))] * 3, [list(range(768))] * 3
        student = prune.keep_heads_and_neurons(student, heads, neurons)
    student.first_only = True
    logits = torch.randn(len(data), 2)

    def loss(rows: list[int]) -> torch.Tensor:
        computed = encoders.compute_logits(student, data, rows)
        return losses.soft_cross_entropy(computed, logits[rows], params.temperature)

    if not params.dropout:
        encoders._disable_dropout(student)
    student.plain_attention = plain_attention
    optimizer = encoders._build_optimizer(student, params)

    def epoch() -> None:
        student.train()
        for rows in encoders.draw_batches(data.lengths.tolist(), params.batch, random.Random(0)):
            encoders._update(student, optimizer, loss, [rows], params.learning_rate)

    return epoch
