"""Plain PyTorch: fp32, bf16, and on CUDA also fp16; architectures other than BERT with Hugging Face
`transformers`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from harness.engines.base import Engine, EngineConfig, Scores
from harness.engines.batching import EncoderEngine
from harness.errors import HarnessError
from harness.models import classifier, tokenization


def load(what: EngineConfig) -> Engine:
    """Serve safetensors weights in their own precision; fp16 on a CPU, which has no fast kernels
    for it, is computed in fp32.

    Raises: HarnessError if there is no such device.
    """
    if what.device == "cuda" and not torch.cuda.is_available():
        raise HarnessError("PyTorch finds no CUDA device. Take a cpu configuration.")
    torch.set_num_threads(what.threads_each)
    if "architecture" in what.about["model"]:
        return _other(what)
    model = classifier.load(what.folder, classifier.EncoderShape.read(what.about["model"]))
    if what.device == "cpu" and what.about.get("dtype") == "fp16":
        model.float()
    model.to(what.device)

    def forward(batch: tokenization.Batch) -> Scores:
        with torch.inference_mode():
            inputs = (batch.ids, batch.mask, batch.segments)
            logits = model(*(torch.from_numpy(each).to(what.device) for each in inputs))
            out: Scores = logits.float().cpu().numpy()
        return out

    return EncoderEngine(what, forward)


def _other(what: EngineConfig) -> Engine:
    """The class that `transformers` has for it, in fp32; no code of the model's own is run."""
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(
        what.folder, local_files_only=True, use_safetensors=True, dtype=torch.float32
    )
    return EncoderEngine(what, forward_of(model, what.about["model"]["inputs"], what.device))


def forward_of(
    model: Any, names: Sequence[str], device: str = "cpu"
) -> Callable[[tokenization.Batch], Scores]:
    """From a padded batch to the logits, float32 [inputs, labels], of a model of `transformers`.

    names: of the inputs that it gets.
    """
    model.eval().to(device)

    def forward(batch: tokenization.Batch) -> Scores:
        with torch.inference_mode():
            feeds = {name: torch.from_numpy(batch.feeds[name]).to(device) for name in names}
            out: Scores = model(**feeds).logits.float().cpu().numpy()
        return out

    return forward
