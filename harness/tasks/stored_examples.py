"""Examples in the cache, as an Arrow file that is mapped into memory.

A data set need not fit into memory: examples are decoded when they are read.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from harness.store.cache import cache_dir, create_folder_atomically, hold_lock
from harness.tasks.splits import SELECTION_SHARE, select_selection_slice
from harness.tasks.task import Example

if TYPE_CHECKING:
    from datasets import Dataset

BATCH_EXAMPLES = 256
"""Number of examples that are decoded at once."""

STORED_FIELDS = ("label", "group", "right", "gold", "idx")
"""The fields of an example that are stored as JSON. They are part of a task's version."""


class ArrowExamples(Sequence[Example]):
    """Examples of an Arrow file.

    Args:
        dataset: the file.
        indices: int64 [examples], the rows of the file in order; None for all.
    """

    def __init__(self, dataset: "Dataset", indices: NDArray[np.int64] | None = None) -> None:
        self.dataset, self.indices = dataset, indices

    def __len__(self) -> int:
        return len(self.dataset if self.indices is None else self.indices)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        selected = range(len(self))[index]
        if isinstance(selected, int):
            return self._read([selected])[0]
        return self._read(list(selected))

    def __iter__(self) -> Iterator[Example]:
        for start in range(0, len(self), BATCH_EXAMPLES):
            yield from self[start : start + BATCH_EXAMPLES]

    def _read(self, indices: list[int]) -> list[Example]:
        if self.indices is not None:
            indices = self.indices[indices].tolist()
        columns = self.dataset[indices]
        return [
            _decode(text, pairs, json.loads(rest))
            for text, pairs, rest in zip(
                columns["text"], columns["pairs"], columns["rest"], strict=True
            )
        ]


def _decode(text: str, pairs: list[str], rest: dict[str, Any]) -> Example:
    candidates = tuple((text, pair) for pair in pairs) or ((text,),)
    return Example(candidates, **{**rest, "right": tuple(rest["right"])})


@dataclass(frozen=True)
class StoredExamples:
    """The examples of one file.

    Attributes:
        examples: all of them, in order.
        content: a digest of them.
        positions: float32 [examples], which decide what is in the selection slice.
    """

    examples: ArrowExamples
    content: str
    positions: NDArray[np.float32]

    def select(self, split: str, share: float = SELECTION_SHARE) -> ArrowExamples:
        """Return the `selection` slice of a training file, or the remaining examples (`train`).

        Args:
            split: `selection` or `train`.
            share: of the selection slice.
        """
        inside = select_selection_slice(self.positions, share)
        indices = np.flatnonzero(inside == (split == "selection"))
        return ArrowExamples(self.examples.dataset, indices)


def store_examples(
    key: str, build_examples: Callable[[], Iterable[tuple[float, Example]]], origin: str
) -> StoredExamples:
    """Return examples from the cache; the first time, build and write them.

    Args:
        key: a digest of all that they depend on.
        build_examples: returns each example with its split position. All candidates of an example
            share their first text.
        origin: the task, split and file, for people who look into the cache.
    """
    from datasets import Dataset, disable_progress_bars

    disable_progress_bars()
    folder = cache_dir() / "datasets" / key
    with hold_lock(key):
        if not folder.is_dir():
            with create_folder_atomically(folder) as out:
                _write(out, build_examples())
                (out / "origin").write_text(origin, errors="replace")
    return StoredExamples(
        ArrowExamples(Dataset.from_file(str(folder / "rows.arrow"))),
        (folder / "content").read_text(),
        np.load(folder / "positions.npy"),
    )


def _write(folder: Path, examples: Iterable[tuple[float, Example]]) -> None:
    from datasets import Features, List, Value
    from datasets.arrow_writer import ArrowWriter

    features = Features(
        {"text": Value("string"), "pairs": List(Value("string")), "rest": Value("string")}
    )
    content, positions = hashlib.sha256(), []
    with ArrowWriter(features=features, path=str(folder / "rows.arrow")) as writer:
        for position, example in examples:
            pairs = [candidate[1] for candidate in example.candidates if len(candidate) > 1]
            rest = {name: getattr(example, name) for name in STORED_FIELDS}
            values = [example.candidates[0][0], pairs, json.dumps(rest)]
            writer.write(dict(zip(features, values, strict=True)))
            content.update(json.dumps(values).encode())
            positions.append(position)
        writer.finalize()
    np.save(folder / "positions.npy", np.array(positions, np.float32))
    (folder / "content").write_text(content.hexdigest())
