"""The archive of a kit: a zip that Python runs (`python3 kit.zip`), with the size of each part."""

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path

from harness.errors import HarnessError
from harness.store.cache import name_unwritable

REMEDIES = {
    "code": "Name fewer systems (--system)",
    "start weights": "Round them (--precision fp16)",
    "data": "Pack a part of the training data (--examples TASK=N), or fewer tasks",
    "packages": "Name what the other machine has (--target-packages)",
    "artifacts": "Let the other machine build them (leave --with-artifacts out)",
}
"""The parts of a kit, and how to make each smaller."""

MIB = 2**20


class KitArchive:
    """A kit that is being written.

    Args:
        path: the archive.

    Attributes:
        sizes: bytes of each part of `REMEDIES` in the archive.
    """

    def __init__(self, path: Path) -> None:
        self.sizes = dict.fromkeys(REMEDIES, 0)
        self._path = path
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}")
        with name_unwritable(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = zipfile.ZipFile(
                self._temporary, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False
            )

    def add_file(self, part: str, path: Path, name: str) -> None:
        """Add a file; a wheel, which is a zip, is not compressed again."""
        method = zipfile.ZIP_STORED if path.suffix == ".whl" else zipfile.ZIP_DEFLATED
        with name_unwritable(self._path):
            self._file.write(path, name, method)
        self.sizes[part] += self._file.getinfo(name).compress_size

    def add_folder(self, part: str, folder: Path, name: str) -> None:
        """Add all files below a folder, except bytecode."""
        for path in sorted(folder.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                self.add_file(part, path, f"{name}/{path.relative_to(folder)}")

    def add_text(self, part: str, text: str, name: str) -> None:
        """Add a file; an empty folder if its name ends in `/`."""
        with name_unwritable(self._path):
            self._file.writestr(name, text)
        self.sizes[part] += self._file.getinfo(name).compress_size

    def finish(self, max_mib: float = 0.0) -> int:
        """Put the archive where it belongs.

        Args:
            max_mib: the largest size that is allowed; 0 for no limit.

        Returns:
            Its size in bytes.

        Raises:
            HarnessError: it is larger, or the disk is full.
        """
        with name_unwritable(self._path):
            self._file.close()
            size = self._temporary.stat().st_size
            if max_mib and size > max_mib * MIB:
                raise HarnessError(describe_excess(self._path, size, max_mib, self.sizes))
            self._temporary.replace(self._path)
        return size

    def discard(self) -> None:
        """Remove what is not finished."""
        self._file.close()
        self._temporary.unlink(missing_ok=True)


def describe_excess(path: Path, size: int, max_mib: float, sizes: Mapping[str, int]) -> str:
    """Return that an archive is too large, which part is the largest, and how to shrink it."""
    part = max(sizes, key=sizes.__getitem__)
    return (
        f"{path}: {size / MIB:.1f} MiB, but --max-mib is {max_mib:g}. The largest part is "
        f"{part} ({sizes[part] / MIB:.1f} MiB). {REMEDIES[part]}, or raise --max-mib."
    )
