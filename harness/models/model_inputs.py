"""The inputs of a model of any architecture: their names, the padding, and the longest input.

What the checkpoint's files state is read from them. The longest input and the side of the padding
are tried on the model itself, because the files are not reliable about them.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from harness.errors import BuildError
from harness.models import tokenization

Forward = Callable[[tokenization.Batch], Any]
"""From a padded batch to logits, float32 [inputs, labels]."""

INPUT_NAMES = ("input_ids", "attention_mask", "token_type_ids")

PADDING_TOLERANCE = 1e-3
"""Largest difference between a logit with and without padding for padding to count as harmless."""

SAMPLE_SIZE = 8
"""Number of texts that are tried with and without padding."""

MIN_TOKENS = 8
"""Number of tokens that every model must accept."""


def load_tokenizer_config(folder: Path) -> dict[str, Any]:
    """Return the content of tokenizer_config.json; an empty dict if there is no such file.

    Raises:
        BuildError: the file is not a JSON object.
    """
    path = folder / "tokenizer_config.json"
    try:
        content = json.loads(path.read_bytes()) if path.is_file() else {}
    except ValueError as error:
        raise BuildError(f"{path}: not valid JSON ({error}).") from None
    if not isinstance(content, dict):
        raise BuildError(f"{path}: not a JSON object.")
    return content


def find_tokenizer_inputs(
    tokenizer_config: dict[str, Any], config: dict[str, Any]
) -> tuple[str, ...]:
    """Return the names of the inputs that the checkpoint's tokenizer produces.

    They are `model_input_names` in tokenizer_config.json, otherwise those of the tokenizer class
    that it names, otherwise those of the class that transformers has for the architecture, and
    `INPUT_NAMES` if none of these is known.

    Args:
        tokenizer_config: the content of tokenizer_config.json.
        config: the content of config.json.
    """
    names = tokenizer_config.get("model_input_names")
    names = names if isinstance(names, list) else None
    if names is None and "model_type" in config:
        import transformers

        tokenizer_class = getattr(transformers, str(tokenizer_config.get("tokenizer_class")), None)
        names = getattr(tokenizer_class or _tokenizer_class(config), "model_input_names", None)
    return tuple(name for name in INPUT_NAMES if name in (names or INPUT_NAMES))


def _tokenizer_class(config: dict[str, Any]) -> Any:
    from transformers import CONFIG_MAPPING
    from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING

    try:
        return TOKENIZER_MAPPING[CONFIG_MAPPING[config["model_type"]]]
    except KeyError:
        return None


def find_longest_input(
    forward: Forward,
    tokenizer: Tokenizer,
    rows: Sequence[tokenization.Row],
    token: int | None,
    limit: int,
) -> int:
    """Return the largest number of tokens that the model accepts, at most `limit`.

    Positions may start after the padding token's id (as in RoBERTa), so the model is run on inputs
    of several lengths instead of trusting its configuration.

    Args:
        forward: the model.
        tokenizer: the model's; its truncation is changed.
        rows: some of the task's training texts.
        token: id of the padding token, which takes no position; None if there is none.
        limit: largest number of tokens to try.

    Raises:
        BuildError: the model does not even accept a short input.
    """
    words = " ".join(side for row in rows for side in row) or "a"
    side = tokenization.get_truncation_side(tokenizer)
    tokenizer.no_truncation()
    while 0 < len(tokenizer.encode(words).ids) < limit:
        words = f"{words} {words}"
    other = 0 if token else 1  # a token that is not padding

    def try_length(length: int) -> str:
        """Return the model's error, '' if there is none."""
        tokenization.set_truncation(tokenizer, length, side)
        try:
            batch = tokenization.pad([tokenizer.encode(words)])
            real = [number for number in batch.ids[0] if number != token] or [other]
            batch.ids[batch.ids == token] = real[0]
            forward(batch)
        except Exception as error:  # every runtime has its own exceptions
            return " ".join(f"{type(error).__name__}: {error}".split())[:200]
        return ""

    if not try_length(limit):
        return limit
    low, high = min(MIN_TOKENS, limit - 1), limit
    if reason := try_length(low):
        raise BuildError(
            f"the model fails on {low} tokens of its own tokenizer ({reason}). Do tokenizer.json "
            "and the weights belong together?"
        )
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if try_length(middle) else (middle, high)
    return low


def find_padding(
    forward: Forward,
    tokenizer: Tokenizer,
    rows: Sequence[tokenization.Row],
    token: int,
    length: int,
) -> tuple[tokenization.Padding, float]:
    """Find the side on which padding changes the logits least; right if both are harmless.

    Args:
        forward: the model.
        tokenizer: truncates to the model's longest input.
        rows: some of the task's training texts.
        token: id of the padding token.
        length: number of tokens to pad to.

    Returns:
        The padding, and the largest difference that it makes to a logit. The difference is above
        `PADDING_TOLERANCE` for an architecture whose logits depend on padding.
    """
    encodings = tokenization.tokenize(tokenizer, list(rows))

    def compute_logits(length: int | None, padding: tokenization.Padding) -> Any:
        batches = [tokenization.pad([encoding], length, padding) for encoding in encodings]
        return np.concatenate([forward(batch) for batch in batches])

    differences = {}
    for side in tokenization.SIDES:
        padding = tokenization.Padding(token, side)
        # padded first: a short input changes the state of some models permanently (BigBird)
        padded = compute_logits(length, padding)
        unpadded = compute_logits(None, padding)
        differences[padding] = float(np.abs(padded - unpadded).max(initial=0))
        if differences[padding] <= PADDING_TOLERANCE:
            break
    best = min(differences, key=lambda padding: differences[padding])
    return best, differences[best]
