"""Word n-gram TF-IDF with logistic regression: the classic that a Transformer must beat."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.optimize.step import Context, Inputs, Step
from harness.tasks.task import Task


@dataclass(frozen=True)
class TfidfLogreg:
    """Fit scikit-learn's TfidfVectorizer and LogisticRegression; the regularisation is chosen on
    the selection slice.

    ngrams: longest word n-gram, 1..3.
    min_count: training examples that an n-gram must occur in, 1 or above.
    """

    ngrams: int = 2
    min_count: int = 1


STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0)
"""Inverse regularisation strengths (scikit-learn's C) that are tried."""


def validate(params: TfidfLogreg, shape: dict[str, Any]) -> list[str]:
    """Faults of the parameters, as sentences."""
    faults = [] if 1 <= params.ngrams <= 3 else [f"ngrams = {params.ngrams}: choose 1..3"]
    return (
        faults
        if params.min_count >= 1
        else [*faults, f"min_count = {params.min_count}: choose 1 or above"]
    )


def run(inputs: Inputs, task: Task, params: TfidfLogreg, context: Context) -> dict[str, Any]:
    """Write vocabulary, inverse document frequencies and weights (JSON and npz, never pickle)."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    splits = {split: task.examples(split) for split in ("train", "selection")}
    texts = {
        split: [" ".join(row) for each in examples for row in each.candidates]
        for split, examples in splits.items()
    }
    labels = {
        split: [label for each in examples for label in each.row_labels]
        for split, examples in splits.items()
    }
    vectorizer = TfidfVectorizer(
        ngram_range=(1, params.ngrams), min_df=params.min_count, sublinear_tf=True
    )
    features = vectorizer.fit_transform(texts["train"])
    held_out = vectorizer.transform(texts["selection"])
    weights, bias, tried = best_logistic(
        (features, labels["train"]), (held_out, labels["selection"]), context.seed
    )
    np.savez(context.out / "weights.npz", idf=vectorizer.idf_, weights=weights, bias=bias)
    described = {
        "vocabulary": {
            term: int(column) for term, column in sorted(vectorizer.vocabulary_.items())
        },
        "ngram_range": [1, params.ngrams],
        "sublinear_tf": True,
    }
    (context.out / "vectorizer.json").write_text(json.dumps(described))
    return {
        "format": "tfidf",
        "model": {"parameters": int(weights.size + bias.size)},
        "training": tried,
    }


def best_logistic(
    train: tuple[Any, list[int]], held_out: tuple[Any, list[int]], seed: int
) -> tuple[Any, Any, list[dict[str, float]]]:
    """Logistic regression with the strength that is best on the held-out rows. train, held_out:
    features [rows, columns] and labels.

    Returns: weights [columns, labels], bias [labels], and the score of each strength.
    """
    from sklearn.linear_model import LogisticRegression

    models = [
        LogisticRegression(C=strength, max_iter=1000, random_state=seed) for strength in STRENGTHS
    ]
    scores = [float(model.fit(*train).score(*held_out)) for model in models]
    best = models[int(np.argmax(scores))]
    weights, bias = best.coef_.T, best.intercept_
    if weights.shape[1] == 1:  # two classes share one column: the log odds of the second
        weights, bias = np.hstack([-weights / 2, weights / 2]), np.array([-bias[0], bias[0]]) / 2
    tried = [{"C": C, "selection": score} for C, score in zip(STRENGTHS, scores, strict=True)]
    return weights, bias, tried


def reshape(params: TfidfLogreg, shape: dict[str, Any]) -> dict[str, Any]:
    """What of the shape is another afterwards."""
    return {"format": "tfidf"}


STEP = Step("tfidf-logreg", 1, TfidfLogreg, ("",), run, validate, reshape, trains=True)
