import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.engines.base import EngineConfig, ServeConfig
from harness.engines.batching import EncoderEngine, plan_batches
from harness.models import tokenization
from harness.models.answers import Scores
from harness.submissions.lookup import get_system
from harness.telemetry.configuration import configurations
from tests.support.systems import REPOSITORY


@given(st.lists(st.integers(1, 50)), st.integers(1, 9), st.sampled_from(["given", "by-length"]))
def test_batches_hold_every_input_once(lengths: list[int], batch: int, order: str) -> None:
    batches = plan_batches(lengths, batch, order)
    assert sorted(row for rows in batches for row in rows) == list(range(len(lengths)))
    assert all(1 <= len(rows) <= batch for rows in batches)


def test_batches_by_length_start_with_the_longest_inputs() -> None:
    assert plan_batches([9, 1, 8, 2], 2, "by-length") == [[0, 2], [3, 1]]


@given(st.lists(st.integers(1, 50)), st.integers(1, 9), st.integers(1, 200))
def test_batches_respect_the_limit_of_tokens(lengths: list[int], batch: int, tokens: int) -> None:
    batches = plan_batches(lengths, batch, "by-length", tokens)
    assert sorted(row for rows in batches for row in rows) == list(range(len(lengths)))
    for rows in batches:
        longest = max(lengths[row] for row in rows)
        assert len(rows) == 1 or longest * len(rows) <= tokens
    # no input would have fitted into the batch before its own
    for rows, following in pairwise(batches):
        longest = max(lengths[row] for row in rows)
        assert len(rows) == batch or longest * (len(rows) + 1) > tokens, following


def count_tokens(batch: tokenization.Batch) -> Scores:
    """Scores that identify the inputs: the sum of ids, and the number of tokens."""
    return np.stack([batch.ids.sum(1), batch.mask.sum(1)], 1).astype(np.float32)


def test_multi_instance_inference_has_one_instance_for_each_core() -> None:
    serve = get_system("distilled-int8-multi", REPOSITORY).serve
    cores = configurations()["cpu-16"].cores
    for scenario, (instances, threads) in {
        "offline": (16, 1),
        "server": (16, 1),
        "single_stream": (1, 16),
    }.items():
        config = EngineConfig(Path(), {}, serve[scenario], cores)
        assert (config.instances, config.threads_per_instance) == (instances, threads)


WORDS = st.lists(st.sampled_from(["quick", "a film", "warm", "it never"]), min_size=1, max_size=6)


@given(st.lists(WORDS.map(" ".join), min_size=1, max_size=12), st.integers(1, 5), st.randoms())
def test_permuting_examples_permutes_scores(
    tiny_encoder: Path, texts: list[str], batch: int, shuffler: "object"
) -> None:
    serve = ServeConfig("x", batch=batch, order="by-length")
    config = EngineConfig(tiny_encoder, {"max_length": 64}, serve, 1)
    engine = EncoderEngine(config, count_tokens)
    order = list(range(len(texts)))
    shuffler.shuffle(order)  # type: ignore[attr-defined]
    scores = engine.scores([[[text]] for text in texts])
    permuted = engine.scores([[[texts[row]]] for row in order])
    np.testing.assert_array_equal(permuted, scores[order])


def test_inputs_are_padded_to_the_maximum_length_or_not_at_all(tiny_encoder: Path) -> None:
    shapes: list[tuple[int, ...]] = []

    def forward(batch: tokenization.Batch) -> Scores:
        shapes.append(batch.ids.shape)
        return count_tokens(batch)

    for padding in ("max", "longest"):
        serve = ServeConfig("x", padding=padding)
        config = EngineConfig(tiny_encoder, {"max_length": 64}, serve, 1)
        EncoderEngine(config, forward).scores([[["a"]]])
    assert shapes == [(1, 64), (1, 3)]


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("harness.worker.process", ["harness.extensions", "psutil", "filelock", "typer"]),
        ("harness.engines.onnxruntime", ["torch", "transformers", "pandas", "sklearn"]),
        ("harness.engines.static", ["torch", "transformers", "pandas", "sklearn", "onnxruntime"]),
        ("harness.engines.cascade", ["torch", "transformers", "pandas", "sklearn", "onnxruntime"]),
        ("harness.engines.constant", ["torch", "transformers", "pandas", "onnxruntime"]),
        ("harness.engines.pytorch", ["transformers", "pandas", "onnxruntime"]),
        ("harness.runner.session", ["torch", "transformers", "onnxruntime"]),
    ],
)
def test_a_process_imports_only_what_it_needs(module: str, forbidden: list[str]) -> None:
    if module != "harness.runner.session":
        forbidden = [*forbidden, "pydantic"]
    script = (
        f"import sys, {module}, harness.worker.process; "
        f"print([name for name in {forbidden!r} if name in sys.modules])"
    )
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert process.stdout.strip() == "[]", process.stderr
