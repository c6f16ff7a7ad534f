"""TF-IDF of word n-grams with logistic regression: the classic baseline."""

import json
from typing import Any

import numpy as np
from pydantic import Field

from harness.errors import BuildError
from harness.models.model_spec import ModelSpec
from harness.optimize.base import Inputs, Step, StepContext, StepParams, get_selection
from harness.tasks.task import Task


class TfidfLogreg(StepParams):
    """Fit scikit-learn's TfidfVectorizer and LogisticRegression; the regularisation is selected on
    the selection slice.
    """

    ngrams: int = Field(2, ge=1, le=3, description="longest word n-gram")
    min_count: int = Field(
        1, ge=1, description="number of training examples that an n-gram must occur in"
    )


STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0)
"""Inverse regularisation strengths (scikit-learn's C) that are tried."""


NEVER_LOG_ODDS = -1e4
"""Log odds of a label that no training row has."""


def run(inputs: Inputs, task: Task, params: TfidfLogreg, context: StepContext) -> dict[str, Any]:
    """Write vocabulary, inverse document frequencies and weights (JSON and npz, never pickle).

    Raises:
        BuildError: there is nothing to learn, or no n-gram is frequent enough.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    check_labels(task)
    splits = {split: task.examples(split) for split in ("train", "selection")}
    texts = {
        split: [" ".join(candidate) for example in examples for candidate in example.candidates]
        for split, examples in splits.items()
    }
    labels = {
        split: [label for example in examples for label in example.candidate_labels]
        for split, examples in splits.items()
    }
    vectorizer = TfidfVectorizer(
        ngram_range=(1, params.ngrams), min_df=params.min_count, sublinear_tf=True
    )
    try:
        features = vectorizer.fit_transform(texts["train"])
    except ValueError as error:
        raise BuildError(
            f"no n-gram of the training split of {task.name} can be used ({error}). Lower "
            "min_count, or check the texts."
        ) from None
    held_out = vectorizer.transform(texts["selection"])
    rows = (features, labels["train"]), (held_out, labels["selection"])
    weights, bias, scores = fit_best_logistic_regression(task, *rows, context.seed)
    np.savez(context.out / "weights.npz", idf=vectorizer.idf_, weights=weights, bias=bias)
    vectorizer_spec = {
        "vocabulary": {
            term: int(column) for term, column in sorted(vectorizer.vocabulary_.items())
        },
        "ngram_range": [1, params.ngrams],
        "sublinear_tf": True,
    }
    (context.out / "vectorizer.json").write_text(json.dumps(vectorizer_spec))
    return {
        "format": "tfidf",
        "model": {"parameters": int(weights.size + bias.size)},
        "training": scores,
    }


def check_labels(task: Task) -> None:
    """Check that there is something to learn.

    Raises:
        BuildError: the training split has a single label, or the selection slice is empty.
    """
    examples = task.examples("train")
    seen = {label for example in examples for label in example.candidate_labels}
    if len(seen) < 2:
        only = ", ".join(task.labels[label] for label in seen)
        raise BuildError(
            f"the training split of {task.name} has only one label ({only}): there is nothing to "
            "learn. Add examples of another."
        )
    get_selection(task)


def fit_best_logistic_regression(
    task: Task, train: tuple[Any, list[int]], held_out: tuple[Any, list[int]], seed: int
) -> tuple[Any, Any, list[dict[str, float]]]:
    """Fit logistic regression with the regularisation that is best on the selection slice.

    Args:
        task: has the labels. A label that no training row has is never answered.
        train: features [rows, columns] and labels of the training split.
        held_out: the same of the selection slice.
        seed: of the solver.

    Returns:
        Weights [columns, labels], bias [labels], and the accuracy of each strength.
    """
    from sklearn.linear_model import LogisticRegression

    models = [
        LogisticRegression(C=strength, max_iter=1000, random_state=seed) for strength in STRENGTHS
    ]
    scores = [float(model.fit(*train).score(*held_out)) for model in models]
    best = models[int(np.argmax(scores))]
    weights, bias = best.coef_.T, best.intercept_
    if weights.shape[1] == 1:  # two classes have one column, the log odds of the second
        weights, bias = np.hstack([-weights / 2, weights / 2]), np.array([-bias[0], bias[0]]) / 2
    seen = models[0].classes_.tolist()  # the labels of the columns
    if len(seen) < len(task.labels):
        all_weights = np.zeros((weights.shape[0], len(task.labels)), weights.dtype)
        all_bias = np.full(len(task.labels), NEVER_LOG_ODDS, bias.dtype)
        all_weights[:, seen], all_bias[seen] = weights, bias
        weights, bias = all_weights, all_bias
    by_strength = [{"C": C, "selection": score} for C, score in zip(STRENGTHS, scores, strict=True)]
    return weights, bias, by_strength


def output_spec(params: TfidfLogreg, spec: ModelSpec) -> ModelSpec:
    """Return the format."""
    return ModelSpec("tfidf")


STEP = Step("tfidf-logreg", 2, TfidfLogreg, ("",), run, output_spec=output_spec, trains=True)
