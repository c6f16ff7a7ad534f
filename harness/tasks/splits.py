"""How a data set without official splits is divided: by a digest of its text."""

import hashlib

SPLITS = {"validation": (0.0, 0.2), "selection": (0.2, 0.28), "train": (0.28, 1.0)}


def split_position(key: str) -> float:
    """Where a key falls in 0..1: the first 8 hex digits of the sha256 of the stripped key, over
    2^32.
    """
    return int(hashlib.sha256(key.strip().encode()).hexdigest()[:8], 16) / 2**32
