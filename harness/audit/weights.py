"""Whether an artifact's weights are another artifact's, however they are laid out and quantized."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SAMPLE = 48
NEEDED = 0.99
STEP_SHARE = 0.75
"""Of a quantization step: how far a weight may be from what was rounded."""

COARSEST = 0.5
"""Tolerance over the size of a vector's values, above which a match says nothing."""

LEAST = 16
"""Matrices with fewer rows or columns (a classification layer) are compared as they are."""

Matrix = NDArray[np.float32]


@dataclass(frozen=True)
class StoredMatrix:
    """A matrix of an artifact, dequantized, and how far rounding may have moved its values: one
    number, or one for each column.
    """

    name: str
    values: Matrix
    tolerance: Matrix


def foreign(folder: Path, reference: Path) -> tuple[list[str], int]:
    """Names of the matrices in an artifact that are not the reference's, and how many there are.

    Every row, or every column, of a sample must be a row of the reference, up to a factor and to
    rounding: that holds for fused, transposed and quantized matrices, and not for trained ones.
    """
    rows = _rows_by_width(reference)
    wrong, count = [], 0
    for each in _matrices(folder):
        count += 1
        if not any(
            _share(vectors, tolerance, rows.get(vectors.shape[1])) >= NEEDED
            for vectors, tolerance in _ways(each)
        ):
            wrong.append(each.name)
    return wrong, count


def _ways(each: StoredMatrix) -> Iterator[tuple[Matrix, Matrix]]:
    """A sample of the rows, then of the columns, each with its tolerance."""
    chance = np.random.default_rng(0)
    rows, columns = each.values.shape
    tolerance = np.broadcast_to(each.tolerance, each.values.shape)
    picked = chance.choice(rows, min(SAMPLE, rows), replace=False)
    yield each.values[picked], tolerance[picked]
    picked = chance.choice(columns, min(SAMPLE, columns), replace=False)
    yield each.values.T[picked], tolerance.T[picked]


def _share(vectors: Matrix, tolerance: Matrix, rows: Matrix | None) -> float:
    """Of the vectors' values, how many are those of the most similar row."""
    if rows is None:
        return 0.0
    likeness = _normal(vectors) @ _normal(rows).T
    twins = rows[likeness.argmax(axis=1)]
    factor = (vectors * twins).sum(axis=1) / np.maximum((twins * twins).sum(axis=1), 1e-12)
    near = np.abs(vectors - factor[:, None] * twins) <= tolerance
    # what is rounded so coarsely that anything would do, or is nothing, is like nothing
    size = np.sqrt((vectors * vectors).mean(axis=1, keepdims=True))
    distinct = (tolerance <= COARSEST * size) | ((size == 0) & (np.abs(twins) <= tolerance))
    return float((near & distinct).mean())


def _normal(vectors: Matrix) -> Matrix:
    normal: Matrix = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return normal


def _rows_by_width(folder: Path) -> dict[int, Matrix]:
    """All rows of the matrices, and their columns, by length."""
    found: dict[int, list[Matrix]] = {}
    for each in _matrices(folder):
        for vectors in (each.values, each.values.T):
            found.setdefault(vectors.shape[1], []).append(vectors)
    return {width: np.concatenate(parts) for width, parts in found.items() if width >= LEAST}


def _matrices(folder: Path) -> Iterator[StoredMatrix]:
    for path in sorted(folder.rglob("*.safetensors")):
        from safetensors.numpy import load_file

        for name, values in load_file(path).items():
            if values.ndim == 2 and max(values.shape) >= LEAST:
                yield _plain(name, values.astype(np.float32), 1e-3)
    for path in sorted(folder.rglob("*.onnx")):
        yield from _graph_matrices(path)


def _graph_matrices(path: Path) -> Iterator[StoredMatrix]:
    """Those of a graph, under onnxruntime's names: X, or X_quantized with X_scale and
    X_zero_point.
    """
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(path).graph
    tensors: dict[str, Any] = {each.name: each for each in graph.initializer}
    for name, tensor in tensors.items():
        if len(tensor.dims) != 2 or max(tensor.dims) < LEAST:
            continue
        values = numpy_helper.to_array(tensor)
        if values.dtype.kind in "iu" and values.dtype.itemsize == 1:
            stem = name.removesuffix("_quantized")
            if f"{stem}_scale" not in tensors or f"{stem}_zero_point" not in tensors:
                yield StoredMatrix(
                    name, np.zeros(values.shape, np.float32), np.zeros(1, np.float32)
                )
                continue
            scale = numpy_helper.to_array(tensors[f"{stem}_scale"]).astype(np.float32)
            zero = numpy_helper.to_array(tensors[f"{stem}_zero_point"]).astype(np.float32)
            real = (values.astype(np.float32) - zero) * scale
            yield StoredMatrix(name, real, np.abs(STEP_SHARE * scale) + 1e-6)
        elif values.dtype.kind == "f":
            yield _plain(name, values.astype(np.float32), 1e-3 if values.itemsize > 2 else 1e-2)


def _plain(name: str, values: Matrix, share: float) -> StoredMatrix:
    return StoredMatrix(name, values, np.float32(share) * np.abs(values).max(initial=0))
