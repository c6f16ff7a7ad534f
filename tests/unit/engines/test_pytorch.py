"""The engine `pytorch` as far as a CPU can test what it does on a GPU."""

import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.engines import pytorch
from harness.engines.base import EngineConfig, ServeConfig
from harness.errors import HarnessError
from harness.models import tokenization
from harness.optimize.base import Artifact
from tests.support.words import TEXTS

KERNEL_SECONDS = 0.2


class AsynchronousScores:
    """Scores that a device computes while the host goes on; a copy to the host waits for them."""

    def __init__(self, values: Tensor) -> None:
        self.values, self.finished = values, threading.Event()
        self.kernel = threading.Timer(KERNEL_SECONDS, self.finished.set)

    def launch(self) -> "AsynchronousScores":
        self.finished.clear()
        self.kernel = threading.Timer(KERNEL_SECONDS, self.finished.set)
        self.kernel.start()
        return self

    def float(self) -> "AsynchronousScores":
        return self

    def cpu(self) -> Tensor:
        self.finished.wait()
        return self.values


def make_batch(lengths: list[int]) -> tokenization.Batch:
    """A batch of ones, padded to its longest row."""
    mask = np.zeros((len(lengths), max(lengths)), np.int64)
    for row, length in enumerate(lengths):
        mask[row, :length] = 1
    return tokenization.Batch(mask * 7, mask, mask * 0)


def test_scores_are_returned_only_when_the_device_has_finished() -> None:
    scores = AsynchronousScores(torch.tensor([[0.25, 0.75]]))
    computed = pytorch._compute_scores(lambda *inputs: scores.launch(), make_batch([3]), "cpu")  # type: ignore[arg-type, return-value]
    assert scores.finished.is_set()
    np.testing.assert_array_equal(computed, [[0.25, 0.75]])


class FakeGraph:
    """A recorded forward pass, which is computed again when it is replayed."""

    def __init__(self, model: Any, inputs: Tensor, logits: AsynchronousScores) -> None:
        self.model, self.inputs, self.logits, self.replays = model, inputs, logits, 0

    def replay(self) -> None:
        self.replays += 1
        self.logits.values = self.model(*self.inputs).float()
        self.logits.launch()


class FakeCudaGraphs(pytorch.CudaGraphs):
    """`CudaGraphs` that records on the CPU."""

    def _record(self, rows: int, length: int) -> tuple[Any, Tensor, Any]:
        inputs = torch.ones((3, rows, length), dtype=torch.int64)
        logits = AsynchronousScores(torch.full((rows, 2), np.nan))
        return FakeGraph(self._model, inputs, logits), inputs, logits


def count_tokens(ids: Tensor, mask: Tensor, segments: Tensor) -> Tensor:
    """Logits that identify the inputs: the sum of ids and the number of tokens."""
    return torch.stack([ids.sum(1), mask.sum(1)], 1).float()


def make_graphs(batch: int, max_length: int) -> FakeCudaGraphs:
    config = EngineConfig(
        Path(), {"max_length": max_length}, ServeConfig("pytorch", batch=batch), 1
    )
    return FakeCudaGraphs(count_tokens, config)


def test_graphs_are_recorded_for_single_inputs_and_full_batches_of_every_rounded_length() -> None:
    graphs = make_graphs(batch=4, max_length=40)
    assert set(graphs._graphs) == {(rows, length) for rows in (1, 4) for length in (16, 32, 40)}


@pytest.mark.parametrize(
    ("lengths", "recorded"),
    [
        ([1], (1, 16)),
        ([16], (1, 16)),
        ([17], (1, 32)),
        ([40], (1, 40)),
        ([5, 33, 2, 7], (4, 40)),
        ([5, 9], None),  # not a full batch
    ],
)
def test_inputs_are_padded_to_the_next_recorded_length_and_masked_there(
    lengths: list[int], recorded: tuple[int, int] | None
) -> None:
    graphs = make_graphs(batch=4, max_length=40)
    for graph, inputs, _ in graphs._graphs.values():
        with torch.inference_mode():
            inputs.fill_(99)  # of an earlier batch
        assert graph.replays == 0
    batch = make_batch(lengths)
    expected = np.stack([batch.ids.sum(1), batch.mask.sum(1)], 1)
    np.testing.assert_array_equal(graphs.forward(batch), expected)
    replayed = [shape for shape, (graph, _, _) in graphs._graphs.items() if graph.replays]
    assert replayed == ([recorded] if recorded else [])
    if recorded:
        assert graphs._graphs[recorded][2].finished.is_set(), "the device has finished"


def test_graphs_give_the_scores_of_the_model(finetuned: Artifact) -> None:
    def load(**serve: Any) -> Any:
        config = EngineConfig(
            finetuned.folder, finetuned.engine_metadata, ServeConfig("pytorch", **serve), 1
        )
        return pytorch.load(config)

    plain = load()
    examples = [[[text]] for text in TEXTS]
    plain_scores = plain.scores(examples)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pytorch, "CudaGraphs", FakeCudaGraphs)
        patch.setattr(pytorch, "_check_device", lambda config: None)
        graphs = load(cuda_graphs=True, batch=3)
    np.testing.assert_allclose(graphs.scores(examples), plain_scores, atol=1e-5)


@pytest.mark.parametrize(
    ("serve", "device", "reason"),
    [
        ({"cuda_graphs": True}, "cpu", "cuda_graphs needs a GPU. Choose a GPU configuration"),
        ({}, "cuda", "PyTorch finds no CUDA device. Install a PyTorch with CUDA"),
        ({"compile": True}, "cpu", r"compile needs a C\+\+ compiler. Install g\+\+"),
    ],
)
def test_what_the_machine_lacks_is_said(
    finetuned: Artifact,
    monkeypatch: pytest.MonkeyPatch,
    serve: dict[str, Any],
    device: str,
    reason: str,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    config = ServeConfig("pytorch", **serve)
    with pytest.raises(HarnessError, match=reason):
        pytorch.load(EngineConfig(finetuned.folder, finetuned.engine_metadata, config, 1, device))


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")
def test_compiled_model_gives_the_same_scores_for_every_length(finetuned: Artifact) -> None:
    def scores(**serve: Any) -> Any:
        config = ServeConfig("pytorch", **serve)
        engine = pytorch.load(EngineConfig(finetuned.folder, finetuned.engine_metadata, config, 1))
        return engine.scores([[[text]] for text in TEXTS])

    np.testing.assert_allclose(scores(compile=True, batch=4), scores(), atol=1e-4)
