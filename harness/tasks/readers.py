"""Reading rows of JSONL, CSV, TSV and Parquet files, one at a time.

A fault is reported with the line of the file.
"""

import csv
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, time
from pathlib import Path
from typing import Any

from harness.errors import SourceError, suggest_name
from harness.tasks.delimited import describe_duplicate, read_delimited_rows
from harness.tasks.labels import parse_class, parse_label, parse_number
from harness.tasks.text_files import read_lines

BATCH_ROWS = 256
"""Number of rows of a Parquet file that are decoded at once."""


@dataclass(frozen=True)
class DataRow:
    """One row of a file, or an object inside one.

    Each `get_…` method returns the value of a field and raises SourceError if the field is missing
    or of another type.

    Attributes:
        values: the fields by name.
        location: the file and the line.
        remedy: how to fix a fault of this file, as a sentence.
    """

    values: dict[str, Any]
    location: str
    remedy: str = ""

    def error(self, reason: str) -> SourceError:
        """Return an error with the location and the remedy."""
        end = "" if reason.endswith("?") else "."
        return SourceError(f"{self.location}: {reason}{end} {self.remedy}".rstrip())

    def get_object(self, key: str) -> "DataRow":
        """Return an object inside the row."""
        return self._nested_row(key, self._get(key), "an object")

    def get_objects(self, key: str) -> list["DataRow"]:
        """Return a list of objects."""
        values = self._get(key)
        if not isinstance(values, list):
            raise self.error(f"{key} is {_abbreviate(values)}, not a list")
        return [self._nested_row(key, value, "a list of objects") for value in values]

    def get_string(self, key: str) -> str:
        """Return a string that is not empty."""
        value = self._get(key)
        if not isinstance(value, str):
            raise self.error(f"{key} is {_abbreviate(value)}, not a string")
        if not value.strip():
            raise self.error(f"{key} is empty")
        return value

    def get_integer(self, key: str) -> int:
        """Return an integer; it may also be written as a string."""
        value = self._get(key)
        if isinstance(value, int | str | float) and not isinstance(value, bool):
            try:
                if float(value) == int(value):
                    return int(value)
            except ValueError:
                pass
        raise self.error(f"{key} is {_abbreviate(value)}, not an integer")

    def get_label(self, key: str, labels: Sequence[str], required: bool = True) -> int:
        """Return the index of a label, read by `parse_label`.

        Args:
            key: the field.
            labels: the names of the labels.
            required: if False, a missing label is -1.
        """
        if not required and self.values.get(key) in (None, -1):
            return -1
        value = self._get(key)
        label = parse_label(value, labels)
        if label is None:
            hint = f" (positions count from 0, to {len(labels) - 1})"
            raise self.error(
                f"{key} is {_abbreviate(value)}, not one of {', '.join(labels)}"
                f"{'' if parse_number(value) is None else hint}"
            )
        return label[0]

    def get_scalar(self, key: str) -> str | int | float:
        """Return a number, or a string without blanks around it; of a date its ISO 8601 string."""
        value = self._get(key)
        if isinstance(value, date | time):  # a datetime is a date, too
            return value.isoformat()
        number = None if isinstance(value, str) else parse_number(value)
        if number is not None:
            return int(number) if number == number.to_integral_value() else float(number)
        if isinstance(value, str) and value.strip():
            return value.strip()
        if isinstance(value, str):
            raise self.error(f"{key} is empty")
        raise self.error(f"{key} is {_abbreviate(value)}, not a string or a number")

    def _get(self, key: str) -> Any:
        if key not in self.values:
            raise self.error(f"{key} is missing. {suggest_name(key, self.values)}".rstrip("."))
        if self.values[key] is None:
            raise self.error(f"{key} is missing (it is null)")
        return self.values[key]

    def _nested_row(self, key: str, value: Any, expected: str) -> "DataRow":
        if not isinstance(value, dict):
            raise self.error(f"{key} is {_abbreviate(value)}, not {expected}")
        return DataRow(value, self.location, self.remedy)


def read_rows(
    path: Path, remedy: str = "", quoting: str = "", columns: Collection[str] | None = None
) -> Iterator[DataRow]:
    """Yield the rows of a `.jsonl`, `.csv`, `.tsv` or `.parquet` file.

    Blanks around the names of fields are dropped.

    Args:
        path: the file.
        remedy: how to fix a fault of it, as a sentence.
        quoting: one of `QUOTING`; by default `minimal` for `.csv` and `none` for `.tsv`, where a
            field that looks quoted is a fault.
        columns: the fields that are needed (default: all). Parquet decodes only these; the others
            are None.

    Raises:
        SourceError: a row cannot be read (the message names the line), or the file is empty.
    """

    def read_table(path: Path) -> Iterator[tuple[int, Any]]:
        return read_delimited_rows(path, quoting)

    def read_parquet(path: Path) -> Iterator[tuple[int, Any]]:
        return _read_parquet(path, columns)

    readers = {
        ".jsonl": _read_jsonl,
        ".csv": read_table,
        ".tsv": read_table,
        ".parquet": read_parquet,
    }
    suffix = path.suffix.lower()
    if suffix not in readers:
        raise SourceError(
            f"{path}: its name must end in {', '.join(readers)}. Unpack, convert or rename it."
        )
    empty = True
    try:
        for line, values in readers[suffix](path):
            empty = False
            yield DataRow(values, f"{path}: line {line}", remedy)
    except (
        *(ValueError, csv.Error, OSError),
        *(OverflowError, TypeError, RecursionError),  # depths that Python does not have
    ) as error:
        raise SourceError(f"{path}: {str(error).rstrip('.')}. {remedy}".rstrip()) from None
    if empty:
        raise SourceError(f"{path}: it is empty. {remedy}".rstrip())


def _abbreviate(value: Any) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False)
    except TypeError:  # a value of Parquet that JSON does not have
        text = repr(value)
    shown = "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text[:41]
    )
    return shown if len(text) <= 40 else f"{shown[:37]}..."


def _read_jsonl(path: Path) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        try:
            values = json.loads(line, object_pairs_hook=_build_object)
            if "\\u" in line:
                json.dumps(values, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError(
                f"line {number} holds half of a character (a lone surrogate, \\ud800 to \\udfff)"
            ) from None
        except _DuplicateError as error:
            raise ValueError(f"line {number} has {error}") from None
        except ValueError as error:
            cut = "" if line.endswith(("\n", "\r")) else "; the file may have been cut off"
            hint = ONE_OBJECT_PER_LINE if line.strip() in ("[", "{") else ""
            raise ValueError(f"line {number} is not JSON ({error}){cut}{hint}") from None
        if not isinstance(values, dict):
            hint = ONE_OBJECT_PER_LINE if isinstance(values, list) else ""
            raise ValueError(f"line {number} is {_abbreviate(values)}, not an object{hint}")
        yield number, values


ONE_OBJECT_PER_LINE = (
    '. Each line must be an object; in pandas, to_json(path, orient="records", lines=True)'
)


class _DuplicateError(ValueError):
    """Two fields have the same name."""


def _build_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = {name.strip(): value for name, value in pairs}
    if len(values) < len(pairs):
        duplicate = describe_duplicate([name.strip() for name, _ in pairs])
        if duplicate:
            raise _DuplicateError(duplicate)
    return values


def _read_parquet(path: Path, columns: Collection[str] | None) -> Iterator[tuple[int, Any]]:
    """Classes are read by name where the file names them."""
    from pyarrow import ArrowException, parquet

    try:
        with parquet.ParquetFile(path) as file:
            names = {name.strip(): name for name in file.schema_arrow.names}
            if duplicate := describe_duplicate([name.strip() for name in file.schema_arrow.names]):
                raise ValueError(f"it has {duplicate}")
            needed = [name for name in names if columns is None or name in columns]
            class_names = _get_class_names(file.schema_arrow.metadata or {})
            number = 0
            for batch in file.iter_batches(BATCH_ROWS, columns=[names[name] for name in needed]):
                rows = f"lines {number + 1} to {number + batch.num_rows}"
                decoded = {name: _decode(batch.column(names[name]), name, rows) for name in needed}
                for row in range(batch.num_rows):
                    number += 1
                    values: dict[str, Any] = dict.fromkeys(names)
                    values |= {name: decoded[name][row] for name in needed}
                    for name in class_names.keys() & decoded.keys():
                        value = values[name]
                        if isinstance(value, int):
                            values[name] = parse_class(value, class_names[name])
                    yield number, values
    except ArrowException as error:
        raise ValueError(f"not a Parquet file ({error})") from None


def _decode(column: Any, name: str, rows: str) -> list[Any]:
    """Return the values of a column of an Arrow batch."""
    from pyarrow import ArrowException

    try:
        values: list[Any] = column.to_pylist()
    except (ArrowException, ValueError, OverflowError, TypeError) as error:
        raise ValueError(f"{rows}: {name} cannot be read ({error})") from None
    return values


def _get_class_names(metadata: Mapping[bytes, bytes]) -> dict[str, list[str]]:
    """Return the names of the classes of each `ClassLabel`, as `datasets` writes them."""
    try:
        content = json.loads(metadata.get(b"huggingface", b"{}"))
        features = content.get("info", {}).get("features", {})
        return {
            name.strip(): feature["names"]
            for name, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        }
    except (ValueError, LookupError, AttributeError) as error:
        raise ValueError(f"its metadata 'huggingface' cannot be read ({error})") from None
