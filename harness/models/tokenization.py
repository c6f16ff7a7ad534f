"""Text into token ids: what training and serving must do alike.

Needs only `tokenizers` and NumPy.
"""

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

Texts: TypeAlias = Sequence[str]
"""A text, or a text and its pair."""

SIDES = ("right", "left")


@dataclass(frozen=True)
class Padding:
    """How inputs are brought to one length. id: of the padding token; side: where it goes."""

    id: int = 0
    side: str = "right"


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


class TokenSequence(Protocol):
    """Token ids and segment ids of one input: an `Encoding`, or what the cache holds."""

    @property
    def ids(self) -> Sequence[int]: ...

    @property
    def type_ids(self) -> Sequence[int]: ...


def load_tokenizer(path: Path, max_length: int) -> Tokenizer:
    """A tokenizer that pads nothing and cuts at `max_length` tokens, whatever its file says; on the
    side that the file says.

    Raises: BuildError if the file is not a tokenizer.
    """
    try:
        tokenizer: Tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises a bare Exception
        raise BuildError(f"{path}: not a tokenizer.json ({error}).") from None
    tokenizer.no_padding()
    cut_at(tokenizer, max_length)
    return tokenizer


def side_of(tokenizer: Tokenizer) -> str:
    """On which side it cuts: `right` or `left`."""
    return str((tokenizer.truncation or {}).get("direction", "right")).lower()


def cut_at(tokenizer: Tokenizer, max_length: int, side: str = "") -> None:
    """Let a tokenizer cut at this many tokens, on a side ('': the one that it has)."""
    tokenizer.enable_truncation(max_length, direction=side or side_of(tokenizer))


def save_tokenizer(tokenizer: Tokenizer, path: Path) -> None:
    """Save a copy without padding and, unless it cuts on the left, without truncation; the engine
    sets both.
    """
    clean = Tokenizer.from_str(tokenizer.to_str())
    clean.no_padding()
    if side_of(clean) == "right":
        clean.no_truncation()
    clean.save(str(path))


def without_token_types(tokenizer: Tokenizer) -> Tokenizer:
    """A copy whose token type ids are all 0, for a model that was trained without them."""
    content = json.loads(tokenizer.to_str())
    content["post_processor"] = _untyped(content["post_processor"])
    return Tokenizer.from_str(json.dumps(content))


def _untyped(processor: dict[str, Any] | None) -> dict[str, Any]:
    """The same post-processor with token type 0 everywhere."""
    kind = processor["type"] if processor else ""
    if processor and kind == "TemplateProcessing":
        pieces = [*processor["single"], *processor["pair"]]
        for piece in pieces:
            for content in piece.values():
                content["type_id"] = 0
        return processor
    if processor and kind == "Sequence":
        *first, last = processor["processors"]
        return {"type": "Sequence", "processors": [*first, _untyped(last)]}
    if processor and kind == "RobertaProcessing":  # has none
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


def tokenize(tokenizer: Tokenizer, texts: Sequence[Texts]) -> list[Encoding]:
    """Encode candidates (a text, or a text and its pair) in order."""
    if len(texts) == 1:
        return [tokenizer.encode(texts[0][0], texts[0][1] if len(texts[0]) > 1 else None)]
    return list(
        tokenizer.encode_batch_fast([text[0] if len(text) == 1 else tuple(text) for text in texts])
    )


def pad(
    encodings: Sequence[TokenSequence], length: int | None = None, padding: Padding = Padding()
) -> Batch:
    """Stack encodings into one batch, padded to `length` or to the longest of them."""
    longest = length or max(len(each.ids) for each in encodings)
    shape = (len(encodings), longest)
    ids, mask, segments = (np.zeros(shape, np.int64) for _ in range(3))
    if padding.id:
        ids += padding.id
    for row, each in enumerate(encodings):
        used = len(each.ids)
        place = slice(longest - used, None) if padding.side == "left" else slice(used)
        ids[row, place] = each.ids
        mask[row, place] = 1
        segments[row, place] = each.type_ids
    return Batch(ids, mask, segments)
