"""Search for many short byte strings in large files, by a rolling hash (Karp & Rabin 1987), and the
forms in which a file may hold text: escaped, compressed, encoded.
"""

import base64
import bz2
import codecs
import io
import lzma
import re
import tarfile
import zipfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

BASE, MIX = 0x100000001B3, 0x9E3779B97F4A7C15
CHUNK = 1 << 22
MAX_DEPTH = 4
"""Levels of archives within archives that are opened."""

ESCAPE_LEVELS = 2
"""How often escapes are resolved, for JSON within JSON."""

MAX_FILE_BYTES, MAX_TOTAL_BYTES = 1 << 26, 1 << 28
"""Bytes of one unpacked file, and of all files unpacked from one, that are searched."""

ESCAPE = re.compile(rb'\\u([0-9a-fA-F]{4})|\\[nrtbf"\'\\/]|\\x([0-9a-fA-F]{2})')
BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{64,}={0,2}")
HEX = re.compile(rb"(?:[0-9a-fA-F]{2}){32,}")
LOWER = bytes.maketrans(bytes(range(65, 91)), bytes(range(97, 123)))
MARKS = bytes(code for code in range(128) if not chr(code).isalnum())
"""ASCII characters that are neither letters nor digits. NUL is one, so that UTF-16 and UTF-32
become ASCII."""


class ByteSearch:
    """Searches for byte strings of one length.

    Args:
        strings: the strings, each `length` bytes long.
        length: 8 or more.
    """

    def __init__(self, strings: Collection[bytes], length: int) -> None:
        self.strings, self.length = frozenset(strings), length
        self.hashed = 16 if length >= 16 else 8
        joined = np.frombuffer(b"".join(string[: self.hashed] for string in self.strings), np.uint8)
        heads = joined.reshape(-1, self.hashed)
        hashes = np.zeros(len(heads), np.uint64)
        for column in heads.T:  # Horner's rule: the same as `rolling_hashes` gives
            hashes = hashes * np.uint64(BASE) + column + np.uint64(1)
        self.hashes = np.unique(hashes)
        self.slots = np.zeros(1 << 22, bool)
        self.slots[_find_slots(self.hashes)] = True

    def find(self, content: bytes) -> set[bytes]:
        """Return the strings that occur in the content."""
        matches: set[bytes] = set()
        values = np.frombuffer(content, np.uint8)
        if not self.strings:
            return matches
        for start in range(0, max(0, len(values) - self.length + 1), CHUNK):
            hashes = rolling_hashes(values[start : start + CHUNK + self.hashed - 1], self.hashed)
            likely = np.flatnonzero(self.slots[_find_slots(hashes)])
            nearest = np.searchsorted(self.hashes, hashes[likely]).clip(max=len(self.hashes) - 1)
            likely = likely[self.hashes[nearest] == hashes[likely]]
            for place in (likely + start).tolist():
                piece = content[place : place + self.length]
                if piece in self.strings:
                    matches.add(piece)
        return matches


def rolling_hashes(values: NDArray[np.uint8], length: int) -> NDArray[np.uint64]:
    """Return the hash of every piece of `length` bytes.

    Args:
        values: uint8 [n].
        length: a power of two.

    Returns:
        uint64 [n - length + 1].
    """
    hashes = values.astype(np.uint64) + np.uint64(1)
    hashed = 1
    while hashed < length:
        factor = np.uint64(pow(BASE, hashed, 1 << 64))
        hashes = hashes[:-hashed] * factor + hashes[hashed:]
        hashed *= 2
    return hashes


def _find_slots(hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    return ((hashes * np.uint64(MIX)) >> np.uint64(42)).astype(np.int64)


def keep_letters(content: bytes) -> bytes:
    """Return only letters and digits, in lower case, and the bytes of non-ASCII characters."""
    return content.translate(LOWER, MARKS)


def find_views(
    content: bytes, depth: int = 0, unpacked: list[int] | None = None
) -> Iterator[bytes]:
    """Yield a file's content as it is, unescaped, and everything packed or encoded in it.

    Args:
        content: the content of a file.
        depth: levels of archives around it.
        unpacked: the sizes of what was unpacked so far, at all levels.
    """
    unpacked = [] if unpacked is None else unpacked
    yield content
    unescaped = content
    for _ in range(ESCAPE_LEVELS):
        if b"\\" in unescaped:
            unescaped = ESCAPE.sub(_unescape, unescaped)
            yield unescaped
    if depth < MAX_DEPTH:
        for inner in _unpack(content):
            unpacked.append(len(inner))
            if sum(unpacked) > MAX_TOTAL_BYTES:
                return
            yield from find_views(inner, depth + 1, unpacked)


def _unescape(match: re.Match[bytes]) -> bytes:
    code = match[1] or match[2]
    if match[0] == b"\\\\":
        return b"\\"
    return chr(int(code, 16)).encode(errors="ignore") if code else b" "


def _unpack(content: bytes) -> Iterator[bytes]:
    for magic, read in READERS.items():
        if content.startswith(magic):
            with suppress(Exception):  # a broken file raises whatever its reader raises
                yield from read(content)
    for mark, encoding in ENCODINGS.items():
        if content.startswith(mark):
            yield content.decode(encoding, "ignore").encode(errors="ignore")
            break
    if content[257:262] == b"ustar":
        with suppress(Exception), tarfile.open(fileobj=io.BytesIO(content)) as archive:
            for member in archive:
                if file := archive.extractfile(member) if member.isreg() else None:
                    yield file.read(MAX_FILE_BYTES)
    if runs := BASE64.findall(content):
        yield b"\n".join(map(_decode_base64, runs))
    if runs := HEX.findall(content):
        yield b"\n".join(bytes.fromhex(run.decode()) for run in runs)


def _decode_base64(run: bytes) -> bytes:
    """Decode base64 in either alphabet, as far as it is complete."""
    body = run.rstrip(b"=").replace(b"-", b"+").replace(b"_", b"/")
    return base64.b64decode(body[: len(body) - (len(body) % 4 == 1)] + b"==")


ENCODINGS = {
    **dict.fromkeys((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE), "utf-32"),
    **dict.fromkeys((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE), "utf-16"),
}
"""By byte order mark; the longer marks first."""


def _read_zip(content: bytes) -> Iterator[bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for info in archive.infolist():
            with archive.open(info) as file:
                yield file.read(MAX_FILE_BYTES)


def _read_zlib(content: bytes) -> Iterator[bytes]:
    """Read zlib and gzip."""
    yield zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(content, MAX_FILE_BYTES)


def _read_bz2(content: bytes) -> Iterator[bytes]:
    yield bz2.BZ2Decompressor().decompress(content, MAX_FILE_BYTES)


def _read_xz(content: bytes) -> Iterator[bytes]:
    yield lzma.LZMADecompressor().decompress(content, MAX_FILE_BYTES)


def _read_array(content: bytes) -> Iterator[bytes]:
    """Read strings of a NumPy array, and numbers that may be character codes."""
    values = np.load(io.BytesIO(content), allow_pickle=False)
    if values.dtype.kind == "U":
        yield "\n".join(values.ravel().tolist()).encode(errors="ignore")
    elif values.dtype.kind in "iuf" and 0 < values.size < CHUNK and _are_character_codes(values):
        yield "".join(map(chr, values.ravel().astype(int).tolist())).encode(errors="ignore")


def _are_character_codes(values: NDArray[Any]) -> bool:
    return bool(values.min() >= 0 and values.max() < 0x110000)


def _read_parquet(content: bytes) -> Iterator[bytes]:
    """Read the values of a Parquet file, which are compressed."""
    from pyarrow import parquet

    with parquet.ParquetFile(io.BytesIO(content)) as file:
        for batch in file.iter_batches(1024):
            yield "\n".join(
                str(value) for row in batch.to_pylist() for value in row.values()
            ).encode(errors="ignore")


READERS = {
    b"PK\x03\x04": _read_zip,
    b"\x1f\x8b": _read_zlib,
    b"\x78": _read_zlib,
    b"BZh": _read_bz2,
    b"\xfd7zXZ\x00": _read_xz,
    b"\x93NUMPY": _read_array,
    b"PAR1": _read_parquet,
}
"""By the first bytes of the files that they read."""
