"""TF-IDF with logistic regression, by scikit-learn."""

import json
from collections.abc import Sequence

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from harness.engines.base import Candidates, Engine, EngineConfig, Scores


class LinearEngine:
    """float32 scores [candidates, labels] = tf-idf @ weights + bias."""

    def __init__(self, what: EngineConfig) -> None:
        described = json.loads((what.folder / "vectorizer.json").read_text())
        arrays = np.load(what.folder / "weights.npz", allow_pickle=False)
        self.vectorizer = TfidfVectorizer(
            vocabulary=described["vocabulary"],
            ngram_range=tuple(described["ngram_range"]),
            sublinear_tf=described["sublinear_tf"],
        )
        self.vectorizer.idf_ = arrays["idf"]
        self.weights, self.bias = arrays["weights"], arrays["bias"]

    def scores(self, examples: Sequence[Candidates]) -> Scores:
        """float32 [candidates, labels]."""
        texts = [" ".join(candidate) for example in examples for candidate in example]
        out: Scores = (self.vectorizer.transform(texts) @ self.weights + self.bias).astype(
            np.float32
        )
        return out


def load(what: EngineConfig) -> Engine:
    """Serve what the `tfidf-logreg` step left."""
    return LinearEngine(what)
