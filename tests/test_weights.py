from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from safetensors.torch import save_file

from harness.measure.weights import weigh


def test_parameters_are_counted_in_every_format(tmp_path: Path) -> None:
    folders = {name: tmp_path / name for name in ("safetensors", "onnx", "npz", "none", "damaged")}
    for each in folders.values():
        each.mkdir()
        (each / "tokenizer.json").write_text("{}" * 5000)
    layer = torch.nn.Linear(30, 20)
    save_file(dict(layer.state_dict()), folders["safetensors"] / "model.safetensors")
    kernel = helper.make_tensor("kernel", TensorProto.INT8, [30, 20], np.zeros(600, np.int8))
    graph = helper.make_graph([], "graph", [], [], [kernel])
    onnx.save(helper.make_model(graph), folders["onnx"] / "model.onnx")
    np.savez(folders["npz"] / "weights.npz", kernel=np.zeros((30, 20)), bias=np.zeros(20))
    (folders["damaged"] / "model.onnx").write_bytes(b"damaged")
    found = {name: weigh(folder)[1] for name, folder in folders.items()}
    assert found == {"safetensors": 620, "onnx": 600, "npz": 620, "none": 0, "damaged": 0}
    size = (folders["safetensors"] / "model.safetensors").stat().st_size
    assert weigh(folders["safetensors"])[0] == round(size / 1e6, 3), "the tokenizer is no weight"


def test_openvinos_constants_are_counted(tmp_path: Path) -> None:
    import openvino
    from openvino import opset13

    given = opset13.parameter([1, 30], np.float32)
    product = opset13.matmul(given, opset13.constant(np.ones((30, 20), np.float32)), False, False)
    openvino.save_model(openvino.Model([product], [given]), tmp_path / "model.xml", False)
    size, parameters = weigh(tmp_path)
    assert parameters == 600
    assert size == round(2400 / 1e6, 3)
