"""OpenVINO on CPU: an ONNX graph as `export` leaves it, or one that NNCF has quantized.

Needs the extra `wattbench[openvino]`.
"""

import threading

import openvino

from harness.engines.base import Engine, EngineConfig, Scores
from harness.engines.batching import EncoderEngine
from harness.errors import HarnessError
from harness.models import tokenization


def load(what: EngineConfig) -> Engine:
    """Serve `model.xml` or `model.onnx` in fp32 precision, each instance with a request of its own.

    Raises: HarnessError if OpenVINO cannot read the graph.
    """
    path = what.folder / ("model.xml" if (what.folder / "model.xml").exists() else "model.onnx")
    core = openvino.Core()
    settings = {
        "INFERENCE_NUM_THREADS": what.threads,
        "NUM_STREAMS": what.serve.count(what.threads),
        "INFERENCE_PRECISION_HINT": "f32",  # else bf16 where the processor has it
        "ENABLE_CPU_PINNING": False,  # the worker is pinned as a whole
    }
    try:
        model = core.compile_model(core.read_model(path), "CPU", settings)
    except RuntimeError as error:
        reason = [line for line in str(error).splitlines() if line.strip()][-1]
        raise HarnessError(
            f"OpenVINO cannot read {path} ({reason.strip()}). What onnxruntime has quantized it "
            "cannot; quantize with by = 'nncf'."
        ) from None
    own = threading.local()

    def forward(batch: tokenization.Batch) -> Scores:
        if not hasattr(own, "request"):
            own.request = model.create_infer_request()
        out: Scores = own.request.infer(batch.feeds)[0].copy()
        return out

    return EncoderEngine(what, forward)
