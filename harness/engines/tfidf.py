"""TF-IDF with logistic regression, by scikit-learn."""

import json
from collections.abc import Sequence

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from harness.engines.base import Candidates, Engine, EngineConfig
from harness.models.answers import Scores


class LinearEngine:
    """Scores = tf-idf @ weights + bias."""

    def __init__(self, config: EngineConfig) -> None:
        settings = json.loads((config.folder / "vectorizer.json").read_bytes())
        arrays = np.load(config.folder / "weights.npz", allow_pickle=False)
        self.vectorizer = TfidfVectorizer(
            vocabulary=settings["vocabulary"],
            ngram_range=tuple(settings["ngram_range"]),
            sublinear_tf=settings["sublinear_tf"],
        )
        self.vectorizer.idf_ = arrays["idf"]
        self.weights, self.bias = arrays["weights"], arrays["bias"]

    def scores(self, examples: Sequence[Candidates]) -> Scores:
        """Return float32 [candidates, labels]."""
        texts = [" ".join(candidate) for example in examples for candidate in example]
        features = self.vectorizer.transform(texts)
        scores: Scores = (features @ self.weights + self.bias).astype(np.float32)
        return scores


def load(config: EngineConfig) -> Engine:
    """Load an artifact of the step `tfidf-logreg`."""
    return LinearEngine(config)
