"""Texts for distillation: the training split, transfer text, new pairs, and augmented copies."""

import random
from collections.abc import Callable, Iterator, Sequence

from tokenizers import Tokenizer

from harness.optimize.training import tokens
from harness.optimize.training.tokens import LabelledRow
from harness.tasks.splits import draw_examples
from harness.tasks.task import Task

MASK_SHARE = 0.1
"""Share of the words of an augmented text that the mask token replaces."""

PARTNERS = 20
"""Number of texts that the partner of a new pair is chosen from."""

CUT_SHARE = 0.5
"""Share of the augmented texts that are cut to a run of their words."""


def build_row_source(
    task: Task,
    transfer: bool,
    augment: int,
    tokenizer: Tokenizer,
    seed: int,
    pairs: int = 0,
    examples: int = 0,
) -> Callable[[], Iterator[LabelledRow]]:
    """Return a function that returns all rows, the same in each call.

    For another tokenizer the rows are the same but for its mask token.

    Args:
        task: the training split comes from it, and its transfer text.
        transfer: whether to include the transfer text, which has no labels.
        augment: number of augmented copies of these rows, without labels.
        tokenizer: its mask token is used in augmented copies.
        seed: of the augmentation.
        pairs: number of new pairs for each pair, see `pair_anew`; without labels.
        examples: number of examples of the training split, see `draw_examples`; 0 for all.
    """
    mask = "[MASK]" if tokenizer.token_to_id("[MASK]") is not None else "<mask>"

    def original_rows() -> Iterator[LabelledRow]:
        drawn = draw_examples(task.examples("train"), examples)
        yield from tokens.rows_from_examples(drawn)
        if transfer and task.transfer:
            yield from ((row, -1, 1) for row in task.transfer.load())

    def rows() -> Iterator[LabelledRow]:
        yield from original_rows()
        if pairs:
            texts = [row for row, _, _ in original_rows()]
            yield from ((row, -1, 1) for row in pair_anew(texts, pairs, random.Random(seed)))
        generator = random.Random(seed)
        for _ in range(augment):
            for row, _, _ in original_rows():
                yield augment_text(row, mask, generator), -1, 1

    return rows


def pair_anew(
    texts: Sequence[Sequence[str]], count: int, generator: random.Random
) -> Iterator[tuple[str, str]]:
    """Yield the first side of each pair with the second sides of other pairs.

    Of `PARTNERS` random second sides that one is taken which has most of the first side's words, so
    that the answer is not always obvious.

    Args:
        texts: all texts; those without a pair are left out.
        count: number of new pairs for each pair.
        generator: source of randomness.
    """
    pairs = [text for text in texts if len(text) > 1]
    words = [frozenset(text[1].lower().split()) for text in pairs]
    for _ in range(count):
        for first, own in pairs:
            wanted = set(first.lower().split())
            drawn = (generator.randrange(len(pairs)) for _ in range(PARTNERS))
            others = [number for number in drawn if pairs[number][1] != own]
            if others:
                nearest = max(others, key=lambda number: len(wanted & words[number]))
                yield first, pairs[nearest][1]


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
