"""Lines of text files in UTF-8; another encoding is an error with the command that converts it."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from harness.errors import SourceError

NOT_TEXT = re.compile("[\0\udc80-\udcff]")
"""A NUL, or a byte that is not UTF-8 (as `surrogateescape` decodes it)."""

HEAD_BYTES = 4096
"""Size of the part from which an encoding is guessed; a multiple of four."""

BYTE_ORDER_MARKS = {
    b"\xff\xfe\0\0": "UTF-32",
    b"\0\0\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
"""Marks of four bytes come first, since one of them begins with one of two bytes."""


def read_lines(path: Path) -> Iterator[str]:
    r"""Yield the lines of a file with their ends (`\n`, `\r\n` or `\r`), without a byte order mark.

    Raises:
        SourceError: a line is not UTF-8, or has a NUL.
    """
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        for number, line in enumerate(file, start=1):
            if NOT_TEXT.search(line):
                raise SourceError(f"{path}: line {number} {_describe_fault(path, line)}")
            yield line


def _describe_fault(path: Path, line: str) -> str:
    """Return what is wrong with a line that has a character of `NOT_TEXT`, and how to fix it."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    encoding = _guess_wide_encoding(head)
    if not encoding and "\0" in line:
        return "has a NUL byte: the file is damaged, or not text. Unpack it, or export it as text."
    if not encoding and NOT_TEXT.sub("", line).isascii():
        encoding = _match_encoding(line.encode(errors="surrogateescape"), ["WINDOWS-1252"])
    if not encoding:
        return "has a byte that is not UTF-8. Export the file as UTF-8."
    command = f"iconv -f {encoding} -t UTF-8 {shlex.quote(path.name)} > new{path.suffix}"
    return f"is not UTF-8, but perhaps {encoding}. Convert the file: {command}"


def _guess_wide_encoding(head: bytes) -> str:
    """Return which UTF-16 or UTF-32 the first bytes of a file are; '' if they are none."""
    for mark, encoding in BYTE_ORDER_MARKS.items():
        if head.startswith(mark):
            return encoding
    if head.count(0) < len(head) / 10:
        return ""
    return _match_encoding(
        head[: len(head) // 4 * 4], ["UTF-32LE", "UTF-32BE", "UTF-16LE", "UTF-16BE"]
    )


def _match_encoding(content: bytes, encodings: list[str]) -> str:
    """Return the first encoding in which bytes are printable text; '' if they are in none."""
    for encoding in encodings:
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        if all(character.isprintable() or character.isspace() for character in text):
            return encoding
    return ""
