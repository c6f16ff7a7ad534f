"""Fixed scales on a graph of one matrix product, whose values can be computed by hand."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from harness.optimize.static_scales import find_ranges, fix_scales

WIDTH, OUT = 32, 8
RANDOM = np.random.default_rng(0)
WEIGHTS = RANDOM.normal(size=(WIDTH, OUT)).astype(np.float32)
BIAS = RANDOM.normal(size=OUT).astype(np.float32)
TEXTS = [RANDOM.normal(size=(5, WIDTH)).astype(np.float32).clip(-2, 3) for _ in range(300)]


@pytest.fixture
def dynamic(tmp_path: Path) -> onnx.ModelProto:
    """y = x W + b, of onnxruntime's dynamic quantizer."""
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "weights"], ["product"], "product"),
            helper.make_node("Add", ["product", "bias"], ["y"], "sum"),
        ],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", OUT])],
        [numpy_helper.from_array(WEIGHTS, "weights"), numpy_helper.from_array(BIAS, "bias")],
    )
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=9), tmp_path / "in.onnx")
    quantize_dynamic(
        tmp_path / "in.onnx", tmp_path / "out.onnx", per_channel=True, weight_type=QuantType.QInt8
    )
    return onnx.load(tmp_path / "out.onnx")


def run(model: onnx.ModelProto, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    result: NDArray[np.float32] = session.run(None, {"x": rows})[0]
    return result


def test_product_scale_and_bias_become_one_operator(dynamic: onnx.ModelProto) -> None:
    fixed = fix_scales(dynamic, ({"x": text} for text in TEXTS))
    assert [node.op_type for node in fixed.graph.node] == [
        "QuantizeLinear",
        "MatMulIntegerToFloat",
    ]
    onnx.checker.check_model(fixed)
    rows = np.concatenate(TEXTS[:20])
    np.testing.assert_allclose(run(fixed, rows), rows @ WEIGHTS + BIAS, atol=0.25)
    assert np.abs(run(fixed, rows) - run(dynamic, rows)).max() < 0.25


def test_a_row_does_not_depend_on_the_others(dynamic: onnx.ModelProto) -> None:
    fixed = fix_scales(dynamic, ({"x": text} for text in TEXTS))
    row = TEXTS[0][:1]
    large = np.concatenate([row, 100 * row])
    assert np.array_equal(run(fixed, large)[:1], run(fixed, row))
    assert not np.array_equal(run(dynamic, large)[:1], run(dynamic, row)), "the reason for it"


def test_ranges_are_those_of_the_texts_without_outliers(dynamic: onnx.ModelProto) -> None:
    """300 texts within -2 and 3, of which two have a value of 1000."""
    texts = [text.copy() for text in TEXTS]
    for text in texts[:2]:
        text[0, 0] = 1000
    lowest, highest = find_ranges(dynamic, ({"x": text} for text in texts))
    assert lowest.shape == highest.shape == (1,)
    assert lowest[0] == pytest.approx(-2, abs=0.05)
    assert highest[0] == pytest.approx(3, abs=0.05)


def test_graph_without_integer_products_stays_as_it_is() -> None:
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "relu",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
    )
    model = helper.make_model(graph)
    assert fix_scales(model, ()).SerializeToString() == model.SerializeToString()
