"""Files from third parties: which formats and sizes are allowed, and how archives are unpacked.

Only formats that hold data and no code are accepted: safetensors, ONNX, JSON and plain text. Never
pickles.
"""

import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import IO, Any

from harness.errors import FULL, SourceError

FORMATS = (".safetensors", ".onnx", ".onnx_data", ".data", ".json", ".txt", ".md")
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".npy", ".npz")
"""Formats that are pickles, or may hold them."""

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz")
UNREADABLE = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError),
    RuntimeError,  # an encrypted zip, or a compression that zipfile does not know
    *(ValueError, OverflowError),  # a name that holds NUL, invalid numbers
)
FILE_BYTES, UNPACKED_BYTES = 1 << 30, 2 << 30
MEMBERS = 1000
FOLDER_BYTES = 20 << 20
CHUNK = 1 << 20

Member = tuple[PurePosixPath, AbstractContextManager[IO[bytes]]]


def unpack(file: Path, out: Path) -> None:
    """Unpack an archive, or copy a single file, into a folder, and check the files.

    If the archive holds nothing but one folder, the content of that folder is unpacked.

    Raises:
        SourceError: a name leads out of the folder, or a file is not a regular file, has another
            format, or is too large.
    """
    if file.stat().st_size > FILE_BYTES:
        raise SourceError(
            f"{file}: {file.stat().st_size >> 20} MiB; at most {FILE_BYTES >> 20} MiB are allowed."
        )
    if file.name.endswith(ARCHIVES):
        try:
            _unpack_archive(file, out)
        except UNREADABLE as error:
            raise SourceError(f"{file}: not an archive that can be read ({error}).") from None
    else:
        _check_format(file, PurePosixPath(file.name))
        shutil.copyfile(file, out / file.name)
    check_folder(out)


def check_folder(folder: Path) -> None:
    """Check that a folder holds nothing but allowed files.

    Raises:
        SourceError: it holds a link, a file of another format, too many bytes, or an ONNX graph
            with weights outside of the folder.
    """
    total = 0
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise SourceError(f"{path}: a link or not a regular file. Put the file itself there.")
        if path.is_file():
            _check_format(path, PurePosixPath(path.name))
            total += path.stat().st_size
    if total > UNPACKED_BYTES:
        raise SourceError(
            f"{folder}: {total >> 20} MiB unpacked; at most {UNPACKED_BYTES >> 20} MiB are allowed."
        )
    for path in folder.rglob("*.onnx"):
        find_external_files(path)


def load_graph(path: Path) -> Any:
    """Return an ONNX graph without the weights that lie in other files.

    Raises:
        SourceError: the file is not an ONNX graph.
    """
    import onnx

    try:
        return onnx.load(path, load_external_data=False)
    except Exception as error:  # those of protobuf differ between versions
        raise SourceError(f"{path}: not an ONNX graph ({error}).") from None


def find_external_files(path: Path) -> list[Path]:
    """Return the files that hold weights of an ONNX graph, each once.

    Raises:
        SourceError: a name leads out of the folder of the graph, a file is missing, or `path` is
            not an ONNX graph.
    """
    model = load_graph(path)
    tensors = chain(*map(_find_tensors, (model.graph, *model.functions)))
    entries = chain(*(tensor.external_data for tensor in tensors))
    names = dict.fromkeys(entry.value for entry in entries if entry.key == "location")
    for name in names:
        inside = not PurePosixPath(name).is_absolute() and ".." not in PurePosixPath(name).parts
        if not inside or not (path.parent / name).is_file():
            raise SourceError(
                f"{path}: its external weights {name!r} are not a file beside it. Save the graph "
                "with its weights inside it, or beside it."
            )
    return [path.parent / name for name in names]


def find_dangerous_files(folder: Path) -> list[str]:
    """Return what a submission's folder must not hold, one sentence per fault.

    These are links that lead out of it, pickles, and more than 20 MiB of other files.
    """
    faults, total = [], 0
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
            faults.append(f"{name} is a link that leads out of the folder. Put the file there.")
        elif path.name.endswith(PICKLES):
            faults.append(
                f"{name} may hold a pickle, which runs code when it is loaded. Save it as "
                "safetensors, ONNX or JSON."
            )
        elif path.is_file():
            total += path.stat().st_size
    if total > FOLDER_BYTES:
        faults.append(
            f"{total >> 20} MiB of files; at most {FOLDER_BYTES >> 20} MiB are allowed in the "
            "repository. Put weights on the hub, and declare them in [model] weights."
        )
    return faults


def _unpack_archive(file: Path, out: Path) -> None:
    total = 0
    for count, (name, member) in enumerate(read_members(file)):
        if count == MEMBERS:
            raise SourceError(f"{file}: more than {MEMBERS} files.")
        if name.is_absolute() or ".." in name.parts or "\\" in str(name):
            raise SourceError(f"{file}: {str(name)!r} leads out of the archive's own folder.")
        _check_format(file, name)
        with member as source, _create_file(file, out / name) as sink:
            while chunk := source.read(CHUNK):
                total += len(chunk)
                if total > UNPACKED_BYTES:
                    raise SourceError(f"{file}: unpacks to more than {UNPACKED_BYTES >> 20} MiB.")
                sink.write(chunk)
    entries = list(out.iterdir())
    if len(entries) == 1 and entries[0].is_dir():
        moved = entries[0].rename(out / f".{entries[0].name}")
        for path in moved.iterdir():
            path.rename(out / path.name)
        moved.rmdir()


def _create_file(file: Path, target: Path) -> IO[bytes]:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        return target.open("xb")
    except OSError as error:
        if error.errno in FULL:
            raise
        raise SourceError(
            f"{file}: {target.name[:80]!r} cannot be unpacked ({error.strerror}). Pack it "
            "again, each file once and under a different name."
        ) from None


def read_members(file: Path) -> Generator[Member, None, None]:
    """Yield the name and content of each file of an archive.

    Args:
        file: a zip or tar file. It is closed with the generator.

    Raises:
        SourceError: a member is not a regular file.
    """
    if file.name.endswith(".zip"):
        with zipfile.ZipFile(file) as archive:
            for info in archive.infolist():
                kind = stat.S_IFMT(info.external_attr >> 16)
                if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise SourceError(f"{file}: {info.filename!r} is a link or not a regular file.")
                if not info.is_dir():
                    yield PurePosixPath(info.filename), archive.open(info)
        return
    with tarfile.open(file) as tar:
        for member in tar:
            if member.isdir():
                continue
            source: Any = tar.extractfile(member) if member.isreg() else None
            if source is None:
                raise SourceError(f"{file}: {member.name!r} is a link or not a regular file.")
            yield PurePosixPath(os.path.normpath(member.name)), source


def _check_format(file: Path, name: PurePosixPath) -> None:
    if not name.name.endswith(FORMATS) and name.name not in ("LICENSE", "README"):
        raise SourceError(
            f"{file}: {str(name)!r} has a format that is not allowed. Use safetensors, ONNX or "
            f"JSON ({', '.join(FORMATS)}); pickles are never loaded."
        )


def _find_tensors(graph: Any) -> Iterator[Any]:
    """Yield all tensors of a graph or function, and of the graphs inside its nodes."""
    yield from getattr(graph, "initializer", ())
    for sparse in getattr(graph, "sparse_initializer", ()):
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for inner in (attribute.g, *attribute.graphs):
                if inner.node or inner.initializer:
                    yield from _find_tensors(inner)
