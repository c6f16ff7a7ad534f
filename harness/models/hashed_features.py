"""Hashed features of texts: words, runs of words, runs of letters; in NumPy alone.

Training and serving of the static student share this; whole batches are hashed at once.
Feature hashing: Weinberger et al. (2009); subwords: Bojanowski et al. (2017).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint32]
Ids = NDArray[np.int64]

LETTER_FACTOR, WORD_FACTOR = np.uint32(0x01000193), np.uint32(0x9E3779B1)
"""Bases of the polynomial hashes of bytes and of words."""

MAX_POSITIONS = 64
"""Number of bytes of a word whose position enters its hash; later bytes share the last position."""

SPACE, LETTER, MARK = 0, 1, 2
KINDS = np.array(
    [
        LETTER if byte >= 128 or chr(byte).isalnum() or chr(byte) == "'" else MARK * (byte > 32)
        for byte in range(256)
    ],
    np.uint8,
)
"""The kind of each byte of UTF-8; a mark is a word by itself."""

POWERS = np.array(
    [pow(int(LETTER_FACTOR), position, 1 << 32) for position in range(MAX_POSITIONS)], np.uint32
)


@dataclass(frozen=True)
class Features:
    """Features of several texts, one text after the other.

    Attributes:
        ids: int64 [features], the bucket of each feature.
        ends: int64 [texts], where the features of each text end.
        words: uint32 [words], the hash of each single word.
        word_ends: int64 [texts], where the words of each text end.
    """

    ids: Ids
    ends: Ids
    words: Hashes
    word_ends: Ids

    @property
    def counts(self) -> Ids:
        """Number of features of each text."""
        return np.diff(self.ends, prepend=0)

    @property
    def word_counts(self) -> Ids:
        """Number of words of each text."""
        return np.diff(self.word_ends, prepend=0)


def hash_features(
    texts: Sequence[str], buckets: int, words: int, letters: Sequence[int]
) -> Features:
    """Return the features of all texts.

    Args:
        texts: are lowercased.
        buckets: number of buckets, at most 2^32.
        words: length of the longest run of words.
        letters: lengths of the runs of bytes.
    """
    joined = "\0".join(texts)
    if joined.count("\0") >= len(texts):
        joined = "\0".join(text.replace("\0", " ") for text in texts)
    data = np.frombuffer(f"\0{joined}\0".lower().encode(), np.uint8)
    byte_text = np.cumsum(data == 0) - 1  # the text that each byte belongs to
    count = len(texts)
    single, word_text = _hash_words(data, byte_text)
    hashes, owners = [_mix(single)], [word_text]
    for size in range(2, words + 1):
        runs = _hash_runs(single, size, WORD_FACTOR)
        inside = word_text[: len(runs)] == word_text[size - 1 :]
        hashes.append(_mix(runs[inside] + np.uint32(size)))
        owners.append(word_text[: len(runs)][inside])
    shifted = data.astype(np.uint32) + np.uint32(1)
    for size in letters:
        runs = _hash_runs(shifted, size, LETTER_FACTOR)
        # neither across the end of a text nor from the separator in front of it
        inside = (byte_text[: len(runs)] == byte_text[size - 1 :]) & (data[: len(runs)] != 0)
        hashes.append(_mix(runs[inside] + np.uint32(7919 * size)))
        owners.append(byte_text[: len(runs)][inside])
    owner = np.concatenate(owners)
    order = np.argsort(owner, kind="stable")
    ids = (np.concatenate(hashes)[order] % np.uint32(buckets)).astype(np.int64)
    ends = np.cumsum(np.bincount(owner, minlength=count))
    return Features(ids, ends, hashes[0], np.cumsum(np.bincount(word_text, minlength=count)))


def compute_overlaps(first: Features, second: Features) -> NDArray[np.float32]:
    """Return the share of the words of each side that occur on the other, float32 [pairs, 2].

    Args:
        first: the first texts of the pairs.
        second: the second texts of the pairs.
    """
    first_keys, second_keys = _word_keys(first), _word_keys(second)
    shares = [
        _shared_words(first, np.isin(first_keys, second_keys)),
        _shared_words(second, np.isin(second_keys, first_keys)),
    ]
    return np.stack(shares, 1).astype(np.float32)


def _word_keys(features: Features) -> NDArray[np.uint64]:
    """Return the number of the text and the hash of every word in one integer."""
    texts = np.arange(len(features.word_ends), dtype=np.uint64) << np.uint64(32)
    keys: NDArray[np.uint64] = np.repeat(texts, features.word_counts) | features.words
    return keys


def _shared_words(features: Features, shared: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the share of the words of each text that are shared."""
    ends, counts = features.word_ends, features.word_counts
    total = np.concatenate([[0], np.cumsum(shared)])
    shares: NDArray[np.float64] = (total[ends] - total[ends - counts]) / np.maximum(counts, 1)
    return shares


def _hash_words(data: NDArray[np.uint8], byte_text: Ids) -> tuple[Hashes, Ids]:
    """Return the hash of every word, and the text that it belongs to."""
    kinds = KINDS[data]
    before, after = np.roll(kinds, 1), np.roll(kinds, -1)
    apart = kinds == MARK
    starts = np.flatnonzero((kinds > SPACE) & (apart | (before != LETTER)))
    if not len(starts):
        return np.zeros(0, np.uint32), np.zeros(0, np.int64)
    sizes = np.flatnonzero((kinds > SPACE) & (apart | (after != LETTER))) - starts + 1
    begins = np.cumsum(sizes) - sizes
    positions = np.minimum(np.arange(sizes.sum()) - np.repeat(begins, sizes), MAX_POSITIONS - 1)
    letters = data[kinds > SPACE].astype(np.uint32) + np.uint32(1)
    return np.add.reduceat(letters * POWERS[positions], begins), byte_text[starts]


def _hash_runs(values: Hashes, size: int, factor: np.uint32) -> Hashes:
    """Return the polynomial hash of every run of `size` values."""
    count = max(0, len(values) - size + 1)
    hashes = values[:count].copy()
    for position in range(1, size):
        hashes = hashes * factor + values[position : position + count]
    return hashes


def _mix(values: Hashes) -> Hashes:
    """Make every bit depend on all bits (Steele et al. 2014, in 32 bits)."""
    values = (values ^ (values >> np.uint32(15))) * np.uint32(0x2C1B3C6D)
    values = (values ^ (values >> np.uint32(12))) * np.uint32(0x297A2D39)
    return values ^ (values >> np.uint32(15))
