"""PyTorch in fp32 or bf16, on CUDA also fp16; other architectures than BERT with `transformers`."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from harness.engines.base import Engine, EngineConfig
from harness.engines.batching import EncoderEngine
from harness.errors import HarnessError
from harness.models import classifier, tokenization
from harness.models.answers import Scores


def load(config: EngineConfig) -> Engine:
    """Load safetensors weights in their own precision.

    Weights in fp16 are computed in fp32 on a CPU, which has no fast fp16 kernels.

    Raises:
        HarnessError: there is no CUDA device.
    """
    if config.device == "cuda" and not torch.cuda.is_available():
        raise HarnessError("PyTorch finds no CUDA device. Choose a CPU configuration.")
    torch.set_num_threads(config.threads_per_instance)
    if "architecture" in config.metadata["model"]:
        return _load_transformers(config)
    spec = classifier.EncoderSpec.from_dict(config.metadata["model"])
    model = classifier.load(config.folder, spec)
    if config.device == "cpu" and config.metadata.get("dtype") == "fp16":
        model.float()
    model.to(config.device)

    def forward(batch: tokenization.Batch) -> Scores:
        with torch.inference_mode():
            inputs = (batch.ids, batch.mask, batch.segments)
            tensors = [torch.from_numpy(array).to(config.device) for array in inputs]
            logits: Scores = model(*tensors).float().cpu().numpy()
        return logits

    return EncoderEngine(config, forward)


def _load_transformers(config: EngineConfig) -> Engine:
    """Load the architecture's class of `transformers` in fp32; no code of the model is run."""
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(
        config.folder, local_files_only=True, use_safetensors=True, dtype=torch.float32
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
