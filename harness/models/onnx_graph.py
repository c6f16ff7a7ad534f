"""The inputs and outputs of an ONNX graph that a user has exported."""

import math
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from harness.errors import SourceError
from harness.store import untrusted

INPUTS = ("attention_mask", "input_ids", "token_type_ids")
INPUT_TYPES = ("INT64", "INT32", "BOOL", "FLOAT", "FLOAT16")
INTEGER_NODES = "QuantizeLinear|Integer|QLinear|NBits"
LOGITS = "logits"

MAX_GRAPH_BYTES = (2 << 30) - (16 << 20)
"""Protobuf, the format of ONNX, has no larger messages than 2 GiB."""


@dataclass(frozen=True)
class GraphSpec:
    """What a graph states about itself.

    Attributes:
        shape: the only number of inputs and of tokens that it takes; 0 for any.
        dtype: `int8` if it computes with integers, `fp16` if it has weights in fp16, else `fp32`.
        parameters: the number of its weights.
    """

    shape: tuple[int, int]
    dtype: str
    parameters: int


def read_spec(path: Path) -> GraphSpec:
    """Return what a graph states about itself. It is read once per process, unless it changes.

    Raises:
        SourceError: it is not a graph, has inputs that no tokenizer provides or a fixed number of
            inputs above 1, or its weights are missing.
    """
    status = path.stat()
    return _read_spec(path, status.st_mtime_ns, status.st_size)


@cache
def _read_spec(path: Path, mtime_ns: int, size: int) -> GraphSpec:
    from onnx import TensorProto

    model = untrusted.load_graph(path)
    inputs = _get_inputs(model.graph)
    shapes = {_check_input(path, value) for value in inputs}
    if "input_ids" not in {value.name for value in inputs}:
        raise SourceError(f"{path}: the graph has no input input_ids. {_describe_export()}")
    rows, length = (max(sizes) for sizes in zip(*shapes, strict=True))
    if rows > 1:
        raise SourceError(
            f"{path}: the graph takes exactly {rows} texts at once. {_describe_export()}"
        )
    dtype = "fp32"
    if any(tensor.data_type == TensorProto.FLOAT16 for tensor in model.graph.initializer):
        dtype = "fp16"
    if any(re.search(INTEGER_NODES, node.op_type) for node in model.graph.node):
        dtype = "int8"
    return GraphSpec(
        (rows, length),
        dtype,
        sum(math.prod(tensor.dims) for tensor in model.graph.initializer),
    )


def _get_inputs(graph: Any) -> list[Any]:
    """Return the inputs that are not weights."""
    weights = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in weights]


def _check_input(path: Path, value: Any) -> tuple[int, int]:
    """Return the fixed number of inputs and of tokens, 0 for any."""
    from onnx import TensorProto

    tensor = value.type.tensor_type
    sizes = [dimension.dim_value for dimension in tensor.shape.dim] or [0, 0]
    kind = TensorProto.DataType.Name(tensor.elem_type)
    if value.name not in INPUTS:
        raise SourceError(f"{path}: the graph has an input {value.name}. {_describe_export()}")
    if kind not in INPUT_TYPES or len(sizes) != 2:
        raise SourceError(
            f"{path}: the input {value.name} has type {kind} and {len(sizes)} dimensions. "
            f"{_describe_export()}"
        )
    return sizes[0], sizes[1]


def _describe_export() -> str:
    return (
        f"Export it with the inputs {', '.join(INPUTS)} (the last is optional), each an integer "
        "[batch, sequence] with both sizes free (dynamic_axes), and the logits as output."
    )


def write_graph(path: Path, target: Path) -> list[str]:
    """Write a graph whose inputs are int64, with its weights inside.

    A graph that is so already is copied byte by byte. Where it would be too large, its weights are
    written into one file beside it.

    Args:
        path: the graph.
        target: the file to write.

    Returns:
        The names of its outputs.
    """
    import onnx
    from onnx import TensorProto, helper

    files = untrusted.find_external_files(path)
    graph = untrusted.load_graph(path).graph
    names = [value.name for value in graph.output]
    inputs = _get_inputs(graph)
    others = [value for value in inputs if value.type.tensor_type.elem_type != TensorProto.INT64]
    if not files and not others and len(inputs) == len(graph.input):
        shutil.copyfile(path, target)
        return names
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        for file in (path, *files):  # the hub's cache holds links, which onnx does not follow
            copy = Path(folder) / file.relative_to(path.parent)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
        model = onnx.load(Path(folder) / path.name)
    graph = model.graph
    inputs = _get_inputs(graph)
    del graph.input[:]  # before version 4 of the format, weights are inputs too
    graph.input.extend(inputs)
    for value in graph.input:
        tensor = value.type.tensor_type
        if tensor.elem_type != TensorProto.INT64:
            cast = helper.make_node(
                "Cast", [value.name], [f"{value.name}_cast"], to=tensor.elem_type
            )
            _rename_input(graph, value.name, f"{value.name}_cast")
            graph.node.insert(0, cast)
            tensor.elem_type = TensorProto.INT64
    _save(model, target, sum(file.stat().st_size for file in (path, *files)))
    return names


def keep_output(path: Path, number: int) -> None:
    """Make one output, in fp32, the only one of a graph.

    Nodes that lead to other outputs alone are left out by onnxruntime when it loads the graph.

    Args:
        path: the graph, which is changed.
        number: of the output, from 0.
    """
    import onnx
    from onnx import TensorProto, helper

    model = untrusted.load_graph(path)
    output = model.graph.output[number]
    is_fp32 = output.type.tensor_type.elem_type == TensorProto.FLOAT
    if is_fp32 and len(model.graph.output) == 1:
        return
    files = untrusted.find_external_files(path)
    size = sum(file.stat().st_size for file in (path, *files))
    model = onnx.load(path)
    del model.graph.output[:]
    if not is_fp32:
        name = f"{output.name}_fp32"
        cast = helper.make_node("Cast", [output.name], [name], to=TensorProto.FLOAT)
        model.graph.node.append(cast)
        output = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
    model.graph.output.append(output)
    for file in files:
        file.unlink()
    _save(model, path, size)


def _save(model: Any, target: Path, size: int) -> None:
    import onnx

    is_large = size > MAX_GRAPH_BYTES
    onnx.save(model, target, save_as_external_data=is_large, location=f"{target.name}_data")


def _rename_input(graph: Any, old: str, new: str) -> None:
    """Let all nodes read another tensor, also those of the graphs inside nodes."""
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name == old:
                node.input[index] = new
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                _rename_input(inner, old, new)


def find_logits(names: Sequence[str], values: Sequence[Any], labels: int) -> int | None:
    """Return which output holds the logits, from 0.

    Of the outputs with one number per label it is the one called `logits`, otherwise the first;
    None if there is none.

    Args:
        names: of the outputs.
        values: of the outputs, for one text.
        labels: the number of labels.
    """
    fitting = [
        number
        for number, value in enumerate(values)
        if getattr(value, "shape", None) == (1, labels) and value.dtype.kind == "f"
    ]
    named = [number for number in fitting if names[number] == LOGITS]
    return next(iter([*named, *fitting]), None)
