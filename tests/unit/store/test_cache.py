"""The cache: digests, atomic writes, locks."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.store.cache import (
    cache_dir,
    create_folder_atomically,
    digest,
    hold_lock,
    write_atomically,
)


def test_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})


def test_folder_appears_complete_or_not_at_all(cache: Path) -> None:
    target = cache / "artifacts" / "key"
    with pytest.raises(ValueError, match="half-way"), create_folder_atomically(target) as out:
        (out / "weights").write_text("half")
        raise ValueError("half-way")
    assert not target.exists()
    assert not list((cache / "tmp").iterdir())
    with create_folder_atomically(target) as out:
        assert not target.exists()
        (out / "weights").write_text("whole")
    assert (target / "weights").read_text() == "whole"


def test_full_disk_is_reported_with_a_remedy(cache: Path) -> None:
    with (
        pytest.raises(HarnessError, match=r"disk is full.*WATTBENCH_CACHE"),
        create_folder_atomically(cache / "artifacts" / "key"),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert not list((cache / "tmp").iterdir())


def test_cache_that_cannot_be_created_is_reported_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("WATTBENCH_CACHE", str(tmp_path / "file"))
    with pytest.raises(HarnessError, match="WATTBENCH_CACHE"), hold_lock("x"):
        pass


def test_cache_is_where_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("WATTBENCH_CACHE", "~/mine")
    assert cache_dir() == tmp_path / "mine"
    monkeypatch.delenv("WATTBENCH_CACHE")
    assert cache_dir() == tmp_path / "xdg" / "wattbench"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_dir() == tmp_path / ".cache" / "wattbench"


@pytest.mark.parametrize("folder", ["", "~/mine"])
def test_user_without_a_home_directory_is_told_what_to_set(
    monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WATTBENCH_CACHE", folder)
    monkeypatch.setattr("pwd.getpwuid", lambda uid: {}[uid])
    with pytest.raises(HarnessError, match=r"no home directory.*Set WATTBENCH_CACHE"):
        cache_dir()


def test_two_processes_never_hold_one_lock(cache: Path) -> None:
    script = (
        "import sys, time; from harness.store.cache import hold_lock\n"
        "with hold_lock('key'):\n"
        "    print('in', flush=True); time.sleep(0.2); print('out', flush=True)"
    )
    log = cache / "log"
    with log.open("w") as out:
        processes = [subprocess.Popen([sys.executable, "-c", script], stdout=out) for _ in range(2)]
        assert [process.wait(30) for process in processes] == [0, 0]
    assert log.read_text().split() == ["in", "out", "in", "out"]


def test_atomic_write_leaves_no_temporary_file(tmp_path: Path) -> None:
    write_atomically(tmp_path / "new" / "file", b"1")
    write_atomically(tmp_path / "new" / "file", b"2")
    assert [path.read_bytes() for path in (tmp_path / "new").iterdir()] == [b"2"]
