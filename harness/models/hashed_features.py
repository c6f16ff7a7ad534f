"""Text into hashed features: words, runs of words, runs of letters. What training and serving of
the static student must do alike; whole batches at once, in NumPy alone.

Feature hashing: Weinberger et al. (2009); subwords: Bojanowski et al. (2017).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint32]
Ids = NDArray[np.int64]

PRIME, OTHER = np.uint32(0x01000193), np.uint32(0x9E3779B1)
LONGEST = 64
"""Bytes of a word that count by their place."""

SPACE, LETTER, MARK = 0, 1, 2
KINDS = np.array(
    [
        LETTER if byte >= 128 or chr(byte).isalnum() or chr(byte) == "'" else MARK * (byte > 32)
        for byte in range(256)
    ],
    np.uint8,
)
"""Of each byte of UTF-8; a mark is a word of its own."""

POWERS = np.array([pow(int(PRIME), place, 1 << 32) for place in range(LONGEST)], np.uint32)


@dataclass(frozen=True)
class Features:
    """Features of several texts, one text after the other.

    ids: buckets, each text's together; ends: where each text's end. words, word_ends: hashes of the
    single words likewise.
    """

    ids: Ids
    ends: Ids
    words: Hashes
    word_ends: Ids

    @property
    def counts(self) -> Ids:
        """How many features each text has."""
        return np.diff(self.ends, prepend=0)

    @property
    def sizes(self) -> Ids:
        """How many words each text has."""
        return np.diff(self.word_ends, prepend=0)


def features(texts: Sequence[str], buckets: int, words: int, letters: Sequence[int]) -> Features:
    """Hash all texts. words: longest run of words; letters: lengths of runs of bytes."""
    joined = "\0".join(texts)
    if joined.count("\0") >= len(texts):
        joined = "\0".join(text.replace("\0", " ") for text in texts)
    data = np.frombuffer(f"\0{joined}\0".lower().encode(), np.uint8)
    text = np.cumsum(data == 0) - 1  # the text that a byte belongs to
    count = len(texts)
    single, owner = _words(data, text)
    parts, owners = [_mixed(single)], [owner]
    for size in range(2, words + 1):
        runs = _runs(single, size, OTHER)
        inside = owner[: len(runs)] == owner[size - 1 :]
        parts.append(_mixed(runs[inside] + np.uint32(size)))
        owners.append(owner[: len(runs)][inside])
    shifted = data.astype(np.uint32) + np.uint32(1)
    for size in letters:
        runs = _runs(shifted, size, PRIME)
        # neither over the end of a text nor from the mark in front of it
        inside = (text[: len(runs)] == text[size - 1 :]) & (data[: len(runs)] != 0)
        parts.append(_mixed(runs[inside] + np.uint32(7919 * size)))
        owners.append(text[: len(runs)][inside])
    whose = np.concatenate(owners)
    order = np.argsort(whose, kind="stable")
    ids = (np.concatenate(parts)[order] % np.uint32(buckets)).astype(np.int64)
    ends = np.cumsum(np.bincount(whose, minlength=count))
    return Features(ids, ends, parts[0], np.cumsum(np.bincount(owner, minlength=count)))


def overlaps(one: Features, other: Features) -> NDArray[np.float32]:
    """Of each pair of texts the share of the words of each side that the other has: float32 [pairs,
    2].
    """
    keys = [
        np.repeat(np.arange(len(each.word_ends), dtype=np.uint64) << np.uint64(32), each.sizes)
        | each.words
        for each in (one, other)
    ]
    found = []
    for own, its, each in ((keys[0], keys[1], one), (keys[1], keys[0], other)):
        known = np.concatenate([[0], np.cumsum(np.isin(own, its))])
        shared = known[each.word_ends] - known[each.word_ends - each.sizes]
        found.append(shared / np.maximum(each.sizes, 1))
    return np.stack(found, 1).astype(np.float32)


def _words(data: NDArray[np.uint8], text: Ids) -> tuple[Hashes, Ids]:
    """Hashes of all words, and the text of each."""
    kinds = KINDS[data]
    before, after = np.roll(kinds, 1), np.roll(kinds, -1)
    apart = kinds == MARK
    starts = np.flatnonzero((kinds > SPACE) & (apart | (before != LETTER)))
    if not len(starts):
        return np.zeros(0, np.uint32), np.zeros(0, np.int64)
    sizes = np.flatnonzero((kinds > SPACE) & (apart | (after != LETTER))) - starts + 1
    begins = np.cumsum(sizes) - sizes
    place = np.minimum(np.arange(sizes.sum()) - np.repeat(begins, sizes), LONGEST - 1)
    letters = data[kinds > SPACE].astype(np.uint32) + np.uint32(1)
    return np.add.reduceat(letters * POWERS[place], begins), text[starts]


def _runs(values: Hashes, size: int, factor: np.uint32) -> Hashes:
    """Polynomial hashes of every run of so many values."""
    count = max(0, len(values) - size + 1)
    found = values[:count].copy()
    for place in range(1, size):
        found = found * factor + values[place : place + count]
    return found


def _mixed(values: Hashes) -> Hashes:
    """So that all bits depend on all (Steele et al. 2014, in 32 bits)."""
    values = (values ^ (values >> np.uint32(15))) * np.uint32(0x2C1B3C6D)
    values = (values ^ (values >> np.uint32(12))) * np.uint32(0x297A2D39)
    return values ^ (values >> np.uint32(15))
