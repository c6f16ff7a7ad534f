"""Tokenization and padding, shared by training and serving. Needs `tokenizers` and NumPy alone."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from harness.errors import BuildError

Ids = NDArray[np.int64]

Row: TypeAlias = Sequence[str]
"""A text, or a text and its pair."""

SIDES = ("right", "left")
"""Where a tokenizer truncates, and where padding goes."""


@dataclass(frozen=True)
class Padding:
    """How inputs are padded to one length.

    Attributes:
        id: of the padding token.
        side: `right` or `left`.
    """

    id: int = 0
    side: str = "right"


@dataclass(frozen=True)
class Batch:
    """A padded batch; each array is int64 [inputs, length].

    Attributes:
        ids: token ids.
        mask: attention mask, 1 for a token, 0 for padding.
        segments: segment ids (token type ids).
    """

    ids: Ids
    mask: Ids
    segments: Ids

    @property
    def feeds(self) -> dict[str, Ids]:
        """The arrays by the names of the inputs of exported graphs."""
        return {
            "input_ids": self.ids,
            "attention_mask": self.mask,
            "token_type_ids": self.segments,
        }


class TokenSequence(Protocol):
    """Token ids and segment ids of one input: an `Encoding`, or a row of the cache."""

    @property
    def ids(self) -> Sequence[int]: ...

    @property
    def type_ids(self) -> Sequence[int]: ...


def load_tokenizer(path: Path, max_length: int) -> Tokenizer:
    """Load a tokenizer that does not pad and that truncates to `max_length` tokens.

    The padding and the length in the file are ignored, its truncation side is respected.

    Raises:
        BuildError: the file is not a tokenizer.
    """
    try:
        tokenizer: Tokenizer = Tokenizer.from_str(path.read_text(encoding="utf-8-sig"))
    except Exception as error:  # the library raises a bare Exception
        raise BuildError(f"{path}: not a tokenizer.json ({error}).") from None
    tokenizer.no_padding()
    set_truncation(tokenizer, max_length)
    return tokenizer


def get_truncation_side(tokenizer: Tokenizer) -> str:
    """Return the side that the tokenizer truncates on: `right` or `left`."""
    return str((tokenizer.truncation or {}).get("direction", "right")).lower()


def set_truncation(tokenizer: Tokenizer, max_length: int, side: str = "") -> None:
    """Set the number of tokens to truncate to, and the side ('' keeps the tokenizer's)."""
    tokenizer.enable_truncation(max_length, direction=side or get_truncation_side(tokenizer))


def save_tokenizer(tokenizer: Tokenizer, path: Path) -> None:
    """Save a copy without padding and, unless it truncates on the left, without truncation.

    The engine sets both.
    """
    clean = Tokenizer.from_str(tokenizer.to_str())
    clean.no_padding()
    if get_truncation_side(clean) == "right":
        clean.no_truncation()
    clean.save(str(path))


def remove_token_types(tokenizer: Tokenizer) -> Tokenizer:
    """Return a copy whose token type ids are all 0, for a model that was trained without them."""
    content = json.loads(tokenizer.to_str())
    content["post_processor"] = _zero_types(content["post_processor"])
    return Tokenizer.from_str(json.dumps(content))


def _zero_types(processor: dict[str, Any] | None) -> dict[str, Any]:
    """Return the same post-processor with token type 0 everywhere."""
    kind = processor["type"] if processor else ""
    if processor and kind == "TemplateProcessing":
        pieces = [*processor["single"], *processor["pair"]]
        for piece in pieces:
            for content in piece.values():
                content["type_id"] = 0
        return processor
    if processor and kind == "Sequence":
        *first, last = processor["processors"]
        return {"type": "Sequence", "processors": [*first, _zero_types(last)]}
    if processor and kind == "RobertaProcessing":  # has no token types
        return processor
    special: dict[str, Any] = {}
    if processor and kind == "BertProcessing":
        special = {name: processor[name] for name in ("cls", "sep")}
    single = [*_special(special, "cls"), _sequence("A"), *_special(special, "sep")]
    template = {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*single, _sequence("B"), *_special(special, "sep")],
        "special_tokens": {
            token: {"id": token, "ids": [number], "tokens": [token]}
            for token, number in special.values()
        },
    }
    if processor and not special:  # ByteLevel, which adds no tokens
        return {"type": "Sequence", "processors": [processor, template]}
    return template


def _special(special: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [{"SpecialToken": {"id": special[name][0], "type_id": 0}}] if special else []


def _sequence(name: str) -> dict[str, Any]:
    return {"Sequence": {"id": name, "type_id": 0}}


TOKENS_REMEDY = (
    "Save the tokenizer that belongs to the model, or call model.resize_token_embeddings(...) and "
    "train the new embeddings."
)


def find_last_token(tokenizer: Tokenizer) -> tuple[str, int]:
    """Return the token with the highest id, added tokens among them, and its id."""
    return max(tokenizer.get_vocab(with_added_tokens=True).items(), key=lambda item: item[1])


def check_tokens(tokenizer: Tokenizer, embeddings: int, folder: Path) -> None:
    """Check that every token has an embedding.

    Raises:
        BuildError: one has none.
    """
    token, number = find_last_token(tokenizer)
    if number >= embeddings:
        raise BuildError(
            f"{folder / 'tokenizer.json'}: the token {token!r} has the id {number}, but the model "
            f"has only {embeddings} token embeddings. {TOKENS_REMEDY}"
        )


def tokenize(tokenizer: Tokenizer, rows: Sequence[Row]) -> list[Encoding]:
    """Encode texts, or texts and their pairs, in order."""
    if len(rows) == 1:
        (row,) = rows
        return [tokenizer.encode(row[0], row[1] if len(row) > 1 else None)]
    inputs = [row[0] if len(row) == 1 else tuple(row) for row in rows]
    return list(tokenizer.encode_batch_fast(inputs))


def pad(
    encodings: Sequence[TokenSequence], length: int | None = None, padding: Padding = Padding()
) -> Batch:
    """Stack encodings into one batch, padded to `length` or to the longest of them."""
    longest = length or max(len(encoding.ids) for encoding in encodings)
    shape = (len(encodings), longest)
    ids, mask, segments = (np.zeros(shape, np.int64) for _ in range(3))
    if padding.id:
        ids += padding.id
    for row, encoding in enumerate(encodings):
        used = len(encoding.ids)
        columns = slice(longest - used, None) if padding.side == "left" else slice(used)
        ids[row, columns] = encoding.ids
        mask[row, columns] = 1
        segments[row, columns] = encoding.type_ids
    return Batch(ids, mask, segments)


def pad_batch(batch: Batch, length: int, padding: Padding) -> Batch:
    """Return the same batch with more padding, up to `length`."""
    missing = length - batch.ids.shape[1]
    width = ((0, 0), (missing, 0) if padding.side == "left" else (0, missing))
    return Batch(
        np.pad(batch.ids, width, constant_values=padding.id),
        np.pad(batch.mask, width),
        np.pad(batch.segments, width),
    )
