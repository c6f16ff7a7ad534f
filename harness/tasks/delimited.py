"""CSV and TSV files: fields, and whether quotation marks enclose them."""

import csv
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

QUOTING: dict[str, Literal[0, 3]] = {"none": csv.QUOTE_NONE, "minimal": csv.QUOTE_MINIMAL}
"""Of `.csv` and `.tsv`: whether a quotation mark is an ordinary letter, or encloses a field."""


def repeated(names: Sequence[str]) -> str:
    """Which fields have one name, for the message; empty if none have."""
    for name, count in Counter(names).items():
        if count > 1 and name.strip():
            places = [str(at) for at, each in enumerate(names, start=1) if each == name]
            return f"fields {' and '.join(places)} both called {name!r}; rename one of them"
    return ""


def delimited_rows(path: Path, quoting: str) -> Iterator[tuple[int, Any]]:
    """Rows of a CSV or TSV file; blank lines are skipped.

    Args:
        path: the file; its suffix says what separates fields.
        quoting: one of `QUOTING`; '' for the usual one of the format: `minimal` for CSV, `none` for
            TSV, where a field that looks quoted is a fault.

    Yields:
        The line at which a row begins, and the row.

    Raises:
        ValueError: a row has another number of fields, two fields of one name, or quotation marks
            that do not fit.
    """
    csv.field_size_limit(sys.maxsize)
    comma = "," if path.suffix == ".csv" else "\t"
    mode = quoting or ("minimal" if path.suffix == ".csv" else "none")
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines: list[str] = []  # of the row that is being read
        reader = csv.reader(_kept(file, lines), delimiter=comma, strict=True, quoting=QUOTING[mode])
        names: list[str] = []
        start = 1
        try:
            for values in reader:
                start = reader.line_num - len(lines) + 1
                if mode == "none" and not quoting:
                    _check_quotes(values, start, head=not names)
                if len(values) > 1 or any(each.strip() for each in values):
                    if not names:
                        names = values
                        if twice := repeated(names):
                            raise ValueError(f"line {start} has {twice}")
                    elif len(values) != len(names):
                        raise ValueError(
                            f"line {start} has {len(values)} fields, but the first has "
                            f"{len(names)}{_quoted_hint(lines, quoting, mode)}"
                        )
                    else:
                        yield start, dict(zip(names, values, strict=True))
                lines.clear()
        except csv.Error as error:
            first = reader.line_num - len(lines) + 1
            opened = first + _last_opened(lines, comma)
            raise ValueError(
                f"line {opened}: the quotation mark that opens here never closes, or more follows "
                f"where it does ({error}). Write quotation marks inside a field twice, or set "
                'quoting = "none" in task.toml'
            ) from None


def _kept(file: Iterable[str], lines: list[str]) -> Iterator[str]:
    """The lines of a file, each also appended to `lines`."""
    for line in file:
        lines.append(line)
        yield line


def _check_quotes(values: Sequence[str], line: int, head: bool) -> None:
    """Raises: ValueError if fields are enclosed in quotation marks, as pandas writes them: one with
    doubled ones inside, or all of the first line.
    """
    inner = [each[1:-1] for each in values if len(each) > 1 and each[0] == each[-1] == '"']
    doubled = [each for each in inner if '""' in each and '"' not in each.replace('""', "")]
    if doubled or (head and inner and len(inner) == len(values)):
        raise ValueError(
            f"line {line} has a field that is enclosed in quotation marks. Set quoting = "
            '"minimal" in task.toml, or "none" if the marks belong to the text'
        )


def _quoted_hint(lines: Sequence[str], quoting: str, mode: str) -> str:
    if mode == "none" and not quoting and any('"' in each for each in lines):
        return '. If fields are enclosed in quotation marks, set quoting = "minimal" in task.toml'
    return ""


def _last_opened(lines: Sequence[str], comma: str) -> int:
    """Which of a row's lines opens its last quoted field, from 0."""
    opened, inside, begins = 0, False, True
    text = "".join(lines)
    at, line = 0, 0
    while at < len(text):
        letter = text[at]
        if inside:
            if letter == '"' and text[at + 1 : at + 2] == '"':
                at += 1
            elif letter == '"':
                inside = False
        elif letter == '"' and begins:
            opened, inside = line, True
        begins = not inside and letter in (comma, "\n", "\r")
        line += letter == "\n"
        at += 1
    return opened
