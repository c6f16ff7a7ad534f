"""Plain PyTorch, fp32."""

import torch

from harness import models, text
from harness.engines.batching import EncoderEngine
from harness.engines.engine import Engine, Load, Scores


def load(what: Load) -> Engine:
    """Serve safetensors weights."""
    torch.set_num_threads(what.threads)
    model = models.load(what.folder, models.Shape.read(what.about["model"]))

    def forward(batch: text.Batch) -> Scores:
        with torch.inference_mode():
            out: Scores = model(
                torch.from_numpy(batch.ids),
                torch.from_numpy(batch.mask),
                torch.from_numpy(batch.segments),
            ).numpy()
        return out

    return EncoderEngine(what, forward)
