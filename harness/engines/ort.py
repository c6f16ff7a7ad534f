"""onnxruntime on CPU."""

import numpy as np
import onnxruntime

from harness import text
from harness.engines.batching import EncoderEngine
from harness.engines.engine import Engine, Load, Scores


def load(what: Load) -> Engine:
    """Serve an ONNX graph as it is; it was optimized when it was exported."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = what.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(what.serve.spin)))
    session = onnxruntime.InferenceSession(
        what.folder / "model.onnx", options, providers=["CPUExecutionProvider"]
    )
    takes = {
        each.name: np.int32 if "int32" in each.type else np.int64 for each in session.get_inputs()
    }

    def forward(batch: text.Batch) -> Scores:
        feeds = {
            "input_ids": batch.ids,
            "attention_mask": batch.mask,
            "token_type_ids": batch.segments,
        }
        out: Scores = session.run(
            None, {name: feeds[name].astype(kind, copy=False) for name, kind in takes.items()}
        )[0]
        return out

    return EncoderEngine(what, forward)
