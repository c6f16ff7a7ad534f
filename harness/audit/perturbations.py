"""Changed texts that an audit sends beside the real ones."""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from harness.tasks.task import Example

WORD = re.compile(r"[^\W\d_]+")
PUNCTUATION = {
    "'": "\u2019",
    '"': "\u201d",
    "...": "\u2026",
    " - ": " \u2013 ",
    ";": ",",
    "!": ".",
    ".": "!",
}
"""Punctuation marks, and others that mean the same or nearly the same."""

SMALL_WORDS = ("the", "a", "of", "and")
"""Words that do not change the meaning, but the letters of a memorised text."""

CAPITALIZED_SHARE = 0.3
PUNCTUATION_SHARE = 0.5


def shuffle_words(examples: Sequence[Example], seed: int = 0) -> list[Example]:
    """Return the examples with the words of each text in another order."""
    chance = random.Random(seed)
    return [_change_texts(example, lambda text: _shuffle(text, chance)) for example in examples]


def _shuffle(text: str, chance: random.Random) -> str:
    words = text.split()
    chance.shuffle(words)
    return " ".join(words)


def perturb(examples: Sequence[Example], seed: int = 0) -> list[Example]:
    """Return the examples with each text lightly changed, so that its meaning remains.

    Some words get a capital, whitespace and punctuation change, and one small word is added.
    """
    chance = random.Random(seed)
    return [_change_texts(example, lambda text: _perturb(text, chance)) for example in examples]


def _perturb(text: str, chance: random.Random) -> str:
    def capitalize(match: re.Match[str]) -> str:
        word = match.group()
        return word.capitalize() if chance.random() < CAPITALIZED_SHARE else word

    changed = WORD.sub(capitalize, text)
    for mark, substitute in PUNCTUATION.items():
        if mark in changed and chance.random() < PUNCTUATION_SHARE:
            changed = changed.replace(mark, substitute)
            break
    spaces = [match.start() for match in re.finditer(" ", changed)] or [0]
    position, word = chance.choice(spaces), chance.choice(SMALL_WORDS)
    if position == 0:
        return f"{word} {changed}"
    return f"{changed[:position]}  {word}{changed[position:]}"


def replace_words(
    examples: Sequence[Example], pool: Sequence[Example], seed: int = 0
) -> list[Example]:
    """Return the examples with each word replaced by a random one of as many letters.

    The texts keep their length and lose their meaning.

    Args:
        examples: the examples.
        pool: examples whose words are drawn from.
        seed: of the draws.
    """
    chance = random.Random(seed)
    texts = {text for example in pool for candidate in example.candidates for text in candidate}
    words: dict[int, list[str]] = {}
    for text in sorted(texts):
        for word in WORD.findall(text):
            words.setdefault(len(word), []).append(word)

    def draw(match: re.Match[str]) -> str:
        return chance.choice(words.get(len(match.group()), [match.group()]))

    return [_change_texts(example, lambda text: WORD.sub(draw, text)) for example in examples]


def _change_texts(example: Example, change: Callable[[str], str]) -> Example:
    candidates = tuple(tuple(map(change, candidate)) for candidate in example.candidates)
    return replace(example, candidates=candidates)
