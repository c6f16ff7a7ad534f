"""CSV and TSV files, and whether quotation marks enclose their fields."""

import csv
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from harness.tasks.text_files import read_lines

QUOTING: dict[str, Literal[0, 3]] = {"none": csv.QUOTE_NONE, "minimal": csv.QUOTE_MINIMAL}
"""`none`: a quotation mark is an ordinary character; `minimal`: it may enclose a field."""

DELIMITERS = ",;\t|"
"""What may separate the fields of a CSV file; spreadsheets of many languages write semicolons."""


def describe_duplicate(names: Sequence[str]) -> str:
    """Return which fields have the same name, for a message; '' if none have."""
    for name, count in Counter(names).items():
        if count > 1 and name.strip():
            numbers = [str(number) for number, other in enumerate(names, start=1) if other == name]
            return f"fields {' and '.join(numbers)} both called {name!r}; rename one of them"
    return ""


def read_delimited_rows(path: Path, quoting: str) -> Iterator[tuple[int, Any]]:
    """Yield the rows of a CSV or TSV file; blank lines and lines of delimiters alone are skipped.

    Args:
        path: the file; `.tsv` separates fields by tabs, `.csv` by the first of `DELIMITERS` that
            the first line has. A first line such as `sep=;` only tells the delimiter.
        quoting: one of `QUOTING`; '' for the usual one of the format: `minimal` for CSV, `none` for
            TSV, where a field that looks quoted is a fault.

    Yields:
        The line at which a row begins, and its values by the names of the first row.

    Raises:
        ValueError: a row has another number of fields than the first, two fields have the same
            name, or quotation marks do not match.
        SourceError: the file is not UTF-8.
    """
    csv.field_size_limit(sys.maxsize)
    is_csv = path.suffix.lower() == ".csv"
    first_line = next((line for line in read_lines(path) if line.strip()), "")
    signs = DELIMITERS if is_csv else "\t"
    delimiter = next((sign for sign in signs if sign in first_line), signs[0])
    mode = quoting or ("minimal" if is_csv else "none")
    row_lines: list[str] = []
    reader = csv.reader(
        _collect_lines(read_lines(path), row_lines),
        delimiter=delimiter,
        strict=True,
        quoting=QUOTING[mode],
    )
    names: list[str] = []
    try:
        for values in reader:
            start = reader.line_num - len(row_lines) + 1
            if mode == "none" and not quoting:
                _check_quotes(values, start, heading=not names)
            is_blank = not "".join(row_lines).replace(delimiter, "").strip()
            if names and not is_blank:
                if len(values) != len(names):
                    fields = "1 field" if len(values) == 1 else f"{len(values)} fields"
                    raise ValueError(
                        f"line {start} has {fields}, but the first has {len(names)}"
                        f"{_quoting_hint(row_lines, quoting, mode)}"
                    )
                yield start, dict(zip(names, values, strict=True))
            elif not is_blank and values != ["sep=", ""]:
                names = [value.strip() for value in values]
                if duplicate := describe_duplicate(names):
                    raise ValueError(f"line {start} has {duplicate}")
            row_lines.clear()
    except csv.Error as error:
        first = reader.line_num - len(row_lines) + 1
        line = first + _find_open_quote(row_lines, delimiter)
        raise ValueError(
            f"line {line}: the quotation mark that opens here never closes, or more text "
            f"follows the one that closes it ({error}). Write quotation marks inside a field "
            'twice, or set quoting = "none" in task.toml'
        ) from None


def _collect_lines(file: Iterable[str], lines: list[str]) -> Iterator[str]:
    """Yield the lines of a file, and append each to `lines`."""
    for line in file:
        lines.append(line)
        yield line


def _check_quotes(values: Sequence[str], line: int, heading: bool) -> None:
    """Raise ValueError if fields are enclosed in quotation marks, as pandas writes them.

    That is so if an enclosed field has doubled marks inside, or if all headings are enclosed.
    """
    enclosed = [value[1:-1] for value in values if len(value) > 1 and value[0] == value[-1] == '"']
    doubled = [text for text in enclosed if '""' in text and '"' not in text.replace('""', "")]
    if doubled or (heading and enclosed and len(enclosed) == len(values)):
        raise ValueError(
            f"line {line} has a field that is enclosed in quotation marks. Set quoting = "
            '"minimal" in task.toml, or "none" if the marks belong to the text'
        )


def _quoting_hint(lines: Sequence[str], quoting: str, mode: str) -> str:
    if mode == "none" and not quoting and any('"' in line for line in lines):
        return '. If fields are enclosed in quotation marks, set quoting = "minimal" in task.toml'
    return ""


def _find_open_quote(lines: Sequence[str], delimiter: str) -> int:
    """Return which of a row's lines opens its last quoted field, from 0."""
    opening_line, inside, field_begins = 0, False, True
    text = "".join(lines)
    index, line = 0, 0
    while index < len(text):
        character = text[index]
        if inside:
            if character == '"' and text[index + 1 : index + 2] == '"':
                index += 1
            elif character == '"':
                inside = False
        elif character == '"' and field_begins:
            opening_line, inside = line, True
        field_begins = not inside and character in (delimiter, "\n", "\r")
        line += character == "\n" or (character == "\r" and text[index + 1 : index + 2] != "\n")
        index += 1
    return opening_line
