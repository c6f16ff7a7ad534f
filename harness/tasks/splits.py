"""Which examples belong to which split: decided by a digest of their text, so it never changes."""

import hashlib
from collections.abc import Iterable, Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from harness.tasks.task import Example, Task

SPLITS = {"validation": (0.0, 0.2), "selection": (0.2, 0.28), "train": (0.28, 1.0)}
"""Ranges of positions of a data set without official splits."""

SELECTION_SHARE = 0.1
"""Share of an official training split that is the selection slice."""


def compute_split_position(key: str) -> float:
    """Return the position of a text in 0..1.

    It is the first 8 hex digits of the sha256 of the stripped text, divided by 2^32.
    """
    return int(hashlib.sha256(key.strip().encode()).hexdigest()[:8], 16) / 2**32


def select_split(examples: Iterable[tuple[str, Example]], split: str) -> tuple[Example, ...]:
    """Return the examples of one split of a data set without official splits, in order.

    Args:
        examples: all examples, each with the text that decides; equal texts share a split.
        split: one of `SPLITS`.
    """
    low, high = SPLITS[split]
    return tuple(example for key, example in examples if low <= compute_split_position(key) < high)


def select_selection_slice(
    positions: NDArray[np.float32], share: float = SELECTION_SHARE
) -> NDArray[np.bool_]:
    """Return which examples of an official training split form the selection slice.

    Args:
        positions: float32 [examples], from `compute_split_position`.
        share: of the examples, on average.

    Returns:
        bool [examples]. If none or all positions of a small file were in the slice, it is instead
        formed by the lowest position; if all positions are equal, it is empty.
    """
    selected = positions < share
    if selected.all() or not selected.any():
        lowest = positions.min()
        selected = (positions == lowest) & (lowest < positions.max())
    return selected


def sample_rows(rows: Sequence[bytes], count: int) -> list[int]:
    """Return which rows form a sample, the same on every machine: those with the smallest sha256.

    Args:
        rows: the content of each row.
        count: the size of the sample; 0 for all.

    Returns:
        The numbers of the rows, ascending.
    """
    numbers = sorted(range(len(rows)), key=lambda number: hashlib.sha256(rows[number]).digest())
    return sorted(numbers[:count] if count else numbers)


def draw_examples(examples: Sequence[Example], count: int) -> Sequence[Example]:
    """Return a sample of at most `count` examples by their text, in their order; 0 for all."""
    if not count:
        return examples
    texts = ["\n".join(chain(*example.candidates)).encode() for example in examples]
    return [examples[number] for number in sample_rows(texts, count)]


def count_repeated_examples(task: Task) -> int:
    """Return how many examples of the reported split are also in `train` or `selection`.

    Labels are not compared.
    """
    seen = {
        hash(example.candidates)  # takes less memory than the texts
        for split in ("train", "selection")
        for example in task.examples(split)
    }
    return sum(hash(example.candidates) in seen for example in task.examples("validation"))
