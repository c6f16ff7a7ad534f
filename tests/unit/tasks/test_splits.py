"""Splits: decided by the text, and never changed."""

from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.cli.main import main
from harness.tasks.splits import (
    SPLITS,
    compute_split_position,
    count_repeated_examples,
    select_selection_slice,
    select_split,
)
from harness.tasks.task import Example
from tests.support.data_files import load_task, write_rows, write_task

TEXTS = [f"text {number}" for number in range(1000)]


def build_examples(texts: list[str]) -> list[tuple[str, Example]]:
    return [(text, Example(((text,),), 0, idx=index)) for index, text in enumerate(texts)]


def test_position_is_that_of_the_sha256() -> None:
    """sha256 of 'abc' begins with ba7816bf (FIPS 180-4)."""
    assert compute_split_position("abc") == 0xBA7816BF / 2**32
    assert compute_split_position(" abc\n") == compute_split_position("abc")


def test_every_example_is_in_exactly_one_split_and_in_order() -> None:
    indices = [
        [example.idx for example in select_split(build_examples(TEXTS), split)] for split in SPLITS
    ]
    assert sorted(chain(*indices)) == list(range(1000))
    assert all(part == sorted(part) for part in indices)
    assert [len(part) / 1000 for part in indices] == pytest.approx([0.2, 0.08, 0.72], abs=0.04)


def test_equal_texts_share_a_split() -> None:
    for split in SPLITS:
        examples = select_split(build_examples(TEXTS[:50] * 2), split)
        texts = [example.candidates[0][0] for example in examples]
        assert texts[: len(texts) // 2] == texts[len(texts) // 2 :]


def test_selection_slice_is_a_tenth_of_the_positions() -> None:
    positions = np.array([0.05, 0.5, 0.0999, 0.1, 0.99], np.float32)
    assert select_selection_slice(positions).tolist() == [True, False, True, False, False]


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=12))
def test_selection_slice_is_neither_empty_nor_all_unless_positions_are_equal(
    values: list[float],
) -> None:
    positions = np.array(values, np.float32)
    selected = select_selection_slice(positions)
    if positions.min() == positions.max():
        assert not selected.any()
    else:
        assert 0 < selected.sum() < len(values)
        assert positions[selected].max() < positions[~selected].min()


def test_validation_examples_that_are_in_the_training_data_are_counted(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_task(tmp_path / "task", "jsonl", ["neg", "pos"])
    rows = [{"text": f"text {number}", "label": "pos"} for number in range(20)]
    write_rows(tmp_path / "task" / "rows.jsonl", rows)
    write_rows(tmp_path / "task" / "dev.jsonl", [*rows[:3], {"text": "other", "label": "pos"}])
    assert count_repeated_examples(load_task(path)) == 20
    path.write_text(path.read_text().replace('validation = "rows', 'validation = "dev'))
    assert count_repeated_examples(load_task(path)) == 3
    assert main(["tasks", str(path)]) == 0
    assert "3 of the 4 validation examples are also in the training data" in capsys.readouterr().out
