"""Features of texts and pairs from model2vec's static embeddings (Tulkens & van Dongen 2024)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def embed_rows(model: Any, rows: Sequence[Sequence[str]]) -> NDArray[np.float32]:
    """Return the input of the linear classifier, float32 [rows, width] or [pairs, 4 * width].

    A text is its embedding; a pair is both embeddings, their absolute difference and their product.

    Args:
        model: a `model2vec.StaticModel`.
        rows: texts, or texts and their pairs.
    """
    sides = [
        np.asarray(model.encode([row[side] for row in rows], use_multiprocessing=False), np.float32)
        for side in range(min(map(len, rows)))
    ]
    if len(sides) == 1:
        return sides[0]
    first, second = sides
    return np.concatenate([first, second, np.abs(first - second), first * second], axis=1)
