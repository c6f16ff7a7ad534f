"""Word n-gram TF-IDF with logistic regression: the classic that a Transformer must beat."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.errors import BuildError
from harness.optimize.base import Inputs, Step, StepContext
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


NEVER = -1e4
"""Log odds of a label that no training row has."""


def validate(params: TfidfLogreg, shape: dict[str, Any]) -> list[str]:
    """Faults of the parameters, as sentences."""
    faults = [] if 1 <= params.ngrams <= 3 else [f"ngrams = {params.ngrams}: choose 1..3"]
    return (
        faults
        if params.min_count >= 1
        else [*faults, f"min_count = {params.min_count}: choose 1 or above"]
    )


def run(inputs: Inputs, task: Task, params: TfidfLogreg, context: StepContext) -> dict[str, Any]:
    """Write vocabulary, inverse document frequencies and weights (JSON and npz, never pickle).

    Raises: BuildError if there is nothing to learn, or no n-gram is left.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    check_labels(task)
    splits = {split: task.examples(split) for split in ("train", "selection")}
    texts = {
        split: [" ".join(row) for each in examples for row in each.candidates]
        for split, examples in splits.items()
    }
    labels = {
        split: [label for each in examples for label in each.candidate_labels]
        for split, examples in splits.items()
    }
    vectorizer = TfidfVectorizer(
        ngram_range=(1, params.ngrams), min_df=params.min_count, sublinear_tf=True
    )
    try:
        features = vectorizer.fit_transform(texts["train"])
    except ValueError as error:
        raise BuildError(
            f"the training split of {task.name} leaves no n-grams ({error}). Lower min_count, or "
            "check the texts."
        ) from None
    held_out = vectorizer.transform(texts["selection"])
    rows = (features, labels["train"]), (held_out, labels["selection"])
    weights, bias, tried = best_logistic(task, *rows, context.seed)
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


def check_labels(task: Task) -> None:
    """Raises: BuildError if there is but one label in `train`, or nothing in `selection`."""
    seen = {label for each in task.examples("train") for label in each.candidate_labels}
    if len(seen) < 2:
        only = ", ".join(task.labels[label] for label in seen)
        raise BuildError(
            f"the training split of {task.name} has but one label ({only}): there is nothing to "
            "learn. Check its file."
        )
    if not task.examples("selection"):
        raise BuildError(
            f"the selection slice of {task.name} is empty. Add rows to its training split."
        )


def best_logistic(
    task: Task, train: tuple[Any, list[int]], held_out: tuple[Any, list[int]], seed: int
) -> tuple[Any, Any, list[dict[str, float]]]:
    """Logistic regression with the strength that is best on the held-out rows.

    Args:
        task: has the labels. One that no training row has is never answered.
        train: features [rows, columns] and labels of the training split.
        held_out: the same of the selection slice.
        seed: of the solver.

    Returns:
        weights [columns, labels], bias [labels], and the score of each strength.
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
    seen = models[0].classes_.tolist()  # the columns' labels
    if len(seen) < len(task.labels):
        all_weights = np.zeros((weights.shape[0], len(task.labels)), weights.dtype)
        all_bias = np.full(len(task.labels), NEVER, bias.dtype)
        all_weights[:, seen], all_bias[seen] = weights, bias
        weights, bias = all_weights, all_bias
    tried = [{"C": C, "selection": score} for C, score in zip(STRENGTHS, scores, strict=True)]
    return weights, bias, tried


def output_spec(params: TfidfLogreg, shape: dict[str, Any]) -> dict[str, Any]:
    """What of the shape is another afterwards."""
    return {"format": "tfidf"}


STEP = Step("tfidf-logreg", 2, TfidfLogreg, ("",), run, validate, output_spec, trains=True)
