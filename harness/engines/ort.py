"""onnxruntime, on CPU or CUDA."""

import numpy as np
import onnxruntime

from harness import text
from harness.engines.batching import EncoderEngine
from harness.engines.engine import Engine, Load, Scores
from harness.errors import HarnessError

UNFUSED = ("SkipLayerNormFusion", "EmbedLayerNormFusion")
"""Fusions that the session may not make on its own: what the `export` step left apart is faster
apart (a residual and its layer norm, 27 x 384, one thread: 57 us fused, 11 us apart).
"""

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def load(what: Load) -> Engine:
    """Serve an ONNX graph as it is; it was optimized when it was exported.

    Raises: HarnessError if this onnxruntime cannot use the device.
    """
    if PROVIDERS[what.device] not in onnxruntime.get_available_providers():
        raise HarnessError(
            f"this onnxruntime cannot use {what.device}. Install onnxruntime-gpu in an environment "
            "of its own."
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = what.threads_each
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(what.serve.spin)))
    session = onnxruntime.InferenceSession(
        what.folder / "model.onnx",
        options,
        providers=[PROVIDERS[what.device]],
        disabled_optimizers=list(UNFUSED),
    )
    takes = {
        each.name: np.int32 if "int32" in each.type else np.int64 for each in session.get_inputs()
    }

    def forward(batch: text.Batch) -> Scores:
        feeds = batch.feeds
        out: Scores = session.run(
            None, {name: feeds[name].astype(kind, copy=False) for name, kind in takes.items()}
        )[0]
        return out

    return EncoderEngine(what, forward)
