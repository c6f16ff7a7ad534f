"""8-bit dynamic quantization of an ONNX graph, by onnxruntime's own quantizer.

Weights are signed, one scale a channel; activations are quantized on the fly, one scale a tensor.
Where the instruction set lacks VNNI, two 8-bit products may overflow 16 bits, so weights keep 7
bits there (`reduce_range`).
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import BuildError
from harness.optimize.step import Context, Inputs, Step
from harness.tasks.task import Task


@dataclass(frozen=True)
class Quantize:
    """Quantize matrix products and embeddings.

    dtype: `int8`.
    """

    dtype: str = "int8"


def validate(params: Quantize, shape: dict[str, Any]) -> list[str]:
    """Faults of the parameters, as sentences."""
    return [] if params.dtype == "int8" else [f"dtype = {params.dtype!r}: choose 'int8'"]


def has_vnni() -> bool:
    """Whether this machine multiplies 8-bit integers without overflow."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return any(flag in flags.split() for flag in ("avx512_vnni", "avx_vnni", "asimddp"))


def target() -> str:
    """The part of the instruction set that changes the artifact."""
    return "vnni" if has_vnni() else "no-vnni"


def run(inputs: Inputs, task: Task, params: Quantize, context: Context) -> dict[str, Any]:
    """Write the quantized `model.onnx`; its selection score before and after goes into the
    artifact.

    Raises: BuildError if the graph is quantized already.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    assert inputs.artifact is not None
    before = inputs.artifact.about
    if before["dtype"] != "fp32":
        raise BuildError(f"the graph is {before['dtype']} already; it cannot be quantized again.")
    source, path = inputs.artifact.folder / "model.onnx", context.out / "model.onnx"
    logging.getLogger().setLevel(
        logging.ERROR
    )  # the quantizer remarks on each node it leaves alone
    quantize_dynamic(
        source,
        path,
        per_channel=True,
        reduce_range=not has_vnni(),
        weight_type=QuantType.QInt8,
        extra_options={"DefaultTensorType": 1},
    )
    (context.out / "tokenizer.json").write_bytes(
        (inputs.artifact.folder / "tokenizer.json").read_bytes()
    )
    scores = {
        name: _selection_accuracy(file, context, task)
        for name, file in (("before", source), ("after", path))
    }
    return {
        "format": "onnx",
        "dtype": "int8",
        "model": before["model"],
        "target": target(),
        "selection": scores,
    }


def _selection_accuracy(graph: Path, context: Context, task: Task) -> float:
    from harness.engines import engine, ort

    what = engine.Load(
        graph.parent, {"max_length": task.max_length}, engine.Serve("onnxruntime"), context.threads
    )
    examples = task.examples("selection")
    scores = ort.load(what).scores([each.candidates for each in examples])
    answers = engine.answers(scores, [len(each.candidates) for each in examples])
    return float(
        np.mean([answer == each.label for answer, each in zip(answers, examples, strict=True)])
    )


STEP = Step("quantize", 1, Quantize, ("onnx",), "onnx", run, validate, target=target)
