"""Rows out of JSONL, CSV, TSV and Parquet files, one at a time, and examples kept as Arrow.

A fault in a file is said with its line. What is read once is kept in the cache as an Arrow file of
Hugging Face `datasets`, and mapped into memory from there: a data set need not fit into it.
"""

import csv
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, time
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from harness.errors import SourceError
from harness.schema import nearest
from harness.store.cache import cache_dir, locked, new_folder
from harness.tasks.delimited import delimited_rows, repeated
from harness.tasks.labels import as_number, class_label, label_of
from harness.tasks.task import Example

if TYPE_CHECKING:
    from datasets import Dataset

SELECTION = 0.1
"""Share of a training file that is the selection slice."""

TOGETHER = 256
"""Rows that are decoded at once."""

KEPT = ("label", "group", "right", "gold", "idx")
"""What of an example is kept beside its candidates."""


@dataclass(frozen=True)
class Fields:
    """One row of a file: what it holds, and where it stands. remedy: what to do about a fault."""

    values: dict[str, Any]
    place: str
    remedy: str = ""

    def fault(self, reason: str) -> SourceError:
        """The error, with place and remedy."""
        end = "" if reason.endswith("?") else "."
        return SourceError(f"{self.place}: {reason}{end} {self.remedy}".rstrip())

    def part(self, key: str, value: Any, name: str) -> "Fields":
        """A table inside the row. Raises: SourceError if it is none."""
        if not isinstance(value, dict):
            raise self.fault(f"{key} is {_shown(value)}, not {name}")
        return Fields(value, self.place, self.remedy)

    def table(self, key: str) -> "Fields":
        """A field that holds a table. Raises: SourceError if it does not."""
        return self.part(key, self._get(key), "a table")

    def tables(self, key: str) -> list["Fields"]:
        """A field that holds a list of tables. Raises: SourceError if it does not."""
        value = self._get(key)
        if not isinstance(value, list):
            raise self.fault(f"{key} is {_shown(value)}, not a list")
        return [self.part(key, each, "a list of tables") for each in value]

    def text(self, key: str) -> str:
        """A field that holds a text, not empty. Raises: SourceError if it does not."""
        value = self._get(key)
        if not isinstance(value, str) or not value.strip():
            raise self.fault(f"{key} is {_shown(value)}, not a text")
        return value

    def whole(self, key: str) -> int:
        """A field that holds a whole number (also written as a text).

        Raises: SourceError if it does not.
        """
        value = self._get(key)
        if isinstance(value, bool) or not isinstance(value, int | str | float):
            raise self.fault(f"{key} is {_shown(value)}, not a whole number")
        try:
            if float(value) == int(value):
                return int(value)
        except ValueError:
            pass
        raise self.fault(f"{key} is {_shown(value)}, not a whole number")

    def label(self, key: str, labels: Sequence[str], known: bool = True) -> int:
        """A field that holds one of the labels, as `label_of` reads it; -1 if it may be missing
        (`known` is off) and is.

        Raises: SourceError if it does not.
        """
        if not known and self.values.get(key) in (None, -1):
            return -1
        value = self._get(key)
        label = label_of(value, labels)
        if label is None:
            number = as_number(value) is not None
            positions = f" (positions count from 0, to {len(labels) - 1})" if number else ""
            raise self.fault(f"{key} is {_shown(value)}, not one of {', '.join(labels)}{positions}")
        return label[0]

    def scalar(self, key: str) -> str | int | float:
        """A field that holds a text or a number; a date or a time becomes its ISO text.

        Raises: SourceError if it does not.
        """
        value = self._get(key)
        if isinstance(value, date | time):  # a datetime is a date, too
            return value.isoformat()
        number = None if isinstance(value, str) else as_number(value)
        if number is not None:
            return int(number) if number == number.to_integral_value() else float(number)
        if isinstance(value, str) and value.strip():
            return value
        raise self.fault(f"{key} is {_shown(value)}, not a text or a number")

    def _get(self, key: str) -> Any:
        if key not in self.values:
            raise self.fault(f"{key} is missing. {nearest(key, self.values)}".rstrip("."))
        if self.values[key] is None:
            raise self.fault(f"{key} is missing (it is null)")
        return self.values[key]


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 40 else f"{text[:37]}..."


def read_rows(path: Path, remedy: str = "", quoting: str = "") -> Iterator[Fields]:
    """The rows of a `.jsonl`, `.csv`, `.tsv` or `.parquet` file.

    quoting: one of `QUOTING`; by default `minimal` for `.csv` and `none` for `.tsv`, where a field
    that looks quoted is a fault.
    Raises: SourceError with the line if one cannot be read, or the file is empty.
    """

    def table(path: Path) -> Iterator[tuple[int, Any]]:
        return delimited_rows(path, quoting)

    readers = {".jsonl": _jsonl, ".csv": table, ".tsv": table, ".parquet": _parquet}
    if path.suffix not in readers:
        raise SourceError(f"{path}: its name must end in {', '.join(readers)}.")
    empty = True
    try:
        for line, values in readers[path.suffix](path):
            empty = False
            place = f"{path}: line {line}"
            if not isinstance(values, dict):
                raise SourceError(f"{place} is {_shown(values)}, not an object. {remedy}".rstrip())
            yield Fields(values, place, remedy)
    except (
        *(ValueError, csv.Error, OSError),
        *(OverflowError, TypeError, RecursionError),  # dates and depths that Python does not have
    ) as error:
        raise SourceError(f"{path}: {error}. {remedy}".rstrip()) from None
    if empty:
        raise SourceError(f"{path}: it is empty. {remedy}".rstrip())


def _jsonl(path: Path) -> Iterator[tuple[int, Any]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                try:
                    values = json.loads(line, object_pairs_hook=_once)
                    if b"\\u" in line:
                        json.dumps(values, ensure_ascii=False).encode()
                    yield number, values
                except UnicodeEncodeError:
                    raise ValueError(
                        f"line {number} holds half of a character (a lone surrogate, \\ud800 to "
                        "\\udfff)"
                    ) from None
                except _TwiceError as error:
                    raise ValueError(f"line {number} has {error}") from None
                except ValueError as error:
                    cut = "" if line.endswith(b"\n") else "; the file may have been cut off"
                    raise ValueError(f"line {number} is not JSON ({error}){cut}") from None


class _TwiceError(ValueError):
    """Two fields of one name."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, as json.loads builds it. Raises: _TwiceError if two fields have one name."""
    values = dict(pairs)
    if len(values) < len(pairs):
        raise _TwiceError(repeated([name for name, _ in pairs]))
    return values


def _parquet(path: Path) -> Iterator[tuple[int, Any]]:
    """Labels come by their names, where the file has them."""
    from datasets import Features
    from pyarrow import ArrowException, parquet

    try:
        with parquet.ParquetFile(path) as file:
            if twice := repeated(file.schema_arrow.names):
                raise ValueError(f"it has {twice}")
            features = Features.from_arrow_schema(file.schema_arrow)
            names = {key: each.names for key, each in features.items() if hasattr(each, "names")}
            number = 0
            for batch in file.iter_batches(TOGETHER):
                for values in batch.to_pylist():
                    number += 1
                    for key, known in names.items():
                        if isinstance(values[key], int):  # -1: not labelled
                            values[key] = class_label(values[key], known)
                    yield number, values
    except ArrowException as error:
        raise ValueError(f"not a Parquet file ({error})") from None


class Examples(Sequence[Example]):
    """Examples in an Arrow file, decoded when they are asked for.

    numbers: which of the file's rows, in order; None for all.
    """

    def __init__(self, dataset: "Dataset", numbers: NDArray[np.int64] | None = None) -> None:
        self.dataset, self.numbers = dataset, numbers

    def __len__(self) -> int:
        return len(self.dataset if self.numbers is None else self.numbers)

    @overload
    def __getitem__(self, at: int) -> Example: ...
    @overload
    def __getitem__(self, at: slice) -> list[Example]: ...
    def __getitem__(self, at: int | slice) -> Example | list[Example]:
        rows = range(len(self))[at]
        found = self._read([rows] if isinstance(rows, int) else list(rows))
        return found[0] if isinstance(rows, int) else found

    def __iter__(self) -> Iterator[Example]:
        for start in range(0, len(self), TOGETHER):
            yield from self[start : start + TOGETHER]

    def _read(self, rows: list[int]) -> list[Example]:
        if self.numbers is not None:
            rows = self.numbers[rows].tolist()
        table = self.dataset[rows]
        return [
            _example(text, pairs, json.loads(rest))
            for text, pairs, rest in zip(table["text"], table["pairs"], table["rest"], strict=True)
        ]


def _example(text: str, pairs: list[str], rest: dict[str, Any]) -> Example:
    candidates = tuple((text, pair) for pair in pairs) or ((text,),)
    return Example(candidates, **{**rest, "right": tuple(rest["right"])})


@dataclass(frozen=True)
class Stored:
    """The rows of one file as examples. content: a digest of them; positions: where each falls in
    0..1, for the selection slice.
    """

    examples: Examples
    content: str
    positions: NDArray[np.float32]

    def part(self, split: str) -> Examples:
        """The `selection` slice of a training file, or the rest of it, which is `train`.

        Of a small file, of which nothing or all would fall into the slice, it is what has the
        lowest position; of one that cannot be parted it is empty.
        """
        inside = self.positions < SELECTION
        if inside.all() or not inside.any():
            inside = (self.positions == self.positions.min()) & (
                self.positions.min() < self.positions.max()
            )
        return Examples(self.examples.dataset, np.flatnonzero(inside == (split == "selection")))


def stored(key: str, rows: Callable[[], Iterable[tuple[float, Example]]]) -> Stored:
    """Examples with their positions, written to the cache under this key the first time.

    All candidates of an example share their first text.
    """
    from datasets import Dataset, Features, List, Value, disable_progress_bars
    from datasets.arrow_writer import ArrowWriter

    disable_progress_bars()
    folder = cache_dir() / "datasets" / key
    with locked(key):
        if not folder.is_dir():
            features = Features(
                {"text": Value("string"), "pairs": List(Value("string")), "rest": Value("string")}
            )
            content, positions = hashlib.sha256(), []
            with new_folder(folder) as out:
                with ArrowWriter(features=features, path=str(out / "rows.arrow")) as writer:
                    for position, example in rows():
                        pairs = [each[1] for each in example.candidates if len(each) > 1]
                        rest = {name: getattr(example, name) for name in KEPT}
                        line = [example.candidates[0][0], pairs, json.dumps(rest)]
                        writer.write(dict(zip(features, line, strict=True)))
                        content.update(json.dumps(line).encode())
                        positions.append(position)
                    writer.finalize()
                np.save(out / "positions.npy", np.array(positions, np.float32))
                (out / "content").write_text(content.hexdigest())
    return Stored(
        Examples(Dataset.from_file(str(folder / "rows.arrow"))),
        (folder / "content").read_text(),
        np.load(folder / "positions.npy"),
    )
