"""Logistic regression where the training split lacks labels: `tfidf-logreg` and `model2vec`."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.engines import registry
from harness.engines.base import EngineConfig, ServeConfig
from harness.errors import BuildError
from harness.models.pretrained import Encoder
from harness.optimize import model2vec, tfidf
from harness.optimize.base import Artifact, Inputs
from harness.tasks.task import Example, Task
from tests.support.words import TASK, run_step

LABELS = ("good", "bad", "neutral")
WORDS = {"good": "delightful film", "bad": "dreadful mess", "neutral": "it is long"}


def task_without(*missing: str, selection: int = 6) -> Task:
    """Return a task whose training split lacks some labels; each label has its own words."""

    def load(split: str) -> Sequence[Example]:
        names = [name for name in LABELS if name not in missing or split == "validation"]
        rows = [Example(((WORDS[name],),), LABELS.index(name)) for name in names] * 12
        return rows[:selection] if split == "selection" else rows

    name = f"without-{'-'.join(missing)}-{selection}"
    return replace(TASK, name=name, labels=LABELS, load=load)


def fit_tfidf(out: Path, encoder: Path, task: Task) -> Artifact:
    return run_step(out, tfidf, Inputs(), tfidf.TfidfLogreg(), task)


def fit_model2vec(out: Path, encoder: Path, task: Task) -> Artifact:
    inputs = Inputs(encoder=Encoder(encoder, "tiny"))
    return run_step(out, model2vec, inputs, model2vec.Model2Vec(width=16), task)


FITS = {"tfidf": fit_tfidf, "model2vec": fit_model2vec}
both = pytest.mark.parametrize(("name", "fit"), FITS.items())
Fit = Callable[[Path, Path, Task], Artifact]


@both
@pytest.mark.parametrize("missing", [(), *((label,) for label in LABELS)])
def test_answers_are_correct_whichever_label_training_lacks(
    tmp_path: Path, tiny_encoder: Path, name: str, fit: Fit, missing: tuple[str, ...]
) -> None:
    task = task_without(*missing)
    artifact = fit(tmp_path, tiny_encoder, task)
    loaded = registry.load_engine(
        EngineConfig(artifact.folder, artifact.engine_metadata, ServeConfig(name), 1)
    )
    scores = loaded.scores([[(text,)] for text in WORDS.values()])
    assert scores.shape == (3, 3)
    assert np.isfinite(scores).all()
    for label, row in zip(LABELS, scores, strict=True):
        answer = LABELS[row.argmax()]
        assert answer not in missing
        if label not in missing:
            assert answer == label


@both
def test_single_label_is_refused(tmp_path: Path, tiny_encoder: Path, name: str, fit: Fit) -> None:
    task = task_without("good", "neutral")
    message = (
        rf"training split of {task.name} has only one label \(bad\): there is nothing to learn"
    )
    with pytest.raises(BuildError, match=message):
        fit(tmp_path, tiny_encoder, task)


@both
def test_empty_selection_slice_is_refused(
    tmp_path: Path, tiny_encoder: Path, name: str, fit: Fit
) -> None:
    with pytest.raises(BuildError, match=r"selection slice of .* is empty, since .* Add others"):
        fit(tmp_path, tiny_encoder, task_without(selection=0))


def test_texts_without_n_grams_are_refused(tmp_path: Path) -> None:
    params = tfidf.TfidfLogreg(min_count=100)
    with pytest.raises(BuildError, match=r"no n-gram .* can be used .* Lower min_count"):
        run_step(tmp_path, tfidf, Inputs(), params, task_without())
