from pathlib import Path

import numpy as np
import pytest

from harness.models import tokenization
from harness.optimize.training import tokens
from harness.tasks.task import Example
from tests.support.words import TEXTS


@pytest.fixture
def tokenizer(tiny_encoder: Path, cache: Path):
    return tokenization.load_tokenizer(tiny_encoder / "tokenizer.json", 16)


EXAMPLES = [
    Example(((TEXTS[0],),), 1),
    Example(((TEXTS[1], TEXTS[5]), (TEXTS[1], TEXTS[7]), (TEXTS[1], TEXTS[3])), 2),
    Example(((TEXTS[6], "bad"), (TEXTS[6], "quick")), 0, right=(0, 1)),
    Example(((TEXTS[4],),), 0),
]


def test_rows_equal_the_tokenizers_encodings(tokenizer) -> None:
    data = tokens.tokenize(tokenizer, lambda: tokens.rows_from_examples(EXAMPLES))
    rows = [candidate for example in EXAMPLES for candidate in example.candidates]
    assert len(data) == len(rows)
    for number, row in enumerate(rows):
        expected = tokenizer.encode(*row)
        assert list(data[number].ids) == expected.ids
        assert list(data[number].type_ids) == expected.type_ids
        assert data.lengths[number] == len(expected.ids)
    assert data.labels.tolist() == [1, 0, 0, 1, 1, 1, 0]
    batch = data.batch([1, 6])
    expected_batch = tokenization.pad([tokenizer.encode(*rows[1]), tokenizer.encode(*rows[6])])
    for name, value in batch.feeds.items():
        assert np.array_equal(value, expected_batch.feeds[name])


def test_rows_are_encoded_once(tokenizer, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = tokens.tokenize(tokenizer, lambda: tokens.rows_from_examples(EXAMPLES))
    with monkeypatch.context() as patch:
        patch.setattr(tokens, "_write", None)
        cached = tokens.tokenize(tokenizer, lambda: tokens.rows_from_examples(EXAMPLES))
    assert cached.key == first.key
    tokenizer.save(str(cache / "tokenizer.json"))
    shorter = tokenization.load_tokenizer(cache / "tokenizer.json", 12)
    other = tokens.tokenize(shorter, lambda: tokens.rows_from_examples(EXAMPLES))
    fewer = tokens.tokenize(tokenizer, lambda: tokens.rows_from_examples(EXAMPLES[:2]))
    assert len({first.key, other.key, fewer.key}) == 3
    assert max(other.lengths) == 12
    assert len(list((cache / "tokens").iterdir())) == 3


def test_choice_is_right_if_its_best_candidate_is(tokenizer) -> None:
    data = tokens.tokenize(tokenizer, lambda: tokens.rows_from_examples(EXAMPLES))
    logits = np.array(
        [[0, 1], [5, 6], [0, 2], [1, 9], [3, 0], [0, 1], [0, 1]], np.float32
    )  # right: label 1; candidate 2 by its margin of 8; candidate 1 of two right ones; not label 1
    assert data.compute_accuracy(logits) == 3 / 4
    logits[3] = [1, 2]  # then candidate 1 has the widest margin
    assert data.compute_accuracy(logits) == 2 / 4
