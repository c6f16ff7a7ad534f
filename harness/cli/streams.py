"""Standard streams that are closed, full or limited to ASCII: no command ends with a traceback."""

import codecs
import errno
import io
import os
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from typing_extensions import Buffer

ASCII_SPELLINGS = {
    "±": "+-",
    "→": "->",
    "×": "x",
    "µ": "u",
    "²": "2",
    "…": "...",
    "–": "-",
    "—": "-",
    "•": "*",
}
"""What is written for a character that the terminal does not know; `?` for all others."""


class OutputError(OSError):
    """Standard output cannot be written: the disk is full, or nobody reads it any more."""


class _Stream(io.FileIO):
    """A standard stream, whose errors can be told from those of other files."""

    def write(self, data: "Buffer", /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if self.fileno() == 2:  # there is no other place to say so
                return memoryview(data).nbytes
            raise OutputError(error.errno, error.strerror) from error


def prepare_streams() -> None:
    """Open closed standard streams on the null device; make the others write any character."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # closed: the next file that is opened would take its place
            os.open(os.devnull, os.O_RDWR)
    codecs.register_error("ascii-spelling", _spell)
    if sys.stdin is None:
        sys.stdin = os.fdopen(0)
    if sys.stdout in (None, sys.__stdout__):  # not one that a test has put there
        sys.stdout = _open_stream(1, sys.stdout)
    if sys.stderr in (None, sys.__stderr__):
        sys.stderr = _open_stream(2, sys.stderr)


def flush_stdout() -> int:
    """Write what is still in memory.

    Returns:
        The exit status, as of `report_write_error`.
    """
    try:
        sys.stdout.flush()
    except OutputError as error:
        return report_write_error(error)
    return 0


def report_write_error(error: OutputError) -> int:
    """Discard the rest of the output, and say why; nothing is said if its reader has left.

    Returns:
        The exit status: 0 if the reader has left, otherwise 2.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if error.errno == errno.EPIPE:
        return 0
    print(f"wattbench: the output cannot be written: {error.strerror}.", file=sys.stderr)
    return 2


def _open_stream(number: int, stream: TextIO | None) -> TextIO:
    if stream:
        stream.flush()
    file = _Stream(number, "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(file),
        encoding=stream.encoding if stream else None,
        errors="ascii-spelling",
        line_buffering=number == 2 or file.isatty(),
    )


def _spell(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(ASCII_SPELLINGS.get(character, "?") for character in text), error.end
