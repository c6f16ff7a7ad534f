"""The static student: hashing, training, serving."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.engines import base
from harness.engines.base import EngineConfig, ServeConfig
from harness.engines.static import StaticEngine, pooled
from harness.models import hashed_features
from harness.optimize import static
from harness.optimize.base import Artifact, Inputs, StepContext
from harness.optimize.training import static_student
from harness.tasks.task import Example
from tests.support.words import STATIC, TASK, share_right

TEXT = st.text(st.sampled_from("ab c!é'\0Z\n"), max_size=12)


def rows(found: hashed_features.Features) -> list[list[int]]:
    return [part.tolist() for part in np.split(found.ids, found.ends[:-1])]


@given(
    st.lists(TEXT, min_size=1, max_size=6), st.integers(1, 3), st.sampled_from([(), (3,), (2, 4)])
)
def test_features_of_a_text_do_not_depend_on_its_batch(
    texts: list[str], words: int, letters: tuple[int, ...]
) -> None:
    together = hashed_features.features(texts, 1 << 16, words, letters)
    for number, text in enumerate(texts):
        alone = hashed_features.features([text], 1 << 16, words, letters)
        assert sorted(rows(together)[number]) == sorted(rows(alone)[0])
        own = np.split(together.words, together.word_ends[:-1])[number]
        np.testing.assert_array_equal(own, alone.words)


def test_features_are_words_runs_and_letters() -> None:
    found = hashed_features.features(["Good film, good FILM", "good", "film"], 1 << 24, 2, ())
    first, good, film = (set(each) for each in rows(found))
    assert found.counts.tolist() == [9, 1, 1], "good film , good film, and four runs of two"
    assert good < first
    assert film < first
    assert len(first) == 3 + 3, "`good film` comes twice"
    letters = hashed_features.features(["abcd"], 1 << 24, 1, (3,))
    assert letters.counts.tolist() == [1 + 2], "the word, abc and bcd"


def test_a_run_of_words_never_spans_two_texts() -> None:
    apart = hashed_features.features(["a b", "c d"], 1 << 24, 2, ())
    assert apart.counts.tolist() == [3, 3]


def test_different_words_rarely_share_a_bucket() -> None:
    words = [f"word{number}" for number in range(20_000)]
    found = hashed_features.features(words, 1 << 24, 1, ())
    expected = 20_000 - 20_000**2 / 2 / (1 << 24)
    assert len(set(found.ids.tolist())) > expected - 20, "no more collisions than chance gives"


def test_overlaps_are_shares_of_words_that_the_other_has() -> None:
    sides = [
        hashed_features.features(each, 1 << 16, 2, ())
        for each in (["a b c d", "", "x"], ["b d e", "a", "x x y"])
    ]
    found = hashed_features.overlaps(*sides)
    np.testing.assert_allclose(found, [[0.5, 2 / 3], [0, 0], [1, 2 / 3]], atol=1e-6)


def loaded(artifact: Artifact, **serve: int) -> StaticEngine:
    found = base.load_engine(
        EngineConfig(artifact.folder, artifact.about, ServeConfig("static", **serve), 2)
    )
    assert isinstance(found, StaticEngine)
    return found


def test_student_learns_what_the_teacher_answers(student: Artifact) -> None:
    found = loaded(student).scores([each.candidates for each in TASK.examples("validation")])
    assert share_right(found) > 0.95
    losses = [each["loss"] for each in student.about["training"]]
    assert losses[-1] < losses[0]


def test_same_seed_gives_the_same_table(
    student: Artifact, finetuned: Artifact, tmp_path: Path
) -> None:
    static.run(Inputs(finetuned, teacher=finetuned), TASK, STATIC, StepContext(tmp_path, 0, 1))
    arrays = [np.load(each / "weights.npz")["table"] for each in (student.folder, tmp_path)]
    np.testing.assert_array_equal(*arrays)
    assert arrays[0].dtype == np.int8


def test_table_of_words_begins_as_the_teachers_vectors(finetuned: Artifact) -> None:
    from harness.optimize.training import loop

    teacher, tokenizer = loop.opened(finetuned, TASK)
    model = static_student.Bag(1 << 16, 8, 4, 1, 2)
    static_student.begin_words(
        model, [("good bad warm quick film",), ("dull",)], teacher, tokenizer, 1 << 16
    )
    found = hashed_features.features(["good", "never"], 1 << 16, 1, ())
    known, unknown = model.table.weight.data[found.ids]
    assert float(known.abs().sum()) > 0
    assert float(unknown.abs().sum()) == 0, "a word that no text has begins at zero"


@pytest.mark.parametrize("sides", [1, 2])
def test_engine_computes_what_was_trained(sides: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = static_student.Bag(512, 8, 4, sides, 3)
    scale = 1 / 127
    model.table.weight.data = torch.randint(-127, 128, (512, 8)).float() * scale
    model.table.weight.data[0] = 1.0  # so that int8 holds the table exactly
    about = {"sides": sides, "features": {"buckets": 512, "words": 2, "letters": [3]}}
    static_student.save(model, about, tmp_path)
    texts = [("a good film", "is it good"), ("dull", "no"), ("", "x")]
    given = [row[:sides] for row in texts]
    data = static_student.Hashed(given, about)
    with torch.inference_mode():
        expected = model(*data.batch([0, 1, 2], 0.0, np.random.default_rng(0))).numpy()
    found = StaticEngine(EngineConfig(tmp_path, {}, ServeConfig("static"), 1)).scores(
        [[row] for row in given]
    )
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert pooled(
        given, json.loads((tmp_path / "static.json").read_text()), np.ones((512, 8))
    ).shape


def test_instances_share_the_work_and_agree(student: Artifact) -> None:
    examples = [each.candidates for each in TASK.examples("train")] * 3
    one, two = (loaded(student, instances=count).scores(examples) for count in (1, 2))
    np.testing.assert_allclose(one, two, atol=1e-6)


def test_pairs_and_choices_have_a_score_for_each_candidate(student: Artifact) -> None:
    choice = Example((("quick", "a"), ("quick", "b"), ("quick", "c")), 1)
    assert loaded(student).scores([choice.candidates, [["bad"]]]).shape == (4, 2)


@pytest.mark.parametrize(
    ("change", "fault"),
    [({"buckets": 0}, "buckets"), ({"letters": (1,)}, "2..8"), ({"dropout": 1.0}, "below 1")],
)
def test_faults_are_said(change: dict[str, object], fault: str) -> None:
    from dataclasses import replace

    faults = static.validate(replace(STATIC, **change), {"teacher": {"name": "t"}})
    assert len(faults) == 1
    assert fault in faults[0]
    assert "teacher" in static.validate(STATIC, {})[0]
