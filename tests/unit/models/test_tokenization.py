import json
from pathlib import Path

import numpy as np
import pytest

from harness.errors import BuildError
from harness.models import tokenization


def test_padding_and_length_in_the_file_are_ignored(tiny_encoder: Path) -> None:
    content = json.loads((tiny_encoder / "tokenizer.json").read_text())
    assert content["padding"]
    assert content["truncation"]["max_length"] == 16
    tokenizer = tokenization.load_tokenizer(tiny_encoder / "tokenizer.json", 100)
    assert len(tokenizer.encode("quick").ids) < 10
    assert len(tokenizer.encode("quick " * 60).ids) == 62


def test_input_is_truncated_to_the_maximum_length(tiny_encoder: Path) -> None:
    tokenizer = tokenization.load_tokenizer(tiny_encoder / "tokenizer.json", 7)
    assert len(tokenizer.encode("quick " * 60).ids) == 7


def test_saved_tokenizer_has_neither_padding_nor_truncation(
    tiny_encoder: Path, tmp_path: Path
) -> None:
    tokenizer = tokenization.load_tokenizer(tiny_encoder / "tokenizer.json", 7)
    tokenizer.enable_padding(length=9)
    tokenization.save_tokenizer(tokenizer, tmp_path / "saved.json")
    content = json.loads((tmp_path / "saved.json").read_text())
    assert content["padding"] is None
    assert content["truncation"] is None
    assert tokenizer.truncation["max_length"] == 7, "the tokenizer in memory is unchanged"


def test_pair_has_two_segments_alone_and_in_a_batch(tiny_encoder: Path) -> None:
    tokenizer = tokenization.load_tokenizer(tiny_encoder / "tokenizer.json", 50)
    (alone,) = tokenization.tokenize(tokenizer, [["a film", "a script"]])
    batch = tokenization.tokenize(tokenizer, [["a film", "a script"], ["quick"]])
    assert alone.ids == batch[0].ids
    assert sorted(set(alone.type_ids)) == [0, 1]
    assert set(batch[1].type_ids) == {0}


def test_pad_marks_tokens_and_fills_with_zeros(tiny_encoder: Path) -> None:
    tokenizer = tokenization.load_tokenizer(tiny_encoder / "tokenizer.json", 50)
    encodings = tokenization.tokenize(tokenizer, [["quick"], ["a warm film"]])
    batch = tokenization.pad(encodings)
    used = len(encodings[0].ids)
    assert batch.mask.sum(1).tolist() == [len(encoding.ids) for encoding in encodings]
    assert not batch.ids[0, used:].any()
    assert tokenization.pad(encodings, 20).ids.shape == (2, 20)
    assert batch.ids.dtype == np.int64


def test_file_that_is_not_a_tokenizer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(BuildError, match=r"not a tokenizer\.json"):
        tokenization.load_tokenizer(tmp_path / "tokenizer.json", 8)
