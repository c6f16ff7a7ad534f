"""What a student is shown: training text, transfer text, augmented copies; and what the teacher
answers to it.
"""

import random
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from harness.models.classifier import Classifier
from harness.optimize.base import StepContext
from harness.optimize.training import loop, tokens
from harness.optimize.training.tokens import Labelled, Tokens
from harness.store.cache import cache_dir, digest, new_folder
from harness.tasks.task import Task

MASKED = 0.1
"""Share of the words of an augmented text that the mask token replaces."""

CUT = 0.5
"""Share of the augmented texts of which only a run of words is kept."""


def texts(
    task: Task, transfer: bool, augment: int, tokenizer: Tokenizer, seed: int
) -> Callable[[], Iterator[Labelled]]:
    """All text, the same each time it is asked for; -1 labels what has none.

    augment: copies; tokenizer: whose mask token they have.
    """
    mask = "[MASK]" if tokenizer.token_to_id("[MASK]") is not None else "<mask>"

    def real() -> Iterator[Labelled]:
        yield from tokens.of_examples(task.examples("train"))
        if transfer and task.transfer:
            yield from ((row, -1, 1) for row in task.transfer.load())

    def rows() -> Iterator[Labelled]:
        yield from real()
        draw = random.Random(seed)
        for _ in range(augment):
            yield from ((augmented(row, mask, draw), -1, 1) for row, _, _ in real())

    return rows


def augmented(text: Sequence[str], mask: str, draw: random.Random) -> tuple[str, ...]:
    """A candidate with some words masked, and often only a run of the words of its longest text."""
    sides = [side.split() for side in text]
    longest = max(sides, key=len)
    if len(longest) > 4 and draw.random() < CUT:
        size = draw.randint(3, len(longest))
        start = draw.randint(0, len(longest) - size)
        longest[:] = longest[start : start + size]
    masked = ([mask if draw.random() < MASKED else word for word in words] for words in sides)
    return tuple(" ".join(words) for words in masked)


def logits(teacher: Classifier, asked: Tokens, teacher_key: str, context: StepContext) -> Tensor:
    """float32 [rows, labels], computed once and kept in the store."""
    folder = cache_dir() / "outputs" / digest([teacher_key, asked.key])
    if not folder.is_dir():
        context.log(f"the teacher answers {len(asked)} texts")
        teacher.first_only = True
        with new_folder(folder) as out:
            np.save(out / "logits.npy", loop.all_logits(teacher, asked, 64))
        teacher.first_only = False
    return torch.from_numpy(np.load(folder / "logits.npy", allow_pickle=False))
