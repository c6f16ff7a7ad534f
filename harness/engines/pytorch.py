"""PyTorch in fp32 or bf16, on CUDA also fp16; other architectures than BERT with `transformers`.

On CUDA a forward pass is asynchronous, but its scores are copied to the host before they are
returned, so an answer is always complete when it is sent.
"""

import shutil
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.engines.base import Engine, EngineConfig
from harness.engines.batching import EncoderEngine
from harness.errors import HarnessError
from harness.models import classifier, tokenization
from harness.models.answers import Scores

GRAPH_STEP = 16
"""CUDA graphs are recorded for lengths that are multiples of this, in tokens."""

GRAPH_WARM_UP = 2

Forward = Callable[..., Tensor]


def load(config: EngineConfig) -> Engine:
    """Load safetensors weights in their own precision.

    Weights in fp16 are computed in fp32 on a CPU, which has no fast fp16 kernels.

    Raises:
        HarnessError: there is no CUDA device, or `[serve]` requires something that this machine or
            this model does not have.
    """
    _check_device(config)
    # cuDNN's attention, which PyTorch prefers for fp16 on some GPUs, prepares itself for every new
    # shape: on an H100, batches in fp16 went from 424 to 16,406 examples/s without it
    torch.backends.cuda.enable_cudnn_sdp(False)
    torch.set_num_threads(config.threads_per_instance)
    if "architecture" in config.metadata["model"]:
        return _load_transformers(config)
    spec = classifier.EncoderSpec.from_dict(config.metadata["model"])
    model = classifier.load(config.folder, spec)
    if config.device == "cpu" and config.metadata.get("dtype") == "fp16":
        model.float()
    model.to(config.device)
    if not (config.serve.compile or config.serve.cuda_graphs):
        return EncoderEngine(config, lambda batch: _compute_scores(model, batch, config.device))
    model.bert.encoder.always_masked = True
    compiled = torch.compile(model, dynamic=True, fullgraph=True) if config.serve.compile else model
    if config.serve.cuda_graphs:
        graphs = CudaGraphs(compiled, config)
        return EncoderEngine(config, graphs.forward)
    _warm_up(compiled, config)
    return EncoderEngine(config, lambda batch: _compute_scores(compiled, batch, config.device))


def _check_device(config: EngineConfig) -> None:
    if config.device == "cuda" and not torch.cuda.is_available():
        raise HarnessError(
            "PyTorch finds no CUDA device. Install a PyTorch with CUDA, or choose a CPU "
            "configuration"
        )
    if config.serve.cuda_graphs and config.device != "cuda":
        raise HarnessError("cuda_graphs needs a GPU. Choose a GPU configuration, such as gpu-1")
    if config.serve.compile and not shutil.which("g++"):
        raise HarnessError("compile needs a C++ compiler. Install g++, or remove the key")


def _compute_scores(model: Forward, batch: tokenization.Batch, device: str) -> Scores:
    with torch.inference_mode():
        inputs = (batch.ids, batch.mask, batch.segments)
        tensors = [torch.from_numpy(array).to(device) for array in inputs]
        logits: Scores = model(*tensors).float().cpu().numpy()
    return logits


def _warm_up(model: Forward, config: EngineConfig) -> None:
    """Compile for single inputs and, if there are any, for batches, before anything is timed."""
    for rows in sorted({1, config.serve.batch}):
        for length in (16, 32):  # two lengths, so that the length becomes a variable
            ones = np.ones((rows, min(length, config.metadata["max_length"])), np.int64)
            _compute_scores(model, tokenization.Batch(ones, ones, ones * 0), config.device)


class CudaGraphs:
    """The forward pass recorded as CUDA graphs: one for each length, for single inputs and for full
    batches. A batch of another size is computed without a graph.

    Args:
        model: from ids, mask and segments, int64 [rows, length], to logits [rows, labels].
        config: has the batch size and the maximum length.
    """

    def __init__(self, model: Forward, config: EngineConfig) -> None:
        self._model, self._device = model, config.device
        longest = int(config.metadata["max_length"])
        self._lengths = [*range(GRAPH_STEP, longest, GRAPH_STEP), longest]
        self._graphs: dict[tuple[int, int], tuple[torch.cuda.CUDAGraph, Tensor, Tensor]] = {}
        self._pool: Any = None
        with torch.inference_mode():
            for rows in sorted({1, config.serve.batch}, reverse=True):
                for length in reversed(self._lengths):  # the largest first: they share memory
                    self._graphs[rows, length] = self._record(rows, length)

    def forward(self, batch: tokenization.Batch) -> Scores:
        """Return float32 [rows, labels]."""
        rows, length = batch.ids.shape
        rounded = self._lengths[bisect_left(self._lengths, length)]
        feeds = np.zeros((3, rows, rounded), np.int64)
        feeds[:, :, :length] = batch.ids, batch.mask, batch.segments
        with torch.inference_mode():
            if (rows, rounded) not in self._graphs:
                ids, mask, segments = torch.from_numpy(feeds).to(self._device)
                computed: Scores = self._model(ids, mask, segments).float().cpu().numpy()
                return computed
            graph, inputs, logits = self._graphs[rows, rounded]
            inputs.copy_(torch.from_numpy(feeds))
            graph.replay()
            scores: Scores = logits.cpu().numpy()
        return scores

    def _record(self, rows: int, length: int) -> tuple[torch.cuda.CUDAGraph, Tensor, Tensor]:
        """Return a graph, its inputs int64 [3, rows, length], and its logits float32."""
        inputs = torch.ones((3, rows, length), dtype=torch.int64, device=self._device)
        inputs[2] = 0
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # libraries allocate their workspace in the first calls
            for _ in range(GRAPH_WARM_UP):
                self._model(*inputs)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            logits = self._model(*inputs).float()
        self._pool = self._pool or graph.pool()
        return graph, inputs, logits


def _load_transformers(config: EngineConfig) -> Engine:
    """Load the architecture's class of `transformers` in fp32; no code of the model is run."""
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(
        config.folder,
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
        dtype=torch.float32,
    )
    names = config.metadata["model"]["inputs"]
    return EncoderEngine(config, build_forward(model, names, config.device))


def build_forward(
    model: Any, names: Sequence[str], device: str = "cpu"
) -> Callable[[tokenization.Batch], Scores]:
    """Return the forward pass of a model of `transformers`.

    Args:
        model: a model for sequence classification.
        names: the inputs that it takes.
        device: `cpu` or `cuda`.

    Returns:
        A function from a padded batch to the logits, float32 [inputs, labels].
    """
    model.eval().to(device)

    def forward(batch: tokenization.Batch) -> Scores:
        with torch.inference_mode():
            feeds = {name: torch.from_numpy(batch.feeds[name]).to(device) for name in names}
            logits: Scores = model(**feeds).logits.float().cpu().numpy()
        return logits

    return forward
