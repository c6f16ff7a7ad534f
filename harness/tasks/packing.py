"""Data of a task for another machine."""

from collections.abc import Callable
from pathlib import Path

from harness.errors import SourceError
from harness.store.downloads import Source


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
