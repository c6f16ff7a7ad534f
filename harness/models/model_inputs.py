"""What a model of any architecture takes: names of its inputs, padding, and the longest input.

Read from the checkpoint's files where they say it, and tried on the model itself where only that is
certain: how far its positions reach, and on which side it can be padded.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from harness.errors import BuildError
from harness.models import tokenization

Run = Callable[[tokenization.Batch], Any]
"""A padded batch to logits, float32 [inputs, labels]."""

KNOWN = ("input_ids", "attention_mask", "token_type_ids")

ALIKE = 1e-3
"""Largest difference of a logit with and without padding, where padding is harmless."""

SAMPLE = 8
"""Texts that are tried with and without padding."""

SHORTEST = 8
"""Tokens that every model must take."""


def tokenizer_config(folder: Path) -> dict[str, Any]:
    """The content of tokenizer_config.json; empty where there is none.

    Raises: BuildError if it is no JSON object.
    """
    path = folder / "tokenizer_config.json"
    try:
        described = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise BuildError(f"{path}: not JSON ({error}).") from None
    if not isinstance(described, dict):
        raise BuildError(f"{path}: not an object.")
    return described


def tokenizer_inputs(described: dict[str, Any], config: dict[str, Any]) -> tuple[str, ...]:
    """The inputs that the checkpoint's tokenizer gives, by name.

    `model_input_names` in tokenizer_config.json, else those of the tokenizer class that it names,
    else of the class that transformers has for the architecture; where all are unknown, `KNOWN`.
    """
    names = described.get("model_input_names")
    names = names if isinstance(names, list) else None
    if names is None and "model_type" in config:
        import transformers

        kind = getattr(transformers, str(described.get("tokenizer_class")), None)
        names = getattr(kind or _tokenizer_class(config), "model_input_names", None)
    return tuple(name for name in KNOWN if name in (names or KNOWN))


def _tokenizer_class(config: dict[str, Any]) -> Any:
    from transformers import CONFIG_MAPPING
    from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING

    try:
        return TOKENIZER_MAPPING[CONFIG_MAPPING[config["model_type"]]]
    except KeyError:
        return None


def longest_input(
    run: Run,
    tokenizer: Tokenizer,
    texts: Sequence[tokenization.Texts],
    token: int | None,
    limit: int,
) -> int:
    """The most tokens, at most `limit`, that the model takes.

    Positions may begin behind the padding token's id (RoBERTa and its kin), so the model is run on
    ever longer inputs rather than its configuration believed.

    Args:
        run: the model.
        tokenizer: its own; it is left cutting at some length.
        texts: some of the task's training texts.
        token: id of the padding token, which takes no position; None where there is none.
        limit: tokens; the most that are tried.

    Raises:
        BuildError: the model does not even take a short input.
    """
    words = " ".join(side for each in texts for side in each) or "a"
    side = tokenization.side_of(tokenizer)
    tokenizer.no_truncation()
    while 0 < len(tokenizer.encode(words).ids) < limit:
        words = f"{words} {words}"
    other = 0 if token else 1

    def fault(length: int) -> str:
        tokenization.cut_at(tokenizer, length, side)
        try:
            batch = tokenization.pad([tokenizer.encode(words)])
            usual = [each for each in batch.ids[0] if each != token] or [other]
            batch.ids[batch.ids == token] = usual[0]
            run(batch)
        except Exception as error:  # every runtime has its own
            return " ".join(f"{type(error).__name__}: {error}".split())[:200]
        return ""

    if not fault(limit):
        return limit
    low, high = min(SHORTEST, limit - 1), limit
    if reason := fault(low):
        raise BuildError(
            f"the model fails on {low} tokens of its own tokenizer ({reason}). Do tokenizer.json "
            "and the weights belong together?"
        )
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fault(middle) else (middle, high)
    return low


def fitting_padding(
    run: Run, tokenizer: Tokenizer, texts: Sequence[tokenization.Texts], token: int, length: int
) -> tuple[tokenization.Padding, float]:
    """The side on which padding changes the logits least; right where both are the same.

    Args:
        run: the model.
        tokenizer: cuts at the model's longest input.
        texts: some of the task's training texts.
        token: id of the padding token.
        length: tokens to pad to.

    Returns:
        The padding, and the largest difference of a logit that it makes; above `ALIKE` for an
        architecture that mixes padding into its answers.
    """
    rows = tokenization.tokenize(tokenizer, list(texts))

    def logits(padding: tokenization.Padding) -> Any:
        return np.concatenate([run(tokenization.pad([row], length, padding)) for row in rows])

    moved = {}
    for side in tokenization.SIDES:
        padding = tokenization.Padding(token, side)
        padded = logits(padding)  # first: a short input changes some models for good (BigBird)
        alone = np.concatenate([run(tokenization.pad([row])) for row in rows])
        moved[padding] = float(np.abs(padded - alone).max(initial=0))
        if moved[padding] <= ALIKE:
            break
    best = min(moved, key=lambda each: moved[each])
    return best, moved[best]
