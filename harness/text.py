"""Text into token ids: what training and serving must do alike.

Needs only `tokenizers` and NumPy.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from harness.errors import BuildError

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """Token ids, attention mask (1 for a token, 0 for padding) and segment ids, each int64 [inputs,
    length].
    """

    ids: Ids
    mask: Ids
    segments: Ids

    @property
    def feeds(self) -> dict[str, Ids]:
        """The three by the names that exported graphs give them."""
        return {
            "input_ids": self.ids,
            "attention_mask": self.mask,
            "token_type_ids": self.segments,
        }


class Row(Protocol):
    """Token ids and segment ids of one input: an `Encoding`, or what the cache holds."""

    @property
    def ids(self) -> Sequence[int]: ...

    @property
    def type_ids(self) -> Sequence[int]: ...


def load_tokenizer(path: Path, max_length: int) -> Tokenizer:
    """A tokenizer that pads nothing and cuts at `max_length` tokens, whatever its file says.

    Raises: BuildError if the file is not a tokenizer.
    """
    try:
        tokenizer: Tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises a bare Exception
        raise BuildError(f"{path}: not a tokenizer.json ({error}).") from None
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length)
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, path: Path) -> None:
    """Save a copy without padding and without truncation; the engine sets both."""
    clean = Tokenizer.from_str(tokenizer.to_str())
    clean.no_padding()
    clean.no_truncation()
    clean.save(str(path))


def tokenize(tokenizer: Tokenizer, texts: Sequence[Sequence[str]]) -> list[Encoding]:
    """Encode candidates (a text, or a text and its pair) in order."""
    if len(texts) == 1:
        return [tokenizer.encode(texts[0][0], texts[0][1] if len(texts[0]) > 1 else None)]
    return list(
        tokenizer.encode_batch_fast([text[0] if len(text) == 1 else tuple(text) for text in texts])
    )


def pad(encodings: Sequence[Row], length: int | None = None) -> Batch:
    """Stack encodings into one batch, padded with zeros to `length` or to the longest of them."""
    longest = length or max(len(each.ids) for each in encodings)
    shape = (len(encodings), longest)
    ids, mask, segments = (np.zeros(shape, np.int64) for _ in range(3))
    for row, each in enumerate(encodings):
        used = len(each.ids)
        ids[row, :used] = each.ids
        mask[row, :used] = 1
        segments[row, :used] = each.type_ids
    return Batch(ids, mask, segments)
