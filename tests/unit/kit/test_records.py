"""Records that come back are added only if they are records."""

import gzip
import io
import shutil
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.kit import records as kit_records
from harness.kit.records import KIT_LIMITS, add_records, is_smoke_run
from harness.kit.start import write_archive
from tests.support.records import golden_records
from tests.support.systems import quiet


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """What a kit leaves."""
    golden_records(tmp_path / "there")
    write_archive(tmp_path / "there", tmp_path / "records.zip", quiet)
    return tmp_path / "records.zip"


def list_files(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_sessions_are_added_once(archive: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert add_records(archive, home) == ["s1", "s2"]
    assert list_files(home) == list_files(tmp_path / "there")
    assert add_records(archive, home) == [], "they are here already"
    assert not is_smoke_run(archive)


def test_archive_unpacked_by_hand_is_the_same(archive: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(archive) as file:
        file.extractall(tmp_path / "home")
    assert list_files(tmp_path / "home") == list_files(tmp_path / "there")


def test_other_session_of_the_same_name_is_not_overwritten(archive: Path, tmp_path: Path) -> None:
    add_records(archive, tmp_path / "home")
    path = next((tmp_path / "home").glob("s1/*/*/*.json"))
    path.write_text(path.read_text() + "\n")
    with pytest.raises(HarnessError, match=r"s1: differs from the session of this name"):
        add_records(archive, tmp_path / "home")


def read(folder: Path) -> tuple[str, bytes]:
    path = sorted(folder.glob("there/s1/*/offline/*.json"))[0]
    return str(path.relative_to(folder / "there")), path.read_bytes()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("s1/t/offline/../../../evil.json", b"{}", "is not SESSION/TASK/SCENARIO/SYSTEM.json"),
        ("/s1/t/offline/evil.json", b"{}", "is not SESSION/TASK/SCENARIO/SYSTEM.json"),
        ("s1/t/offline/.evil.json", b"{}", "is not SESSION/TASK/SCENARIO/SYSTEM.json"),
        ("s1/t/offline/run.py", b"", "is not SESSION/TASK/SCENARIO/SYSTEM.json"),
        ("evil.json", b"{}", "is not SESSION/TASK/SCENARIO/SYSTEM.json"),
        ("s1/t/offline/evil.json", b"{}", "records.zip: s1/t/offline/evil.json: schema None, but"),
        ("s1/t/offline/evil.json.gz", gzip.compress(b"{}"), "a side file without its record"),
        ("s3/sentiment/offline/minilm-l6.json", None, "is the record of another place"),
    ],
    ids=["above", "root", "hidden", "code", "top", "other JSON", "side file", "elsewhere"],
)
def test_anything_else_is_refused_and_nothing_is_added(
    archive: Path, tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr(name, read(tmp_path)[1] if content is None else content)
    with pytest.raises(HarnessError) as caught:
        add_records(archive, tmp_path / "home")
    assert message in str(caught.value)
    assert not (tmp_path / "home").exists()
    assert not list(tmp_path.parent.glob("evil.json"))


def test_side_file_must_be_one(archive: Path, tmp_path: Path) -> None:
    name, content = read(tmp_path)
    for side, message in ((b"no gzip", "not a side file"), (gzip.compress(b"0" * 99), "more than")):
        with zipfile.ZipFile(tmp_path / "bad.zip", "w") as file:
            file.writestr(name, content)
            file.writestr(f"{name}.gz", side)
        with pytest.MonkeyPatch.context() as patch:
            if side != b"no gzip":
                patch.setattr(kit_records, "FILE_BYTES", len(content))
                patch.setattr(kit_records.gzip, "open", lambda path: io.BytesIO(b"0" * 10**6))
            with pytest.raises(HarnessError, match=message):
                add_records(tmp_path / "bad.zip", tmp_path / "home")


def test_links_are_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "records.tar", "w") as file:
        link = tarfile.TarInfo("s1/t/offline/a.json")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        file.addfile(link)
    with pytest.raises(HarnessError, match="is a link or not a regular file"):
        add_records(tmp_path / "records.tar", tmp_path / "home")


def test_archive_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "records.zip"
    for content in (None, b"no archive"):
        if content:
            path.write_bytes(content)
        with pytest.raises(HarnessError, match="not an archive that can be read"):
            add_records(path, tmp_path / "home")
    with zipfile.ZipFile(path, "w"):
        pass
    with pytest.raises(HarnessError, match="holds no session"):
        add_records(path, tmp_path / "home")


def test_archive_that_is_too_large_is_refused(archive: Path, tmp_path: Path) -> None:
    for change, message in (
        ({"unpacked_bytes": 1000}, "unpacks to more than records need"),
        ({"files": 1}, "unpacks to more than records need"),
        ({"archive_bytes": 1000}, "larger than 0 MiB"),
    ):
        with pytest.raises(HarnessError, match=message):
            add_records(archive, tmp_path / "home", replace(KIT_LIMITS, **change))
    assert not (tmp_path / "home").exists()
    shutil.rmtree(tmp_path / "there")
