"""Plain PyTorch: fp32, bf16, and on CUDA also fp16."""

import torch

from harness import models, text
from harness.engines.batching import EncoderEngine
from harness.engines.engine import Engine, Load, Scores
from harness.errors import HarnessError


def load(what: Load) -> Engine:
    """Serve safetensors weights in their own precision; fp16 on a CPU, which has no fast kernels
    for it, is computed in fp32.

    Raises: HarnessError if there is no such device.
    """
    if what.device == "cuda" and not torch.cuda.is_available():
        raise HarnessError("PyTorch finds no CUDA device. Take a cpu configuration.")
    torch.set_num_threads(what.threads_each)
    model = models.load(what.folder, models.Shape.read(what.about["model"]))
    if what.device == "cpu" and what.about.get("dtype") == "fp16":
        model.float()
    model.to(what.device)

    def forward(batch: text.Batch) -> Scores:
        with torch.inference_mode():
            inputs = (batch.ids, batch.mask, batch.segments)
            logits = model(*(torch.from_numpy(each).to(what.device) for each in inputs))
            out: Scores = logits.float().cpu().numpy()
        return out

    return EncoderEngine(what, forward)
