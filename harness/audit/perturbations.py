"""Texts that are almost or not at all what they were: what an audit asks beside the real ones."""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from harness.tasks.task import Example

WORD = re.compile(r"[^\W\d_]+")
SYNONYMS = {
    "'": "\u2019",
    '"': "\u201d",
    "...": "\u2026",
    " - ": " \u2013 ",
    ";": ",",
    "!": ".",
    ".": "!",
}
"""Punctuation that says the same, or nearly."""


SMALL = ("the", "a", "of", "and")
"""Words that change nothing; they part a text from one that was learned by its letters."""


def shuffled(examples: Sequence[Example], seed: int = 0) -> list[Example]:
    """The same words in another order."""
    chance = random.Random(seed)
    return [_each_text(example, lambda text: _shuffled(text, chance)) for example in examples]


def _shuffled(text: str, chance: random.Random) -> str:
    words = text.split()
    chance.shuffle(words)
    return " ".join(words)


def perturbed(examples: Sequence[Example], seed: int = 0) -> list[Example]:
    """Each text lightly changed, so that none is what it was: capitals at the beginnings of some
    words, whitespace, punctuation, and a small word more. What it says stays.
    """
    chance = random.Random(seed)
    return [_each_text(example, lambda text: _perturbed(text, chance)) for example in examples]


def replaced(examples: Sequence[Example], pool: Sequence[Example], seed: int = 0) -> list[Example]:
    """Each word replaced by a random one of as many letters out of the pool: texts of the same
    length that say nothing.
    """
    chance = random.Random(seed)
    words: dict[int, list[str]] = {}
    for text in sorted({text for each in pool for one in each.candidates for text in one}):
        for word in WORD.findall(text):
            words.setdefault(len(word), []).append(word)

    def other(found: re.Match[str]) -> str:
        return chance.choice(words.get(len(found.group()), [found.group()]))

    return [_each_text(example, lambda text: WORD.sub(other, text)) for example in examples]


def _perturbed(text: str, chance: random.Random) -> str:
    changed = WORD.sub(
        lambda found: found.group().capitalize() if chance.random() < 0.3 else found.group(), text
    )
    for mark, like in SYNONYMS.items():
        if mark in changed and chance.random() < 0.5:
            changed = changed.replace(mark, like)
            break
    spaces = [found.start() for found in re.finditer(" ", changed)] or [0]
    at, word = chance.choice(spaces), chance.choice(SMALL)
    return f"{changed[:at]}  {word}{changed[at:]}" if at else f"{word} {changed}"


def _each_text(example: Example, change: Callable[[str], str]) -> Example:
    candidates = tuple(tuple(map(change, each)) for each in example.candidates)
    return replace(example, candidates=candidates)
