"""onnxruntime, on CPU or CUDA."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from harness.engines.base import Engine, EngineConfig, Scores
from harness.engines.batching import EncoderEngine
from harness.engines.stages import Stage, StagesEngine
from harness.errors import HarnessError

UNFUSED = ("SkipLayerNormFusion", "EmbedLayerNormFusion")
"""Fusions that the session may not make on its own: what the `export` step left apart is faster
apart (a residual and its layer norm, 27 x 384, one thread: 57 us fused, 11 us apart).
"""

KINDS = {"tensor(int32)": np.int32, "tensor(int64)": np.int64, "tensor(float)": np.float32}

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def load(what: EngineConfig) -> Engine:
    """Serve an ONNX graph, or a chain of them, as it is; it was optimized when it was exported.

    Raises: HarnessError if this onnxruntime cannot use the device.
    """
    if PROVIDERS[what.device] not in onnxruntime.get_available_providers():
        raise HarnessError(
            f"this onnxruntime cannot use {what.device}. Install onnxruntime-gpu in an environment "
            "of its own."
        )

    def graph(name: str) -> Stage:
        return opened(what.folder / name, what.threads_each, what.serve.spin, what.device)

    if exits := what.about.get("model", {}).get("exits"):
        return StagesEngine(what, [graph(f"stage-{each}.onnx") for each in range(len(exits) + 1)])
    run = graph("model.onnx")
    return EncoderEngine(what, lambda batch: run(batch.feeds)[0])


def opened(path: Path, threads: int, spin: bool = False, device: str = "cpu") -> Stage:
    """A graph, ready to run."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spin)))
    session = onnxruntime.InferenceSession(
        path, options, providers=[PROVIDERS[device]], disabled_optimizers=list(UNFUSED)
    )
    takes = {each.name: KINDS[each.type] for each in session.get_inputs()}

    def run(feeds: dict[str, Any]) -> list[Scores]:
        given = {name: feeds[name].astype(kind, copy=False) for name, kind in takes.items()}
        found: list[Scores] = session.run(None, given)
        return found

    return run
