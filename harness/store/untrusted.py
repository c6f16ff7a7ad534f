"""Files that others send: what may be in them, how much, and how an archive is opened.

Only formats that hold data and no code are taken: safetensors, ONNX, JSON and plain text. Never
pickles.
"""

import errno
import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import IO, Any

from harness.errors import SourceError

FORMATS = (".safetensors", ".onnx", ".onnx_data", ".data", ".json", ".txt", ".md")
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".npy", ".npz")
"""Formats that are pickles, or may hold them."""

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz")
UNREADABLE = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError),
    RuntimeError,  # an encrypted zip, or a compression that zipfile does not know
    *(ValueError, OverflowError),  # a name that holds NUL, numbers that are none
)
FILE_BYTES, UNPACKED_BYTES = 1 << 30, 2 << 30
MEMBERS = 1000
FOLDER_BYTES = 20 << 20
CHUNK = 1 << 20

Member = tuple[PurePosixPath, AbstractContextManager[IO[bytes]]]


def place(file: Path, out: Path) -> None:
    """Put the files of an archive, or a single file, into a folder, checked.

    Where an archive holds but one folder, what is in that.
    Raises: SourceError if a name would lead outside, something is no regular file, of another
    format, or too large.
    """
    if file.stat().st_size > FILE_BYTES:
        raise SourceError(
            f"{file}: {file.stat().st_size >> 20} MiB; at most {FILE_BYTES >> 20} may be."
        )
    if file.name.endswith(ARCHIVES):
        try:
            _unpack(file, out)
        except UNREADABLE as error:
            raise SourceError(f"{file}: not an archive that can be read ({error}).") from None
    else:
        _known(file, PurePosixPath(file.name))
        shutil.copyfile(file, out / file.name)
    check(out)


def check(folder: Path) -> None:
    """Raises: SourceError if the folder holds a link, another format, too much, or an ONNX graph
    whose weights lie outside.
    """
    total = 0
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise SourceError(f"{path}: a link or no regular file. Put the file itself there.")
        if path.is_file():
            _known(path, PurePosixPath(path.name))
            total += path.stat().st_size
    if total > UNPACKED_BYTES:
        raise SourceError(
            f"{folder}: {total >> 20} MiB; at most {UNPACKED_BYTES >> 20} may be unpacked."
        )
    for path in folder.rglob("*.onnx"):
        check_graph(path)


def check_graph(path: Path) -> None:
    """Raises: SourceError if the file is no ONNX graph, or its external data are not files beside
    it.
    """
    import onnx

    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's own, which differ from version to version
        raise SourceError(f"{path}: not an ONNX graph ({error}).") from None
    for tensor in chain(*map(_tensors, (model.graph, *model.functions))):
        for entry in tensor.external_data:
            if entry.key != "location":
                continue
            target = path.parent / entry.value
            inside = target.resolve().is_relative_to(path.parent.resolve())
            if not inside or target.is_symlink() or not target.is_file():
                raise SourceError(
                    f"{path}: its weights are said to lie in {entry.value!r}, which is no file "
                    "beside it. Save the graph with its weights in it, or beside it."
                )


def dangerous(folder: Path) -> list[str]:
    """What a submission's folder may not hold, as sentences: links that lead out, pickles, and more
    than 20 MiB beside its declared weights.
    """
    found, total = [], 0
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
            found.append(f"{name} is a link that leads out of the folder. Put the file there.")
        elif path.name.endswith(PICKLES):
            found.append(
                f"{name} may hold a pickle, which runs code when it is loaded. Save it as "
                "safetensors, ONNX or JSON."
            )
        elif path.is_file():
            total += path.stat().st_size
    if total > FOLDER_BYTES:
        found.append(
            f"{total >> 20} MiB of files; at most {FOLDER_BYTES >> 20} may be in the repository. "
            "Put weights on the hub, and name them in [model] weights."
        )
    return found


def _unpack(file: Path, out: Path) -> None:
    total = 0
    for count, (name, opened) in enumerate(_members(file)):
        if count == MEMBERS:
            raise SourceError(f"{file}: more than {MEMBERS} files.")
        if name.is_absolute() or ".." in name.parts or "\\" in str(name):
            raise SourceError(f"{file}: {str(name)!r} leads out of the archive's own folder.")
        _known(file, name)
        with opened as source, _created(file, out / name) as sink:
            while chunk := source.read(CHUNK):
                total += len(chunk)
                if total > UNPACKED_BYTES:
                    raise SourceError(f"{file}: unpacks to more than {UNPACKED_BYTES >> 20} MiB.")
                sink.write(chunk)
    inner = list(out.iterdir())
    if len(inner) == 1 and inner[0].is_dir():
        moved = inner[0].rename(out / f".{inner[0].name}")
        for path in moved.iterdir():
            path.rename(out / path.name)
        moved.rmdir()


def _created(file: Path, target: Path) -> IO[bytes]:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        return target.open("xb")
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise
        raise SourceError(
            f"{file}: {target.name[:80]!r} cannot be unpacked ({error.strerror}). Pack it anew, "
            "each file once and under a name of its own."
        ) from None


def _members(file: Path) -> Iterator[Member]:
    """Name and content of each file. Raises: SourceError at one that is no regular file."""
    if file.name.endswith(".zip"):
        with zipfile.ZipFile(file) as archive:
            for info in archive.infolist():
                kind = stat.S_IFMT(info.external_attr >> 16)
                if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise SourceError(f"{file}: {info.filename!r} is a link or no regular file.")
                if not info.is_dir():
                    yield PurePosixPath(info.filename), archive.open(info)
        return
    with tarfile.open(file) as tar:
        for member in tar:
            if member.isdir():
                continue
            source: Any = tar.extractfile(member) if member.isreg() else None
            if source is None:
                raise SourceError(f"{file}: {member.name!r} is a link or no regular file.")
            yield PurePosixPath(os.path.normpath(member.name)), source


def _known(file: Path, name: PurePosixPath) -> None:
    if not name.name.endswith(FORMATS) and name.name not in ("LICENSE", "README"):
        raise SourceError(
            f"{file}: {str(name)!r} is of a format that is not taken. Use safetensors, ONNX or "
            f"JSON ({', '.join(FORMATS)}); pickles are never loaded."
        )


def _tensors(graph: Any) -> Iterator[Any]:
    """All tensors of a graph, or of a function, and of the graphs inside its nodes."""
    yield from getattr(graph, "initializer", ())
    for sparse in getattr(graph, "sparse_initializer", ()):
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for inner in (attribute.g, *attribute.graphs):
                if inner.node or inner.initializer:
                    yield from _tensors(inner)
