"""onnxruntime, on CPU or CUDA."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from harness.engines.base import Engine, EngineConfig
from harness.engines.batching import EncoderEngine
from harness.engines.stages import Stage, StagesEngine
from harness.errors import HarnessError
from harness.models.answers import Scores

DISABLED_FUSIONS = ("SkipLayerNormFusion", "EmbedLayerNormFusion")
"""Fusions that a session may not make: what the step `export` left unfused is faster unfused (a
residual and its layer norm, 27 x 384, one thread: 57 us fused, 11 us unfused)."""

INPUT_TYPES = {"tensor(int32)": np.int32, "tensor(int64)": np.int64, "tensor(float)": np.float32}

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def load(config: EngineConfig) -> Engine:
    """Load an ONNX graph or a chain of graphs, which the step `export` has already optimized.

    Raises:
        HarnessError: the installed onnxruntime does not support the device, or cannot use it.
    """
    if PROVIDERS[config.device] not in onnxruntime.get_available_providers():
        raise HarnessError(
            f"the installed onnxruntime does not support {config.device}. Install onnxruntime-gpu "
            "in a separate environment."
        )

    def load_named(name: str) -> Stage:
        return load_graph(
            config.folder / name, config.threads_per_instance, config.serve.spin, config.device
        )

    if exits := config.metadata.get("model", {}).get("exits"):
        names = [f"stage-{number}.onnx" for number in range(len(exits) + 1)]
        return StagesEngine(config, [load_named(name) for name in names])
    graph = load_named("model.onnx")
    return EncoderEngine(config, lambda batch: graph(batch.feeds)[0])


def load_graph(path: Path, threads: int, spin: bool = True, device: str = "cpu") -> Stage:
    """Return the graph as a function from named inputs to its outputs.

    Args:
        path: an ONNX file.
        threads: threads within an operator.
        spin: whether the threads wait actively for the next operator until the call ends. Did they
            spin on after it, those of one graph would hold up those of the next in a chain.
        device: `cpu` or `cuda`.

    Raises:
        HarnessError: onnxruntime cannot use the GPU. Without the check it would answer on the CPU.
    """
    if device == "cuda":
        onnxruntime.preload_dlls()  # CUDA's libraries, of the packages that PyTorch brought
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spin)))
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(
        path, options, providers=[PROVIDERS[device]], disabled_optimizers=list(DISABLED_FUSIONS)
    )
    if PROVIDERS[device] not in session.get_providers():
        raise HarnessError(
            "onnxruntime-gpu cannot load CUDA's libraries, and would answer on the CPU. Install "
            "the versions of CUDA and cuDNN that it was built for: "
            'python -c "import onnxruntime; onnxruntime.print_debug_info()"'
        )
    dtypes = {node.name: INPUT_TYPES[node.type] for node in session.get_inputs()}

    def run(feeds: dict[str, Any]) -> list[Scores]:
        inputs = {name: feeds[name].astype(dtype, copy=False) for name, dtype in dtypes.items()}
        outputs: list[Scores] = session.run(None, inputs)
        return outputs

    return run
