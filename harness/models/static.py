"""The static student: hashed features, sums of rows of a table, a small MLP. NumPy and SciPy alone.

fastText (Joulin et al. 2017), distilled (Sparse Distillation: Ye et al. 2022). The forward pass is
the same in training, where it selects the best epoch, and in serving.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from harness.models import hashed_features
from harness.models.hashed_features import Features

Array = NDArray[np.float32]


@dataclass(frozen=True)
class FeatureSpec:
    """Which features of a text are hashed.

    Attributes:
        buckets: number of rows of the table.
        words: length of the longest run of words.
        letters: lengths of the runs of bytes.
    """

    buckets: int
    words: int
    letters: tuple[int, ...]


@dataclass(frozen=True)
class StaticSpec:
    """The content of `static.json`.

    Attributes:
        sides: 1 for single texts, 2 for pairs.
        features: the features of each side.
    """

    sides: int
    features: FeatureSpec

    @staticmethod
    def from_dict(content: dict[str, Any]) -> "StaticSpec":
        """Return the specification that `static.json` holds."""
        features = content["features"] | {"letters": tuple(content["features"]["letters"])}
        return StaticSpec(content["sides"], FeatureSpec(**features))

    def hash_sides(self, rows: Sequence[Sequence[str]]) -> list[Features]:
        """Return the features of each side of the rows; a missing side counts as empty."""
        sides = []
        for side in range(self.sides):
            texts = [row[side] if side < len(row) else "" for row in rows]
            spec = self.features
            sides.append(
                hashed_features.hash_features(texts, spec.buckets, spec.words, spec.letters)
            )
        return sides


@dataclass(frozen=True)
class StaticWeights:
    """The content of `weights.npz`.

    Attributes:
        table: int8 [buckets, width].
        scale: float32 [width]; the number that each column of the table is multiplied by.
        layers: weight float32 [in, out] and bias float32 [out] of each layer of the MLP.
    """

    table: NDArray[np.int8]
    scale: Array
    layers: tuple[tuple[Array, Array], ...]

    @staticmethod
    def quantize(table: Array, layers: Sequence[tuple[Array, Array]]) -> "StaticWeights":
        """Round the table, float32 [buckets, width], to int8 with one scale per column."""
        scale = np.maximum(np.abs(table).max(0), 1e-8) / 127
        rounded = np.round(table / scale).astype(np.int8)
        return StaticWeights(rounded, scale.astype(np.float32), tuple(layers))


class StaticModel:
    """The forward pass in NumPy; the table is float32 in memory."""

    def __init__(self, spec: StaticSpec, weights: StaticWeights) -> None:
        self.spec, self.layers = spec, weights.layers
        self.table: Array = weights.table * weights.scale

    def logits(self, rows: Sequence[Sequence[str]]) -> Array:
        """Return float32 [rows, labels]; each row is a text, or a text and its pair."""
        hidden = self.pool(rows)
        for number, (weight, bias) in enumerate(self.layers):
            hidden = hidden @ weight + bias
            if number < len(self.layers) - 1:
                np.maximum(hidden, 0, out=hidden)
        return hidden

    def pool(self, rows: Sequence[Sequence[str]]) -> Array:
        """Return the input of the MLP, float32 [rows, width] or [pairs, 4 * width + 2].

        A text is the sum of its features' rows of the table, divided by the square root of their
        number. A pair is both sides, their absolute difference, their product, and the shares of
        words that occur on the other side.
        """
        sides = self.spec.hash_sides(rows)
        sums = [_sum_rows(side, self.table) for side in sides]
        if len(sides) == 1:
            return sums[0]
        first, second = sums
        overlaps = hashed_features.compute_overlaps(*sides)
        return np.concatenate(
            [first, second, np.abs(first - second), first * second, overlaps], axis=1
        )


def load(folder: Path) -> StaticModel:
    """Load the model of an artifact of the step `static`."""
    spec = StaticSpec.from_dict(json.loads((folder / "static.json").read_bytes()))
    arrays = np.load(folder / "weights.npz", allow_pickle=False)
    count = sum(name.startswith("bias") for name in arrays.files)
    layers = tuple((arrays[f"weight{number}"], arrays[f"bias{number}"]) for number in range(count))
    return StaticModel(spec, StaticWeights(arrays["table"], arrays["scale"], layers))


def save(spec: StaticSpec, weights: StaticWeights, folder: Path) -> None:
    """Write `static.json` and `weights.npz`."""
    (folder / "static.json").write_text(json.dumps(asdict(spec)))
    layers: dict[str, Any] = {}
    for number, (weight, bias) in enumerate(weights.layers):
        layers |= {f"weight{number}": weight, f"bias{number}": bias}
    np.savez(folder / "weights.npz", table=weights.table, scale=weights.scale, **layers)


def _sum_rows(features: Features, table: Array) -> Array:
    starts = np.concatenate([[0], features.ends])
    ones = np.ones(len(features.ids), np.float32)
    shape = (len(features.ends), len(table))
    sums: Array = csr_matrix((ones, features.ids, starts), shape) @ table
    sums /= np.sqrt(np.maximum(features.counts, 1)).astype(np.float32)[:, None]
    return sums
