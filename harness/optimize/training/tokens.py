"""Tokenized rows in the cache, from which trainings of any size read.

They are written once for each text and tokenizer, as an Arrow file of Hugging Face `datasets`, and
mapped into memory.
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

from harness.models import answers, tokenization
from harness.store.cache import cache_dir, create_folder_atomically, hold_lock
from harness.tasks.task import Candidate, Example

CHUNK = 250
"""Number of rows that are encoded at once. 1,000 long rows take 330 MB more, and are not faster."""

LabelledRow = tuple[Candidate, int, int]
"""A candidate, its label (-1 for none), and a count: for the first candidate of an example the
number of its candidates, for the others 0."""


@dataclass(frozen=True)
class Encoded:
    """The token ids and the segment ids of a row."""

    ids: Sequence[int]
    type_ids: Sequence[int]


class Tokens:
    """Tokenized rows with their labels.

    Attributes:
        key: a digest of text and tokenizer.
        lengths: int64 [rows], number of tokens.
        labels: int64 [rows], as in `LabelledRow`.
        counts: int64 [rows], as in `LabelledRow`.
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
        """Return some rows, padded to the longest of them or to `length`."""
        return tokenization.pad([self[row] for row in rows], length)

    def compute_accuracy(self, logits: NDArray[np.float32]) -> float:
        """Return the share of the examples that are answered right.

        Args:
            logits: float32 [rows, labels].
        """
        candidates = self.counts[self.counts > 0].tolist()
        return answers.compute_accuracy(logits, candidates, self.labels.tolist())


def rows_from_examples(examples: Iterable[Example]) -> Iterator[LabelledRow]:
    """Return a row for each candidate; in a choice the right candidates have label 1."""
    for example in examples:
        count = len(example.candidates)
        for candidate, label in zip(example.candidates, example.candidate_labels, strict=True):
            yield candidate, label, count
            count = 0


def tokenize(tokenizer: Tokenizer, rows: Callable[[], Iterable[LabelledRow]]) -> Tokens:
    """Encode rows, or load them from the cache.

    Args:
        tokenizer: truncates the rows, but does not pad them.
        rows: returns the same rows each time.
    """
    hasher = hashlib.sha256(tokenizer.to_str().encode())
    for row in rows():
        hasher.update(json.dumps(row).encode())
    key = hasher.hexdigest()
    folder = cache_dir() / "tokens" / key
    with hold_lock(key):
        if not folder.is_dir():
            with create_folder_atomically(folder) as out:
                _write(tokenizer, iter(rows()), out)
    return Tokens(folder)


def _write(tokenizer: Tokenizer, rows: Iterator[LabelledRow], out: Path) -> None:
    from datasets import Features, List, Value
    from datasets.arrow_writer import ArrowWriter

    names = ("length", "first", "label", "count")
    features = Features({"ids": List(Value("int32"))} | {name: Value("int32") for name in names})
    with ArrowWriter(features=features, path=str(out / "tokens.arrow")) as writer:
        while chunk := list(islice(rows, CHUNK)):
            encodings = tokenization.tokenize(tokenizer, [candidate for candidate, _, _ in chunk])
            lengths = [len(encoding.ids) for encoding in encodings]
            columns: dict[str, Any] = {
                "ids": [encoding.ids for encoding in encodings],
                "length": lengths,
                "first": [  # tokens of the first segment
                    length - sum(encoding.type_ids)
                    for length, encoding in zip(lengths, encodings, strict=True)
                ],
                "label": [label for _, label, _ in chunk],
                "count": [count for _, _, count in chunk],
            }
            writer.write_batch(columns)
        writer.finalize()
