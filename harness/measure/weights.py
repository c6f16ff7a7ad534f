"""How large an artifact's weights are."""

import json
from math import prod
from pathlib import Path

WEIGHTS = (".safetensors", ".onnx", ".bin", ".npz")


def weigh(folder: Path) -> tuple[float, int]:
    """The weights of an artifact: 10^6 bytes on disk, and how many parameters they are.

    A quantized weight counts once; scales and zero points, being per tensor or per channel, count
    with the weights but hardly matter.
    """
    files = [path for path in folder.rglob("*") if path.suffix in WEIGHTS]
    size = sum(path.stat().st_size for path in files) / 1e6
    return round(size, 3), sum(_parameters(path) for path in files)


def _parameters(path: Path) -> int:
    if path.suffix == ".safetensors":
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        return sum(prod(each["shape"]) for key, each in header.items() if key != "__metadata__")
    if path.suffix == ".onnx":
        import onnx

        try:
            graph = onnx.load(path, load_external_data=False).graph
        except Exception:  # a damaged file is its engine's to report
            return 0
        return sum(prod(each.dims) for each in graph.initializer)
    if path.suffix == ".npz":
        import numpy as np

        with np.load(path, allow_pickle=False) as arrays:
            return sum(arrays[name].size for name in arrays.files)
    from xml.etree import ElementTree

    layers = ElementTree.parse(path.with_suffix(".xml")).iter("data")  # noqa: S314 (our own)
    shapes = [each.get("shape", "") for each in layers if each.get("offset") is not None]
    return sum(prod(map(int, each.split(","))) for each in shapes if each)
