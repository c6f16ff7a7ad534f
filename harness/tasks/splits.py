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


def select_selection_slice(positions: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return which examples of an official training split form the selection slice.

    Args:
        positions: float32 [examples], from `compute_split_position`.

    Returns:
        bool [examples]. If none or all positions of a small file were in the slice, it is instead
        formed by the lowest position; if all positions are equal, it is empty.
    """
    selected = positions < SELECTION_SHARE
    if selected.all() or not selected.any():
        lowest = positions.min()
        selected = (positions == lowest) & (lowest < positions.max())
    return selected


def draw_examples(examples: Sequence[Example], count: int) -> Sequence[Example]:
    """Return some examples, the same ones on every machine, in their order.

    Args:
        examples: all examples.
        count: how many to return at most: those whose text has the lowest positions.
    """
    if len(examples) <= count:
        return examples
    texts = ("\n".join(chain(*example.candidates)) for example in examples)
    positions = [compute_split_position(text) for text in texts]
    drawn = np.sort(np.argsort(positions, kind="stable")[:count])
    return [examples[number] for number in drawn.tolist()]


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
