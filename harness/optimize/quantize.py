"""Quantization: int8 by onnxruntime's quantizer or by NNCF, fp16 for GPUs, bf16 for CPUs.

int8 weights are signed, with one scale per channel. Activations are quantized at run time with the
scale of each batch (`dynamic`), or with a scale that was found on training text (`static`). Without
VNNI in the instruction set the sum of two 8-bit products may overflow 16 bits, so onnxruntime's
weights have 7 bits there (`reduce_range`).
"""

import importlib
import logging
import os
import shutil
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from harness.errors import BuildError
from harness.models.answers import compute_accuracy
from harness.models.model_spec import ModelSpec
from harness.optimize.base import Artifact, Inputs, Step, StepContext, StepParams
from harness.tasks.task import Task
from harness.telemetry.kernel import read_processor_flags

if TYPE_CHECKING:
    from numpy.typing import NDArray

DTYPES = {"int8": ("onnx", "stages"), "fp16": ("onnx", "safetensors"), "bf16": ("safetensors",)}
"""The artifact formats that each type can be made from."""

ENGINE_OF_FORMAT = {
    "onnx": "onnxruntime",
    "stages": "onnxruntime",
    "safetensors": "pytorch",
    "openvino": "openvino",
}


class Quantize(StepParams):
    """Store and compute with fewer bits."""

    dtype: Literal["int8", "fp16", "bf16"] = Field(
        "int8",
        description="`int8` of an ONNX graph; `fp16` of a graph or of weights, for GPUs; `bf16` of "
        "weights, for PyTorch",
    )
    method: Literal["dynamic", "static"] = Field(
        "dynamic",
        description="of int8: `dynamic`, or `static`, whose activations have fixed scales, so that "
        "an answer does not depend on the batch it is computed in",
    )
    calibration: int = Field(
        256, ge=1, description="training examples that `static` and NNCF calibrate on"
    )
    by: Literal["onnxruntime", "nncf"] = Field(
        "onnxruntime",
        description="of int8: `onnxruntime`, or `nncf` for the engine `openvino` (always static; "
        "needs wattbench[openvino])",
    )

    def key_values(self) -> dict[str, Any]:
        """Return what a key hashes: with onnxruntime, the way in which scales are fixed, too."""
        fixed = {"scales": 2} if self.method == "static" and self.by == "onnxruntime" else {}
        return super().key_values() | fixed


def validate(params: Quantize, spec: ModelSpec) -> list[str]:
    """Return what does not fit the model, as sentences."""
    faults = []
    formats = DTYPES.get(params.dtype)
    if formats and spec.format in ENGINE_OF_FORMAT and spec.format not in formats:
        is_exportable = spec.format == "safetensors"
        faults.append(
            f"{params.dtype} is made from {' or '.join(formats)}, but it gets {spec.format}. "
            + ("Put the step 'export' before it" if is_exportable else "Leave it out")
        )
    if spec.format == "stages" and (params.method != "dynamic" or params.by != "onnxruntime"):
        faults.append("a model with exits needs method = 'dynamic' and by = 'onnxruntime'")
    if spec.dtype != "fp32":
        faults.append(f"it needs fp32, but gets {spec.dtype}: quantize once")
    return faults


def output_spec(params: Quantize, spec: ModelSpec) -> ModelSpec:
    """Return the specification of the quantized model."""
    new_format = "openvino" if params.by == "nncf" else spec.format
    return replace(spec, dtype=params.dtype, format=new_format)


def has_vnni(flags: Collection[str] | None = None) -> bool:
    """Return whether a machine multiplies 8-bit integers without overflow.

    Args:
        flags: the flags of its processor (default: this machine's).
    """
    if flags is None:
        flags = read_processor_flags()
    return any(flag in flags for flag in ("avx512_vnni", "avx_vnni", "asimddp"))


def target(flags: Collection[str] | None = None) -> str:
    """Return the part of the instruction set that changes the artifact.

    Args:
        flags: the flags of a processor (default: this machine's).
    """
    return "vnni" if (has_vnni() if flags is None else has_vnni(flags)) else "no-vnni"


def run(inputs: Inputs, task: Task, params: Quantize, context: StepContext) -> dict[str, Any]:
    """Write the quantized model; the metadata has its selection accuracy before and after.

    Raises:
        BuildError: the model is quantized already, there is nothing to calibrate on, or NNCF is not
            installed.
    """
    assert inputs.artifact is not None
    before = inputs.artifact
    dtype = before.metadata.dtype
    if dtype != "fp32":
        raise BuildError(f"the model is {dtype} already; it cannot be quantized again.")
    new_format = "openvino" if params.by == "nncf" else before.format
    tokenizer = context.out / "tokenizer.json"
    shutil.copyfile(before.folder / "tokenizer.json", tokenizer)
    if params.dtype == "int8" and params.by == "nncf":
        _quantize_by_nncf(before, task, params, context)
    elif params.dtype == "int8":
        _quantize_by_onnxruntime(before, task, params, context)
    elif before.format == "onnx":
        _convert_graph_to_fp16(before.folder / "model.onnx", context.out / "model.onnx")
    else:
        _convert_weights(before, params.dtype, context.out)
    metadata = replace(before.metadata, format=new_format, dtype=params.dtype)
    after = Artifact(context.out, metadata)
    accuracies = {
        name: _compute_selection_accuracy(artifact, context, task)
        for name, artifact in (("before", before), ("after", after))
    }
    return {
        "format": new_format,
        "dtype": params.dtype,
        "model": metadata.model,
        "target": target(),
        "selection": accuracies,
    }


def _quantize_by_onnxruntime(
    before: Artifact, task: Task, params: Quantize, context: StepContext
) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logging.getLogger().setLevel(logging.ERROR)  # no remark on each node that is not quantized
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
    import onnx

    from harness.optimize import static_scales

    feeds = list(_load_calibration_feeds(before, task, params))
    path = context.out / "model.onnx"
    quantize_dynamic(before.folder / path.name, path, **common)
    onnx.save(static_scales.fix_scales(onnx.load(path), feeds), path)


def _quantize_by_nncf(before: Artifact, task: Task, params: Quantize, context: StepContext) -> None:
    os.environ["NNCF_CI"] = "1"  # disables its usage reports; read at import
    try:
        nncf, openvino = (importlib.import_module(name) for name in ("nncf", "openvino"))
    except ModuleNotFoundError as error:
        raise BuildError(
            f"by = 'nncf' needs {error.name}, which is not installed. Run: pip install "
            "'wattbench[openvino]'"
        ) from None
    nncf.set_log_level(logging.ERROR)
    feeds = list(_load_calibration_feeds(before, task, params))
    quantized = nncf.quantize(
        openvino.Core().read_model(before.folder / "model.onnx"),
        nncf.Dataset(feeds),
        model_type=nncf.ModelType.TRANSFORMER,
        subset_size=len(feeds),
    )
    openvino.save_model(quantized, context.out / "model.xml", compress_to_fp16=False)


def _convert_graph_to_fp16(source: Path, path: Path) -> None:
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    onnx.save(convert_float_to_float16(onnx.load(source), keep_io_types=True), path)


def _convert_weights(before: Artifact, dtype: str, out: Path) -> None:
    import torch

    from harness.models import classifier

    spec = classifier.EncoderSpec.from_dict(before.metadata.model)
    model = classifier.load(before.folder, spec)
    classifier.save(model.to(torch.bfloat16 if dtype == "bf16" else torch.float16), out)


def _load_calibration_feeds(
    artifact: Artifact, task: Task, params: Quantize
) -> "Iterator[dict[str, NDArray[Any]]]":
    """Yield training examples, one at a time, as the graph's inputs.

    Raises:
        BuildError: there are none.
    """
    import onnx

    from harness.models import tokenization

    examples = task.examples("train")[: params.calibration]
    rows = [example.candidates[0] for example in examples]
    if not rows:
        raise BuildError(f"{task.name} has no training examples to calibrate on.")
    tokenizer = tokenization.load_tokenizer(
        artifact.folder / "tokenizer.json", artifact.metadata.max_length
    )
    graph = onnx.load(artifact.folder / "model.onnx").graph
    inputs = {tensor.name for tensor in graph.input}
    model = artifact.metadata.model
    length, padding = model.get("length"), tokenization.Padding(**(model.get("padding") or {}))
    for encoding in tokenization.tokenize(tokenizer, rows):
        feeds = tokenization.pad([encoding], length, padding).feeds
        yield {name: value for name, value in feeds.items() if name in inputs}


def _compute_selection_accuracy(
    artifact: Artifact, context: StepContext, task: Task
) -> float | None:
    """Return the accuracy on the selection slice; None if that is empty."""
    from harness.engines import base, registry

    serve = base.ServeConfig(ENGINE_OF_FORMAT[artifact.format])
    loaded = registry.load_engine(
        base.EngineConfig(artifact.folder, artifact.engine_metadata, serve, context.threads)
    )
    examples = task.examples("selection")
    if not examples:
        return None
    return compute_accuracy(
        loaded.scores([example.candidates for example in examples]),
        [len(example.candidates) for example in examples],
        [label for example in examples for label in example.candidate_labels],
    )


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
