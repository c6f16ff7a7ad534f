"""Many short byte strings looked for in large files at once, by a rolling hash (Rabin & Karp 1987),
and the forms in which a file may hold text: escaped, packed, encoded.
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
DEPTH = 4
"""Archives in archives that are opened."""

ESCAPED = 2
"""Times that escapes are resolved: JSON in JSON."""

MOST_BYTES, WHOLE_BYTES = 1 << 26, 1 << 28
"""Of one unpacked file, and of all that is unpacked of one; what is behind it is not looked at."""

ESCAPE = re.compile(rb'\\u([0-9a-fA-F]{4})|\\[nrtbf"\'\\/]|\\x([0-9a-fA-F]{2})')
BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{64,}={0,2}")
HEX = re.compile(rb"(?:[0-9a-fA-F]{2}){32,}")
LOWER = bytes.maketrans(bytes(range(65, 91)), bytes(range(97, 123)))
MARKS = bytes(code for code in range(128) if not chr(code).isalnum())
"""ASCII that is neither a letter nor a digit, NUL among it: so UTF-16 and UTF-32 become ASCII."""


class Targets:
    """Byte strings of one length.

    Args:
        strings: what is looked for, each `window` bytes long.
        window: 8 or more.
    """

    def __init__(self, strings: Collection[bytes], window: int) -> None:
        self.strings, self.window = frozenset(strings), window
        self.hashed = 16 if window >= 16 else 8
        joined = np.frombuffer(b"".join(each[: self.hashed] for each in self.strings), np.uint8)
        heads = joined.reshape(-1, self.hashed)
        hashes = np.zeros(len(heads), np.uint64)
        for column in heads.T:  # Horner's rule: what `rolling` gives for each
            hashes = hashes * np.uint64(BASE) + column + np.uint64(1)
        self.hashes = np.unique(hashes)
        self.slots = np.zeros(1 << 22, bool)
        self.slots[_slot(self.hashes)] = True

    def found(self, content: bytes) -> set[bytes]:
        """Those that the content holds, at any place."""
        there: set[bytes] = set()
        values = np.frombuffer(content, np.uint8)
        if not self.strings:
            return there
        for start in range(0, max(0, len(values) - self.window + 1), CHUNK):
            hashes = rolling(values[start : start + CHUNK + self.hashed - 1], self.hashed)
            likely = np.flatnonzero(self.slots[_slot(hashes)])
            nearest = np.searchsorted(self.hashes, hashes[likely]).clip(max=len(self.hashes) - 1)
            likely = likely[self.hashes[nearest] == hashes[likely]]
            for place in (likely + start).tolist():
                piece = content[place : place + self.window]
                if piece in self.strings:
                    there.add(piece)
        return there


def rolling(values: NDArray[np.uint8], length: int) -> NDArray[np.uint64]:
    """The hash of every piece of `length` bytes, a power of two."""
    hashes = values.astype(np.uint64) + np.uint64(1)
    done = 1
    while done < length:
        factor = np.uint64(pow(BASE, done, 1 << 64))
        hashes = hashes[:-done] * factor + hashes[done:]
        done *= 2
    return hashes


def _slot(hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    return ((hashes * np.uint64(MIX)) >> np.uint64(42)).astype(np.int64)


def plain(content: bytes) -> bytes:
    """Letters and digits alone, in lower case; of what is not ASCII the bytes."""
    return content.translate(LOWER, MARKS)


def views(content: bytes, depth: int = 0, unpacked: list[int] | None = None) -> Iterator[bytes]:
    """The content; without escapes; and what is packed, encoded or kept as an array in it.

    unpacked: bytes so far, of all depths.
    """
    unpacked = [] if unpacked is None else unpacked
    yield content
    unescaped = content
    for _ in range(ESCAPED):
        if b"\\" in unescaped:
            unescaped = ESCAPE.sub(_unescaped, unescaped)
            yield unescaped
    if depth < DEPTH:
        for inner in _inside(content):
            unpacked.append(len(inner))
            if sum(unpacked) > WHOLE_BYTES:
                return
            yield from views(inner, depth + 1, unpacked)


def _unescaped(found: re.Match[bytes]) -> bytes:
    code = found[1] or found[2]
    if found[0] == b"\\\\":
        return b"\\"
    return chr(int(code, 16)).encode(errors="ignore") if code else b" "


def _inside(content: bytes) -> Iterator[bytes]:
    for magic, opened in OPENERS.items():
        if content.startswith(magic):
            with suppress(Exception):  # whatever a broken file makes of its reader
                yield from opened(content)
    for mark, encoding in ENCODINGS.items():
        if content.startswith(mark):
            yield content.decode(encoding, "ignore").encode(errors="ignore")
            break
    if content[257:262] == b"ustar":
        with suppress(Exception), tarfile.open(fileobj=io.BytesIO(content)) as archive:
            for member in archive:
                if file := archive.extractfile(member) if member.isreg() else None:
                    yield file.read(MOST_BYTES)
    if runs := BASE64.findall(content):
        yield b"\n".join(map(_decoded, runs))
    if runs := HEX.findall(content):
        yield b"\n".join(bytes.fromhex(run.decode()) for run in runs)


def _decoded(run: bytes) -> bytes:
    """Of base64, with either alphabet, as much as is whole."""
    body = run.rstrip(b"=").replace(b"-", b"+").replace(b"_", b"/")
    return base64.b64decode(body[: len(body) - (len(body) % 4 == 1)] + b"==")


ENCODINGS = {
    **dict.fromkeys((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE), "utf-32"),
    **dict.fromkeys((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE), "utf-16"),
}
"""By their byte order marks; the longer ones first."""


def _zip(content: bytes) -> Iterator[bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for info in archive.infolist():
            with archive.open(info) as file:
                yield file.read(MOST_BYTES)


def _zlib(content: bytes) -> Iterator[bytes]:
    """Also gzip."""
    yield zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(content, MOST_BYTES)


def _bz2(content: bytes) -> Iterator[bytes]:
    yield bz2.BZ2Decompressor().decompress(content, MOST_BYTES)


def _xz(content: bytes) -> Iterator[bytes]:
    yield lzma.LZMADecompressor().decompress(content, MOST_BYTES)


def _array(content: bytes) -> Iterator[bytes]:
    """Strings of a NumPy array, and numbers that may be codes of letters."""
    values = np.load(io.BytesIO(content), allow_pickle=False)
    if values.dtype.kind == "U":
        yield "\n".join(values.ravel().tolist()).encode(errors="ignore")
    elif values.dtype.kind in "iuf" and 0 < values.size < CHUNK and _are_letters(values):
        yield "".join(map(chr, values.ravel().astype(int).tolist())).encode(errors="ignore")


def _are_letters(values: NDArray[Any]) -> bool:
    return bool(values.min() >= 0 and values.max() < 0x110000)


def _parquet(content: bytes) -> Iterator[bytes]:
    """Its columns of strings, which are compressed."""
    from pyarrow import parquet

    with parquet.ParquetFile(io.BytesIO(content)) as file:
        for batch in file.iter_batches(1024):
            yield "\n".join(str(each) for row in batch.to_pylist() for each in row.values()).encode(
                errors="ignore"
            )


OPENERS = {
    b"PK\x03\x04": _zip,
    b"\x1f\x8b": _zlib,
    b"\x78": _zlib,
    b"BZh": _bz2,
    b"\xfd7zXZ\x00": _xz,
    b"\x93NUMPY": _array,
    b"PAR1": _parquet,
}
"""By the first bytes of what they open."""
