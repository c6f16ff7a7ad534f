"""Fewer bits: int8 by onnxruntime's own quantizer or by NNCF, fp16 for GPUs, bf16 for CPUs.

Weights are signed 8-bit integers with one scale a channel. Activations are quantized on the fly
with the scale of each input (`dynamic`), or with one that was found on training text (`static`).
Where the instruction set lacks VNNI, two 8-bit products may overflow 16 bits, so onnxruntime's
weights keep 7 bits there (`reduce_range`).
"""

import importlib
import logging
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import BuildError
from harness.optimize.base import Artifact, Inputs, Step, StepContext, accuracy
from harness.tasks.task import Task

if TYPE_CHECKING:
    from numpy.typing import NDArray

DTYPES = {"int8": ("onnx", "stages"), "fp16": ("onnx", "safetensors"), "bf16": ("safetensors",)}
"""The formats that each type is made from."""

SERVED_BY = {
    "onnx": "onnxruntime",
    "stages": "onnxruntime",
    "safetensors": "pytorch",
    "openvino": "openvino",
}


@dataclass(frozen=True)
class Quantize:
    """Store and compute with fewer bits.

    dtype: `int8` of an ONNX graph; `fp16` of a graph or of weights, for GPUs; `bf16` of weights,
        for PyTorch on a CPU that has it.
    method: of int8: `dynamic`, or `static` (matrix products outside of attention have a fixed
        scale).
    calibration: training examples that `static` and NNCF calibrate on, 1 or above.
    by: of int8: `onnxruntime`, or `nncf` for the engine `openvino` (always static; needs
        wattbench[openvino]).
    """

    dtype: str = "int8"
    method: str = "dynamic"
    calibration: int = 256
    by: str = "onnxruntime"


def validate(params: Quantize, shape: dict[str, Any]) -> list[str]:
    """Faults of the parameters, as sentences."""
    choices = {
        "dtype": tuple(DTYPES),
        "method": ("dynamic", "static"),
        "by": ("onnxruntime", "nncf"),
    }
    faults = []
    for key, known in choices.items():
        if getattr(params, key) not in known:
            faults.append(
                f"{key} = {getattr(params, key)!r}: choose {' or '.join(map(repr, known))}"
            )
    if params.calibration < 1:
        faults.append(
            f"calibration = {params.calibration}: the scales need at least 1 training example"
        )
    takes, gets = DTYPES.get(params.dtype), shape.get("format")
    if takes and gets in SERVED_BY and gets not in takes:
        faults.append(
            f"{params.dtype} is made from {' or '.join(takes)}, but it gets {gets}. "
            + ("Put the step 'export' before it" if gets == "safetensors" else "Leave it out")
        )
    if gets == "stages" and (params.method != "dynamic" or params.by != "onnxruntime"):
        faults.append("of a model with exits int8 is dynamic, by onnxruntime")
    if shape.get("dtype", "fp32") != "fp32":
        faults.append(f"it takes fp32, but gets {shape['dtype']}: quantize once")
    return faults


def output_spec(params: Quantize, shape: dict[str, Any]) -> dict[str, Any]:
    """What of the shape is another afterwards."""
    return {"dtype": params.dtype} | ({"format": "openvino"} if params.by == "nncf" else {})


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


def run(inputs: Inputs, task: Task, params: Quantize, context: StepContext) -> dict[str, Any]:
    """Write the quantized model; its selection score before and after goes into the artifact.

    Raises: BuildError if it is quantized already, if there is nothing to calibrate on, or if NNCF
    is not installed.
    """
    assert inputs.artifact is not None
    before = inputs.artifact
    dtype = before.about.get("dtype", "fp32")
    if dtype != "fp32":
        raise BuildError(f"the model is {dtype} already; it cannot be quantized again.")
    form = "openvino" if params.by == "nncf" else before.format
    tokenizer = context.out / "tokenizer.json"
    shutil.copyfile(before.folder / "tokenizer.json", tokenizer)
    if params.dtype == "int8" and params.by == "nncf":
        _int8_nncf(before, task, params, context)
    elif params.dtype == "int8":
        _int8(before, task, params, context)
    elif before.format == "onnx":
        _fp16_graph(before.folder / "model.onnx", context.out / "model.onnx")
    else:
        _half_weights(before, params.dtype, context.out)
    about = {"format": form, "dtype": params.dtype, "model": before.about["model"]}
    after = Artifact(context.out, {**before.about, **about})
    scores = {
        name: _selection_accuracy(each, context, task)
        for name, each in (("before", before), ("after", after))
    }
    return {**about, "target": target(), "selection": scores}


def _int8(before: Artifact, task: Task, params: Quantize, context: StepContext) -> None:
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_dynamic, quantize_static

    logging.getLogger().setLevel(logging.ERROR)  # remarks on each node that is left alone
    common: dict[str, Any] = {
        "per_channel": True,
        "reduce_range": not has_vnni(),
        "weight_type": QuantType.QInt8,
        "extra_options": {"DefaultTensorType": 1},
    }
    if params.method == "dynamic":
        for graph in before.folder.glob("*.onnx"):
            quantize_dynamic(graph, context.out / graph.name, **common)
        return
    source, path = before.folder / "model.onnx", context.out / "model.onnx"
    half = context.out / "half.onnx"
    quantize_static(
        source,
        half,
        _reader(before, task, params),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        op_types_to_quantize=["MatMul"],
        **common,
    )
    # fused attention has no static form, and embeddings have no activations
    quantize_dynamic(half, path, op_types_to_quantize=["Attention", "Gather"], **common)
    half.unlink()


def _int8_nncf(before: Artifact, task: Task, params: Quantize, context: StepContext) -> None:
    os.environ["NNCF_CI"] = "1"  # it reports its use otherwise; read when it is imported
    try:
        nncf, openvino = (importlib.import_module(name) for name in ("nncf", "openvino"))
    except ModuleNotFoundError as error:
        raise BuildError(
            f"by = 'nncf' needs {error.name}, which is not installed. Run: pip install "
            "'wattbench[openvino]'"
        ) from None
    nncf.set_log_level(logging.ERROR)
    feeds = list(_feeds(before, task, params))
    quantized = nncf.quantize(
        openvino.Core().read_model(before.folder / "model.onnx"),
        nncf.Dataset(feeds),
        model_type=nncf.ModelType.TRANSFORMER,
        subset_size=len(feeds),
    )
    openvino.save_model(quantized, context.out / "model.xml", compress_to_fp16=False)


def _fp16_graph(source: Path, path: Path) -> None:
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    onnx.save(convert_float_to_float16(onnx.load(source), keep_io_types=True), path)


def _half_weights(before: Artifact, dtype: str, out: Path) -> None:
    import torch

    from harness.models import classifier

    model = classifier.load(before.folder, classifier.EncoderSpec.from_dict(before.about["model"]))
    classifier.save(model.to(torch.bfloat16 if dtype == "bf16" else torch.float16), out)


def _feeds(artifact: Artifact, task: Task, params: Quantize) -> "Iterator[dict[str, NDArray[Any]]]":
    """Training examples, one at a time, as the graph takes them. Raises: BuildError if none."""
    import onnx

    from harness.models import tokenization

    rows = [each.candidates[0] for each in task.examples("train")[: params.calibration]]
    if not rows:
        raise BuildError(f"{task.name} has no training examples to calibrate on.")
    tokenizer = tokenization.load_tokenizer(
        artifact.folder / "tokenizer.json", artifact.about["max_length"]
    )
    taken = {each.name for each in onnx.load(artifact.folder / "model.onnx").graph.input}
    for each in tokenization.tokenize(tokenizer, rows):
        feeds = tokenization.pad([each]).feeds
        yield {name: value for name, value in feeds.items() if name in taken}


def _reader(artifact: Artifact, task: Task, params: Quantize) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    feeds = _feeds(artifact, task, params)

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> Any:
            return next(feeds, None)

    return Reader()


def _selection_accuracy(artifact: Artifact, context: StepContext, task: Task) -> float | None:
    from harness.engines import base, registry

    serve = base.ServeConfig(SERVED_BY[artifact.format])
    loaded = registry.load_engine(
        base.EngineConfig(artifact.folder, artifact.about, serve, context.threads)
    )
    examples = task.examples("selection")
    if not examples:
        return None
    return accuracy(loaded.scores([each.candidates for each in examples]), examples)


STEP = Step(
    "quantize",
    2,
    Quantize,
    ("onnx", "stages", "safetensors"),
    run,
    validate,
    output_spec,
    target=target,
)
