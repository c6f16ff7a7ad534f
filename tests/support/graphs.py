"""A small ONNX graph of a classifier, in the variants in which exporters write one."""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.support.adoption import word_tokenizer

WIDTH, LABELS = 8, 2


def get_weights() -> tuple[np.ndarray, np.ndarray]:
    """Embeddings [tokens, width] and the matrix of the classification layer."""
    chance = np.random.default_rng(0)
    tokens = word_tokenizer(0).get_vocab_size()
    return (
        chance.normal(size=(tokens, WIDTH)).astype(np.float32),
        chance.normal(size=(WIDTH, LABELS)).astype(np.float32),
    )


def build_graph(
    mask: int = TensorProto.INT64,
    ids: int = TensorProto.INT64,
    shape: tuple[Any, Any] = ("batch", "sequence"),
    outputs: tuple[str, ...] = ("logits",),
    half: bool = False,
) -> onnx.ModelProto:
    """The mean of the embeddings of all tokens, and a classification layer.

    Args:
        mask: type of the input attention_mask.
        ids: type of the input input_ids.
        shape: of the inputs.
        outputs: some of `hidden` [batch, sequence, width], `pooled` [batch, width],
            `label` [batch] and the logits, by any other name.
        half: whether weights and logits are fp16.
    """
    dtype, float_type = (
        (np.float16, TensorProto.FLOAT16) if half else (np.float32, TensorProto.FLOAT)
    )
    embeddings, matrix = get_weights()
    weights = {"embeddings": embeddings.astype(dtype), "matrix": matrix.astype(dtype)}
    logits = next(name for name in outputs if name not in ("hidden", "pooled", "label"))
    kinds = {"hidden": (float_type, 3), "pooled": (float_type, 2), "label": (TensorProto.INT64, 1)}
    nodes = [
        helper.make_node("Gather", ["embeddings", "input_ids"], ["hidden"]),
        helper.make_node("Cast", ["attention_mask"], ["weight"], to=float_type),
        helper.make_node("Unsqueeze", ["weight", "last"], ["column"]),
        helper.make_node("Mul", ["hidden", "column"], ["real"]),
        helper.make_node("ReduceSum", ["real", "middle"], ["sum"], keepdims=0),
        helper.make_node("ReduceSum", ["weight", "middle"], ["count"], keepdims=1),
        helper.make_node("Div", ["sum", "count"], ["pooled"]),
        helper.make_node("MatMul", ["pooled", "matrix"], [logits]),
        helper.make_node("ArgMax", [logits], ["label"], axis=1, keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "mean",
        [
            helper.make_tensor_value_info("input_ids", ids, shape),
            helper.make_tensor_value_info("attention_mask", mask, shape),
        ],
        [
            helper.make_tensor_value_info(name, kind, [None] * dimensions)
            for name in outputs
            for kind, dimensions in [kinds.get(name, (float_type, 2))]
        ],
        [
            *(numpy_helper.from_array(value, name) for name, value in weights.items()),
            numpy_helper.from_array(np.array([2]), "last"),
            numpy_helper.from_array(np.array([1]), "middle"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
