"""Texts for distillation: the training split, transfer text, and augmented copies."""

import random
from collections.abc import Callable, Iterator, Sequence

from tokenizers import Tokenizer

from harness.optimize.training import tokens
from harness.optimize.training.tokens import LabelledRow
from harness.tasks.task import Task

MASK_SHARE = 0.1
"""Share of the words of an augmented text that the mask token replaces."""

CUT_SHARE = 0.5
"""Share of the augmented texts that are cut to a run of their words."""


def build_row_source(
    task: Task, transfer: bool, augment: int, tokenizer: Tokenizer, seed: int
) -> Callable[[], Iterator[LabelledRow]]:
    """Return a function that returns all rows, the same in each call.

    Args:
        task: the training split comes from it, and its transfer text.
        transfer: whether to include the transfer text, which has no labels.
        augment: number of augmented copies of these rows, without labels.
        tokenizer: its mask token is used in augmented copies.
        seed: of the augmentation.
    """
    mask = "[MASK]" if tokenizer.token_to_id("[MASK]") is not None else "<mask>"

    def original_rows() -> Iterator[LabelledRow]:
        yield from tokens.rows_from_examples(task.examples("train"))
        if transfer and task.transfer:
            yield from ((row, -1, 1) for row in task.transfer.load())

    def rows() -> Iterator[LabelledRow]:
        yield from original_rows()
        generator = random.Random(seed)
        for _ in range(augment):
            for row, _, _ in original_rows():
                yield augment_text(row, mask, generator), -1, 1

    return rows


def augment_text(text: Sequence[str], mask: str, generator: random.Random) -> tuple[str, ...]:
    """Mask some words (Tang et al. 2019), and often cut the longest side to a run of its words.

    Args:
        text: a text, or a text and its pair.
        mask: the mask token.
        generator: source of randomness.
    """
    sides = [side.split() for side in text]
    longest = max(sides, key=len)
    if len(longest) > 4 and generator.random() < CUT_SHARE:
        size = generator.randint(3, len(longest))
        start = generator.randint(0, len(longest) - size)
        longest[:] = longest[start : start + size]
    augmented = []
    for words in sides:
        masked = [mask if generator.random() < MASK_SHARE else word for word in words]
        augmented.append(" ".join(masked))
    return tuple(augmented)
