"""The records that come back from another machine, added to those that are here."""

import gzip
import shutil
import tempfile
import zlib
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from harness.errors import HarnessError, RecordError, SourceError
from harness.results.record import find_record_paths, read_record
from harness.store.cache import create_output_folder, folder_digest
from harness.store.untrusted import UNREADABLE, read_members

FILE_BYTES = 64 << 20
SIDE = ".json.gz"


@dataclass(frozen=True)
class Limits:
    """What an archive may hold at most.

    Attributes:
        archive_bytes: the size of the archive.
        unpacked_bytes: the sizes of all files in it.
        files: their number.
    """

    archive_bytes: int
    unpacked_bytes: int
    files: int


KIT_LIMITS = Limits(16 << 20, 256 << 20, 10_000)


def add_records(archive: Path, records: Path, limits: Limits = KIT_LIMITS) -> list[str]:
    """Unpack the sessions of an archive into a folder of records.

    Nothing is written if one of its files is not a record or the side file of one. A session that
    is here already is left as it is.

    Args:
        archive: a zip or tar file with the files of sessions, as they lie in a folder of records.
        records: the folder of the sessions.
        limits: what the archive may hold.

    Returns:
        The names of the sessions that are new here.

    Raises:
        HarnessError: the archive cannot be read, holds anything else, or has another session of
            the same name.
    """
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        _unpack(archive, scratch, limits)
        sessions = sorted(path for path in scratch.iterdir())
        if not sessions:
            raise SourceError(f"{archive}: holds no session. Name the archive that a kit wrote.")
        for session in sessions:
            _check_session(archive, session)
        new = []
        for session in sessions:
            target = records / session.name
            if not target.exists():
                new.append(session)
            elif folder_digest(target) != folder_digest(session):
                raise RecordError(
                    f"{target}: differs from the session of this name in {archive}. Move one of "
                    "them away."
                )
        for session in new:
            with create_output_folder(records / session.name) as out:
                shutil.copytree(session, out, dirs_exist_ok=True)
    return [session.name for session in new]


def is_smoke_run(archive: Path) -> bool:
    """Return whether the sessions of an archive are smoke runs; False if it cannot be read."""
    with tempfile.TemporaryDirectory() as temporary:
        try:
            _unpack(archive, Path(temporary), KIT_LIMITS)
            return any(read_record(path).smoke for path in find_record_paths(Path(temporary)))
        except HarnessError:
            return False


def _unpack(archive: Path, folder: Path, limits: Limits) -> None:
    """Write the files of an archive, which must have the names and sizes of records."""
    try:
        if archive.stat().st_size > limits.archive_bytes:
            raise SourceError(
                f"{archive}: larger than {limits.archive_bytes >> 20} MiB, which records are not."
            )
        total = 0
        with closing(read_members(archive)) as members:
            for count, (name, member) in enumerate(members):
                with member as source:
                    _check_name(archive, name)
                    content = source.read(FILE_BYTES + 1)
                total += len(content)
                is_large = len(content) > FILE_BYTES or total > limits.unpacked_bytes
                if is_large or count == limits.files:
                    raise SourceError(f"{archive}: unpacks to more than records need.")
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("xb") as file:
                    file.write(content)
    except FileExistsError:
        raise SourceError(f"{archive}: holds a file twice.") from None
    except (*UNREADABLE, OSError) as error:
        raise SourceError(f"{archive}: not an archive that can be read ({error}).") from None


def _check_name(archive: Path, name: PurePosixPath) -> None:
    is_record = name.name.endswith((".json", SIDE)) and len(name.parts) == 4
    if not is_record or not all(map(_is_plain, name.parts)):
        raise SourceError(
            f"{archive}: {str(name)!r} is not SESSION/TASK/SCENARIO/SYSTEM.json, as records are. "
            "Nothing was added."
        )


def _is_plain(part: str) -> bool:
    return part.isprintable() and not part.startswith(".") and not set(part) & {"/", "\\"}


def _check_session(archive: Path, session: Path) -> None:
    """Check that every file is the record that its path says, or the side file of one."""
    paths = sorted(path for path in session.rglob("*") if path.is_file())
    for path in paths:
        where = f"{archive}: {path.relative_to(session.parent)}"
        if path.name.endswith(SIDE):
            if path.with_name(path.name.removesuffix(".gz")) not in paths:
                raise SourceError(f"{where}: a side file without its record. Nothing was added.")
            _check_side_file(where, path)
            continue
        try:
            record = read_record(path)
        except RecordError as error:
            raise RecordError(str(error).replace(str(path), where)) from None
        if record.path(session.parent) != path:
            raise RecordError(f"{where}: is the record of another place. Nothing was added.")


def _check_side_file(where: str, path: Path) -> None:
    """Check that a compressed file is one, of a size that can be read."""
    try:
        with gzip.open(path) as file:
            size = len(file.read(FILE_BYTES + 1))
    except (OSError, EOFError, zlib.error) as error:
        raise SourceError(f"{where}: not a side file ({error}). Nothing was added.") from None
    if size > FILE_BYTES:
        raise SourceError(f"{where}: unpacks to more than a record needs. Nothing was added.")
