"""Static int8: the activations of a quantized graph get fixed scales, found on training text.

With scales that are found at run time (dynamic), those of a batch are of all its inputs together,
so an answer depends on what it is computed with. With fixed scales it does not.

onnxruntime's own static quantizer is not used: it leaves fused attention dynamic, and its graph was
slower than the dynamic one (docs/methodology/recipe.md).
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

PERCENTILE = 99
"""Share of the calibration texts, in percent, whose activations are not clipped. Between 50 and 100
the divergence from fp32 varies without a trend (docs/methodology/recipe.md)."""

CONTRIB = "com.microsoft"


def fix_scales(model: onnx.ModelProto, feeds: Iterable[dict[str, NDArray[Any]]]) -> onnx.ModelProto:
    """Return the graph with a fixed scale for each activation that is quantized.

    Args:
        model: a graph of onnxruntime's dynamic quantizer.
        feeds: the graph's inputs for each calibration text.
    """
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    if not _find_dynamic(fixed):
        return fixed
    lowest, highest = find_ranges(model, feeds)
    nodes = _find_dynamic(fixed)
    for node, low, high in zip(nodes, lowest.tolist(), highest.tolist(), strict=True):
        _fix_scale(fixed.graph, node, low, high)
    if all(opset.domain != CONTRIB for opset in fixed.opset_import):
        fixed.opset_import.append(helper.make_opsetid(CONTRIB, 1))
    _join_products(fixed.graph)
    return fixed


def find_ranges(
    model: onnx.ModelProto, feeds: Iterable[dict[str, NDArray[Any]]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the lowest and the highest value of each activation, without outliers among the texts.

    Args:
        model: a graph of onnxruntime's dynamic quantizer.
        feeds: the graph's inputs for each calibration text.

    Returns:
        Two arrays float64 [activations], in the order of the graph.
    """
    import onnxruntime

    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    names = []
    for node in _find_dynamic(watched):
        for name, kind in zip(node.output[1:], (TensorProto.FLOAT, TensorProto.UINT8), strict=True):
            watched.graph.output.append(helper.make_tensor_value_info(name, kind, []))
            names.append(name)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        watched.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    values = np.array([session.run(names, text) for text in feeds], np.float64)
    scales, zeros = values[:, ::2], values[:, 1::2]
    lowest = np.percentile(-zeros * scales, 100 - PERCENTILE, axis=0)
    return lowest, np.percentile((255 - zeros) * scales, PERCENTILE, axis=0)


def _find_dynamic(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.op_type == "DynamicQuantizeLinear"]


def _fix_scale(graph: onnx.GraphProto, node: onnx.NodeProto, low: float, high: float) -> None:
    """Make a node quantize with a fixed scale and zero point, under the names of its outputs."""
    quantized, scale, zero = node.output
    step = max((high - low) / 255, 1e-9)
    graph.initializer.append(numpy_helper.from_array(np.array(step, np.float32), scale))
    point = np.array(np.clip(round(-low / step), 0, 255), np.uint8)
    graph.initializer.append(numpy_helper.from_array(point, zero))
    node.op_type = "QuantizeLinear"
    node.input.extend([scale, zero])
    del node.output[:]
    node.output.append(quantized)


def _join_products(graph: onnx.GraphProto) -> None:
    """Replace each integer product, its conversion, scale and bias by one operator.

    The quantizer writes: product (int32) -> Cast -> Mul with the product of both scales (that of
    the activation first) -> Add with the bias. What has another form is left as it is.
    """
    constants = {tensor.name: tensor for tensor in graph.initializer}
    producers = {name: node for node in graph.node for name in node.output}
    consumers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            consumers.setdefault(name, []).append(node)

    def find_next(name: str, kind: str) -> tuple[onnx.NodeProto, str] | None:
        """Return the only consumer of a value, and its other input ('' if it has none)."""
        following = consumers.get(name, [])
        if len(following) != 1 or following[0].op_type != kind:
            return None
        others = [other for other in following[0].input if other != name]
        return following[0], others[0] if others else ""

    for product in [node for node in graph.node if node.op_type == "MatMulInteger"]:
        cast = find_next(product.output[0], "Cast")
        scaled = find_next(cast[0].output[0], "Mul") if cast else None
        scales = producers.get(scaled[1]) if scaled else None
        if not cast or not scaled or not scales or scales.op_type != "Mul":
            continue
        replaced = [cast[0], scaled[0]]
        added = find_next(scaled[0].output[0], "Add")
        bias = []
        if added and len(getattr(constants.get(added[1]), "dims", ())) == 1:
            bias = [added[1]]
            replaced.append(added[0])
        quantized, weights, zero, weights_zero = product.input
        product.op_type, product.domain = "MatMulIntegerToFloat", CONTRIB
        del product.input[:]
        product.input.extend([quantized, weights, *scales.input, zero, weights_zero, *bias])
        product.output[0] = replaced[-1].output[0]
        for node in replaced:
            graph.node.remove(node)
        if not any(scales.output[0] in node.input for node in graph.node):
            graph.node.remove(scales)
