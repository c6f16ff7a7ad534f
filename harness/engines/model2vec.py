"""model2vec's static embeddings, a linear classifier; needs the extra `wattbench[model2vec]`."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from model2vec import StaticModel

from harness.engines.base import Candidates, Engine, EngineConfig, Scores


class Model2VecEngine:
    """float32 scores [candidates, labels] = embedding @ weights + bias."""

    def __init__(self, what: EngineConfig) -> None:
        self.model = StaticModel.from_pretrained(what.folder / "embedding")
        arrays = np.load(what.folder / "weights.npz", allow_pickle=False)
        self.weights, self.bias = arrays["weights"], arrays["bias"]

    def scores(self, examples: Sequence[Candidates]) -> Scores:
        """float32 [candidates, labels]."""
        rows = [candidate for example in examples for candidate in example]
        out: Scores = embedded(self.model, rows) @ self.weights + self.bias
        return out


def embedded(model: Any, rows: Sequence[Sequence[str]]) -> Scores:
    """Float32 [rows, ...]: of a text its embedding; of a pair both, their absolute difference and
    their product.
    """
    sides = [
        np.asarray(model.encode([row[side] for row in rows], use_multiprocessing=False), np.float32)
        for side in range(min(map(len, rows)))
    ]
    if len(sides) == 1:
        return sides[0]
    one, other = sides
    return np.concatenate([one, other, np.abs(one - other), one * other], axis=1)


def load(what: EngineConfig) -> Engine:
    """Serve what the step `model2vec` left."""
    return Model2VecEngine(what)
