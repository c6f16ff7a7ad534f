"""A store that machines share: whole folders or none, whatever happens to it."""

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from harness.errors import HarnessError
from harness.store import shared
from harness.store.cache import artifact_dir, cache_dir
from harness.store.shared import SharedStore

FILES = {"model.bin": b"weights" * 1000, "inner/tokenizer.json": b"{}", "artifact.json": b"[]"}


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """A bucket of an S3 server on this machine."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    environment = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "a",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        fsspec.filesystem("s3").mkdir("wattbench-test")
        yield "s3://wattbench-test/store"
    server.stop()


@pytest.fixture(params=["file", "memory", "s3"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "s3":
        return f"{request.getfixturevalue('s3')}/{tmp_path.name}"
    kind = request.param
    return f"file://{tmp_path}/store" if kind == "file" else f"memory://{tmp_path.name}"


@pytest.fixture
def store(address: str, cache: Path) -> SharedStore:
    return SharedStore(address)


def write_folder(folder: Path, files: dict[str, bytes] = FILES) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def read_folder(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def move_to_another_machine(folder: Path) -> None:
    """Leave nothing in the cache."""
    folder.rename(folder.with_name(f"{folder.name}-away"))


def list_stored(store: SharedStore, ending: str) -> list[str]:
    found = store._files.find(store._root)
    return [str(path) for path in found if str(path).endswith(ending)]


def test_a_folder_comes_back_as_it_was(store: SharedStore) -> None:
    folder = write_folder(artifact_dir("a" * 64))
    store.publish(folder)
    move_to_another_machine(folder)
    assert store.fetch(folder)
    assert read_folder(folder) == FILES
    assert not list((cache_dir() / "tmp").iterdir())


def test_a_program_can_still_be_run(store: SharedStore) -> None:
    folder = write_folder(artifact_dir("b" * 64))
    (folder / "model.bin").chmod(0o755)
    store.publish(folder)
    move_to_another_machine(folder)
    assert store.fetch(folder)
    assert os.access(folder / "model.bin", os.X_OK)
    assert not (folder / "artifact.json").stat().st_mode & 0o111


def test_what_is_not_there_is_not_fetched(store: SharedStore) -> None:
    assert not store.fetch(artifact_dir("b" * 64))
    assert not artifact_dir("b" * 64).exists()


@pytest.mark.parametrize("damage", ["truncated", "changed", "missing", "marker", "escaping"])
def test_a_damaged_folder_is_refused_and_can_be_made_again(
    store: SharedStore, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_folder(artifact_dir("c" * 64))
    store.publish(folder)
    (path,) = list_stored(store, "model.bin")
    (marker,) = list_stored(store, f"{'c' * 64}.json")
    if damage == "truncated":
        store._files.pipe_file(path, FILES["model.bin"][:-1])
    elif damage == "changed":
        store._files.pipe_file(path, FILES["model.bin"].upper())
    elif damage == "missing":
        store._files.rm_file(path)
    elif damage == "marker":
        store._files.pipe_file(marker, store._files.cat_file(marker)[:-5])
    else:
        content = json.loads(store._files.cat_file(marker))
        content["files"]["../escaped"] = content["files"].pop("model.bin")
        store._files.pipe_file(marker, json.dumps(content).encode())
    move_to_another_machine(folder)
    assert not store.fetch(folder)
    assert not folder.exists()
    assert "is damaged" in capsys.readouterr().err
    assert not (folder.parent / "escaped").exists()
    store.publish(write_folder(folder))
    move_to_another_machine(folder.rename(folder.with_name("again")))
    assert store.fetch(folder)
    assert read_folder(folder) == FILES


def test_an_upload_that_was_interrupted_is_not_visible(
    store: SharedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_folder(artifact_dir("d" * 64))

    def die(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(store._files, "pipe_file", die)
    with pytest.raises(KeyboardInterrupt):
        store.publish(folder)
    move_to_another_machine(folder)
    assert list_stored(store, "model.bin")
    assert not store.fetch(folder)


def test_two_builders_of_one_folder_never_mix_their_files(address: str, cache: Path) -> None:
    versions = [
        {name: data + b"%d" % number for name, data in FILES.items()} for number in range(4)
    ]
    folder = artifact_dir("e" * 64)
    sources = [
        write_folder(cache / f"builder-{n}" / folder.name, files)
        for n, files in enumerate(versions)
    ]

    def publish(source: Path) -> None:
        store = SharedStore(address)
        store._publish(source, f"artifacts/{folder.name}")

    threads = [threading.Thread(target=publish, args=(source,)) for source in sources]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert SharedStore(address).fetch(folder)
    assert read_folder(folder) in versions


def test_parts_of_a_folder_are_listed(store: SharedStore) -> None:
    parent = cache_dir() / "outputs" / "teacher"
    assert store.list_folders(parent) == []
    for name in ("one", "two"):
        store.publish(write_folder(parent / name))
    assert store.list_folders(parent) == [parent / "one", parent / "two"]


def test_it_is_known_what_another_machine_has_added_meanwhile(
    store: SharedStore, address: str
) -> None:
    one, two = artifact_dir("a" * 64), artifact_dir("b" * 64)
    store.publish(write_folder(one))
    assert not store.has(two)
    assert store.list_folders(one.parent) == [one]
    other = SharedStore(address)
    other._files, _ = fsspec.core.url_to_fs(address, skip_instance_cache=True)
    other.publish(write_folder(two))
    assert store.list_folders(one.parent) == [one, two]
    assert store.has(two)


def test_a_store_that_is_down_costs_one_warning(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "store").write_text("a file, where the store should be")
    store = SharedStore(f"file://{tmp_path}/store")
    folder = write_folder(artifact_dir("f" * 64))
    store.publish(folder)
    assert not store.fetch(artifact_dir("0" * 64))
    assert store.list_folders(cache_dir() / "outputs") == []
    error = capsys.readouterr().err
    assert error.count("going on without it") == 1
    assert error.count("\n") == 1


@pytest.mark.parametrize("address", ["nothing://bucket", "s4://bucket/x"])
def test_an_address_of_no_file_system_is_one_message(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(shared.VARIABLE, address)
    with pytest.raises(HarnessError, match=f"WATTBENCH_STORE={address}: .*Give an address such as"):
        shared.get_shared_store()


def test_without_an_address_there_is_no_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(shared.VARIABLE, raising=False)
    assert shared.get_shared_store() is None
    assert not shared.fetch_folder(Path("anywhere"))
