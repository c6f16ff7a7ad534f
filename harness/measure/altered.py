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


def perturbed(examples: Sequence[Example], seed: int = 0) -> list[Example]:
    """Each text lightly changed, so that none is what it was: capitals at the beginnings of some
    words, whitespace, punctuation. What it says stays.
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
    spaces = [found.start() for found in re.finditer(" ", changed)]
    if spaces:
        at = chance.choice(spaces)
        changed = f"{changed[:at]} {changed[at:]}"
    return changed if changed != text else f" {text}"


def _each_text(example: Example, change: Callable[[str], str]) -> Example:
    candidates = tuple(tuple(map(change, each)) for each in example.candidates)
    return replace(example, candidates=candidates)
