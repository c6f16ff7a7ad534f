"""Data of a task for another machine: complete, or a sample of the training file."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from harness.errors import SourceError
from harness.store.downloads import Source


def sample_rows(rows: Sequence[bytes], count: int) -> list[int]:
    """Return which rows of a file form a sample of it: those whose sha256 is smallest, in order.

    Args:
        rows: the content of each row.
        count: the size of the sample; 0 for all.
    """
    numbers = sorted(range(len(rows)), key=lambda number: hashlib.sha256(rows[number]).digest())
    return sorted(numbers[:count] if count else numbers)


def pack_source(source: Source, task: str) -> Callable[[Path, int], str]:
    """Return the `Task.pack` of a task whose data is a pinned source, which cannot be cut."""

    def pack(data: Path, examples: int) -> str:
        if examples:
            raise SourceError(
                f"task {task!r}: its files are pinned by their sha256, so that no part of them can "
                "be packed. Leave --examples out for it."
            )
        source.copy_to(data)
        return task

    return pack
