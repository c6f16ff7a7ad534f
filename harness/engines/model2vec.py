"""model2vec's static embeddings and a linear classifier; needs the extra `wattbench[model2vec]`."""

from collections.abc import Sequence

import numpy as np
from model2vec import StaticModel

from harness.engines.base import Candidates, Engine, EngineConfig
from harness.models.answers import Scores
from harness.models.model2vec import embed_rows


class Model2VecEngine:
    """Scores = embeddings @ weights + bias."""

    def __init__(self, config: EngineConfig) -> None:
        self.model = StaticModel.from_pretrained(config.folder / "embedding")
        arrays = np.load(config.folder / "weights.npz", allow_pickle=False)
        self.weights, self.bias = arrays["weights"], arrays["bias"]

    def scores(self, examples: Sequence[Candidates]) -> Scores:
        """Return float32 [candidates, labels]."""
        rows = [candidate for example in examples for candidate in example]
        scores: Scores = embed_rows(self.model, rows) @ self.weights + self.bias
        return scores


def load(config: EngineConfig) -> Engine:
    """Load an artifact of the step `model2vec`."""
    return Model2VecEngine(config)
