"""OpenVINO on CPU: an ONNX graph of the step `export`, or one that NNCF has quantized.

Needs the extra `wattbench[openvino]`.
"""

import threading

import numpy as np
import openvino

from harness.engines.base import Engine, EngineConfig
from harness.engines.batching import EncoderEngine
from harness.errors import HarnessError
from harness.models import tokenization
from harness.models.answers import Scores


def load(config: EngineConfig) -> Engine:
    """Load `model.xml` or `model.onnx` in fp32 precision.

    Raises:
        HarnessError: OpenVINO cannot read the graph.
    """
    path = config.folder / "model.xml"
    if not path.exists():
        path = config.folder / "model.onnx"
    core = openvino.Core()
    settings = {
        "INFERENCE_NUM_THREADS": config.threads,
        "NUM_STREAMS": config.instances,
        "INFERENCE_PRECISION_HINT": "f32",  # otherwise bf16 on processors that support it
        "ENABLE_CPU_PINNING": False,  # the worker is pinned as a whole
    }
    try:
        model = core.compile_model(core.read_model(path), "CPU", settings)
    except RuntimeError as error:
        reason = [line for line in str(error).splitlines() if line.strip()][-1]
        raise HarnessError(
            f"OpenVINO cannot read {path} ({reason.strip()}). It cannot run a graph that "
            "onnxruntime has quantized; quantize with by = 'nncf'."
        ) from None
    names = {model_input.any_name for model_input in model.inputs}
    thread_state = threading.local()  # an inference request per instance

    def forward(batch: tokenization.Batch) -> Scores:
        if not hasattr(thread_state, "request"):
            thread_state.request = model.create_infer_request()
        feeds = {name: values for name, values in batch.feeds.items() if name in names}
        logits: Scores = thread_state.request.infer(feeds)[0].copy()
        return logits

    # OpenVINO's bindings prepare themselves in the first call; if two threads make that at once,
    # each may wait for the other forever
    ones = np.ones((1, config.metadata.get("model", {}).get("length", 2)), np.int64)
    forward(tokenization.Batch(ones, ones, ones * 0))
    return EncoderEngine(config, forward)
