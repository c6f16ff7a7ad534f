"""The static student: hashed features, pooled rows of a table, a small MLP. NumPy and SciPy alone.

The table is int8 on disk, one scale a column, and float32 in memory.
"""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from harness.engines.base import Candidates, Engine, EngineConfig, Scores
from harness.models import hashed_features

TOGETHER = 512
"""Texts that are looked up at once by one instance."""


class StaticEngine:
    """float32 scores [candidates, labels]."""

    def __init__(self, what: EngineConfig) -> None:
        self.about = json.loads((what.folder / "static.json").read_text())
        arrays = np.load(what.folder / "weights.npz", allow_pickle=False)
        self.table = arrays["table"] * arrays["scale"]
        self.layers = [
            (arrays[f"weight{number}"], arrays[f"bias{number}"])
            for number in range(sum(name.startswith("bias") for name in arrays.files))
        ]
        self.instances = what.serve.count(what.threads)
        self.pool = ThreadPoolExecutor(self.instances) if self.instances > 1 else None

    def scores(self, examples: Sequence[Candidates]) -> Scores:
        """float32 [candidates, labels]."""
        rows = [candidate for example in examples for candidate in example]
        if self.pool is None or len(rows) <= TOGETHER // 4:
            return self._part(rows)
        size = min(TOGETHER, -(-len(rows) // self.instances))
        parts = [rows[start : start + size] for start in range(0, len(rows), size)]
        return np.concatenate(list(self.pool.map(self._part, parts)))

    def _part(self, rows: Sequence[Sequence[str]]) -> Scores:
        hidden = pooled(rows, self.about, self.table)
        for number, (weight, bias) in enumerate(self.layers):
            hidden = hidden @ weight + bias
            if number < len(self.layers) - 1:
                np.maximum(hidden, 0, out=hidden)
        return hidden


def pooled(rows: Sequence[Sequence[str]], about: dict[str, Any], table: Scores) -> Scores:
    """What the MLP takes, float32 [rows, ...]: of a text the sum of its features' rows of the
    table over the root of their number; of a pair those of both sides, their absolute difference,
    their product, and the shares of words that the other side has.
    """
    sides = sides_of(rows, about)
    sums = [_summed(each, table) for each in sides]
    if len(sides) == 1:
        return sums[0]
    one, other = sums
    return np.concatenate(
        [one, other, np.abs(one - other), one * other, hashed_features.overlaps(*sides)], axis=1
    )


def sides_of(
    rows: Sequence[Sequence[str]], about: dict[str, Any]
) -> list[hashed_features.Features]:
    """The features of each side of the rows. about: `static.json`."""
    sides = range(about["sides"])
    texts = ([row[side] if side < len(row) else "" for row in rows] for side in sides)
    return [hashed_features.features(each, **about["features"]) for each in texts]


def _summed(each: hashed_features.Features, table: Scores) -> Scores:
    starts = np.concatenate([[0], each.ends])
    ones = np.ones(len(each.ids), np.float32)
    found: Scores = csr_matrix((ones, each.ids, starts), (len(each.ends), len(table))) @ table
    found /= np.sqrt(np.maximum(each.counts, 1)).astype(np.float32)[:, None]
    return found


def load(what: EngineConfig) -> Engine:
    """Serve what the step `static` left."""
    return StaticEngine(what)
