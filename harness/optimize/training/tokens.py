"""Token ids of a text, kept as Arrow: what training reads, however long the text is.

They are written to the cache once for a text and a tokenizer, as an Arrow file of Hugging Face
`datasets`, and mapped into memory from there.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from harness.models import tokenization
from harness.store.cache import cache_dir, locked, new_folder
from harness.tasks.task import Candidate, Example

TOGETHER = 1000
"""Rows that are encoded at once."""

Labelled = tuple[Candidate, int, int]
"""A candidate, its label (-1: none), and how many candidates its example has, said with the first
of them (0 with the others)."""


@dataclass(frozen=True)
class Encoded:
    """One row: token ids and segment ids."""

    ids: Sequence[int]
    type_ids: Sequence[int]


class Tokens:
    """Rows of token ids with their labels.

    key: a digest of text and tokenizer. lengths, labels, counts: of each row, as in `Labelled`.
    """

    def __init__(self, folder: Path) -> None:
        from datasets import Dataset

        self.key = folder.name
        self.dataset = Dataset.from_file(str(folder / "tokens.arrow"))
        columns = {name: self._column(name) for name in ("length", "first", "label", "count")}
        self.lengths, self.labels = columns["length"], columns["label"]
        self.first, self.counts = columns["first"], columns["count"]
        self.ids = self.dataset.data.column("ids")

    def _column(self, name: str) -> NDArray[np.int64]:
        column: NDArray[np.int64] = self.dataset.data.column(name).to_numpy().astype(np.int64)
        return column

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> Encoded:
        ids = self.ids[row].values.to_numpy()
        return Encoded(ids, (np.arange(len(ids)) >= self.first[row]).astype(np.int64))

    def batch(self, rows: Iterable[int], length: int | None = None) -> tokenization.Batch:
        """Some rows, padded to the longest of them or to `length`."""
        return tokenization.pad([self[row] for row in rows], length)

    def right(self, logits: NDArray[np.float32]) -> float:
        """Share of the examples that are answered right. logits: float32 [rows, labels]."""
        starts = np.flatnonzero(self.counts)
        right = 0
        for start, count in zip(starts.tolist(), self.counts[starts].tolist(), strict=True):
            if count == 1:
                right += int(logits[start].argmax()) == int(self.labels[start])
            else:  # the candidate most surely of label 1
                chosen = (logits[start : start + count] @ np.array([-1, 1])).argmax()
                right += int(self.labels[start + chosen]) == 1
        return right / len(starts)


def of_examples(examples: Iterable[Example]) -> Iterator[Labelled]:
    """The candidates of examples, each a row; of a choice, label 1 for the right ones."""
    for example in examples:
        count = len(example.candidates)
        for candidate, label in zip(example.candidates, example.row_labels, strict=True):
            yield candidate, label, count
            count = 0


def tokenized(tokenizer: Tokenizer, rows: Callable[[], Iterable[Labelled]]) -> Tokens:
    """Encode rows, or take them from the cache. rows: gives the same rows each time."""
    hashed = hashlib.sha256(tokenizer.to_str().encode())
    for row in rows():
        hashed.update(json.dumps(row).encode())
    key = hashed.hexdigest()
    folder = cache_dir() / "tokens" / key
    with locked(key):
        if not folder.is_dir():
            with new_folder(folder) as out:
                _write(tokenizer, iter(rows()), out)
    return Tokens(folder)


def _write(tokenizer: Tokenizer, rows: Iterator[Labelled], out: Path) -> None:
    from datasets import Features, List, Value
    from datasets.arrow_writer import ArrowWriter

    names = ("length", "first", "label", "count")
    features = Features({"ids": List(Value("int32"))} | {name: Value("int32") for name in names})
    with ArrowWriter(features=features, path=str(out / "tokens.arrow")) as writer:
        while part := list(islice(rows, TOGETHER)):
            encodings = tokenization.tokenize(tokenizer, [candidate for candidate, _, _ in part])
            columns: dict[str, Any] = {
                "ids": [each.ids for each in encodings],
                "length": [len(each.ids) for each in encodings],
                "first": [len(each.ids) - sum(each.type_ids) for each in encodings],
                "label": [label for _, label, _ in part],
                "count": [count for _, _, count in part],
            }
            writer.write_batch(columns)
        writer.finalize()
