"""Whether an artifact's weights are another artifact's, however they are laid out and quantized."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SAMPLE_SIZE = 48
REQUIRED_SHARE = 0.99
STEP_SHARE = 0.75
"""Share of a quantization step that a weight may differ from its value before rounding."""

MAX_RELATIVE_TOLERANCE = 0.5
"""Tolerance relative to the root mean square of a vector, above which a match means nothing."""

MIN_SIZE = 16
"""Matrices with fewer rows and columns are ignored; vectors shorter than this are not compared."""

Matrix = NDArray[np.float32]


@dataclass(frozen=True)
class StoredMatrix:
    """A matrix of an artifact, dequantized.

    Attributes:
        name: of the tensor.
        values: float32 [rows, columns].
        tolerance: how far rounding may have moved the values: one number, or one for each column.
    """

    name: str
    values: Matrix
    tolerance: Matrix


def find_foreign_matrices(folder: Path, reference: Path) -> tuple[list[str], int]:
    """Find the matrices of an artifact that do not come from a reference artifact.

    Every row, or every column, of a sample must be a row or column of the reference, up to a factor
    and to rounding: that holds for fused, transposed and quantized matrices, and not for trained
    ones.

    Args:
        folder: the artifact.
        reference: the artifact that its weights should come from.

    Returns:
        The names of the foreign matrices, and the number of all matrices.
    """
    reference_rows = _collect_rows(reference)
    names, count = [], 0
    for matrix in _read_matrices(folder):
        count += 1
        if not any(
            _matching_share(vectors, tolerance, reference_rows.get(vectors.shape[1]))
            >= REQUIRED_SHARE
            for vectors, tolerance in _sample_vectors(matrix)
        ):
            names.append(matrix.name)
    return names, count


def _sample_vectors(matrix: StoredMatrix) -> Iterator[tuple[Matrix, Matrix]]:
    """Yield a sample of the rows, then of the columns, each with its tolerance."""
    chance = np.random.default_rng(0)
    rows, columns = matrix.values.shape
    tolerance = np.broadcast_to(matrix.tolerance, matrix.values.shape)
    picked = chance.choice(rows, min(SAMPLE_SIZE, rows), replace=False)
    yield matrix.values[picked], tolerance[picked]
    picked = chance.choice(columns, min(SAMPLE_SIZE, columns), replace=False)
    yield matrix.values.T[picked], tolerance.T[picked]


def _matching_share(vectors: Matrix, tolerance: Matrix, rows: Matrix | None) -> float:
    """Return the share of the vectors' values that equal those of the most similar row.

    Args:
        vectors: float32 [n, width].
        tolerance: float32 [n, width].
        rows: float32 [m, width], of the reference; None if it has none of this width.
    """
    if rows is None:
        return 0.0
    similarity = _normalize(vectors) @ _normalize(rows).T
    twins = rows[similarity.argmax(axis=1)]
    factor = (vectors * twins).sum(axis=1) / np.maximum((twins * twins).sum(axis=1), 1e-12)
    close = np.abs(vectors - factor[:, None] * twins) <= tolerance
    # vectors that are zero, or rounded so coarsely that anything would match, match nothing
    size = np.sqrt((vectors * vectors).mean(axis=1, keepdims=True))
    distinct = (tolerance <= MAX_RELATIVE_TOLERANCE * size) | (
        (size == 0) & (np.abs(twins) <= tolerance)
    )
    return float((close & distinct).mean())


def _normalize(vectors: Matrix) -> Matrix:
    normalized: Matrix = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return normalized


def _collect_rows(folder: Path) -> dict[int, Matrix]:
    """Return all rows and columns of an artifact's matrices, by length."""
    by_width: dict[int, list[Matrix]] = {}
    for matrix in _read_matrices(folder):
        for vectors in (matrix.values, matrix.values.T):
            by_width.setdefault(vectors.shape[1], []).append(vectors)
    return {width: np.concatenate(parts) for width, parts in by_width.items() if width >= MIN_SIZE}


def _read_matrices(folder: Path) -> Iterator[StoredMatrix]:
    for path in sorted(folder.rglob("*.safetensors")):
        from safetensors.numpy import load_file

        for name, values in load_file(path).items():
            if values.ndim == 2 and max(values.shape) >= MIN_SIZE:
                yield _make_matrix(name, values.astype(np.float32), 1e-3)
    for path in sorted(folder.rglob("*.onnx")):
        yield from _read_graph_matrices(path)


def _read_graph_matrices(path: Path) -> Iterator[StoredMatrix]:
    """Yield the matrices of a graph: X, or in onnxruntime's naming X_quantized with X_scale and
    X_zero_point.
    """
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(path).graph
    tensors: dict[str, Any] = {tensor.name: tensor for tensor in graph.initializer}
    for name, tensor in tensors.items():
        if len(tensor.dims) != 2 or max(tensor.dims) < MIN_SIZE:
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
            yield _make_matrix(
                name, values.astype(np.float32), 1e-3 if values.itemsize > 2 else 1e-2
            )


def _make_matrix(name: str, values: Matrix, share: float) -> StoredMatrix:
    return StoredMatrix(name, values, np.float32(share) * np.abs(values).max(initial=0))
