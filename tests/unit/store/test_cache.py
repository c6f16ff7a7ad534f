"""The cache: digests, atomic writes, locks."""

import errno
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pyarrow as pa
import pytest
from pyarrow import parquet
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from harness.errors import BuildError, HarnessError
from harness.store.cache import (
    cache_dir,
    create_folder_atomically,
    digest,
    hold_lock,
    write_atomically,
)


@contextmanager
def file_size_limit() -> Iterator[None]:
    """Refuse files of more than a MiB to this process, as a full disk does."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


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


SAVERS: dict[str, Callable[[Path], object]] = {
    "safetensors": lambda path: save_file({"a": np.zeros(1 << 20, np.float32)}, path),
    "numpy": lambda path: np.save(path, np.zeros(1 << 20, np.float32)),
    "archive": lambda path: np.savez(path, a=np.zeros(1 << 20, np.float32)),
    "tokenizers": lambda path: Tokenizer(WordLevel({str(i): i for i in range(99999)}, "0")).save(
        str(path)
    ),
    "pyarrow": lambda path: parquet.write_table(
        pa.table({"a": np.random.default_rng(0).random(1 << 18)}), path
    ),
    "onnx": lambda path: onnx.save(onnx.ModelProto(doc_string="x" * (1 << 21)), str(path)),
    "bytes": lambda path: path.write_bytes(bytes(1 << 21)),
    "copy of a file": lambda path: shutil.copyfile(Path("large", "file"), path),
    "copy": lambda path: shutil.copytree(Path("large"), path),
}


@pytest.mark.parametrize("saver", SAVERS)
def test_folder_that_is_too_large_is_named_whatever_writes_it(
    cache: Path, saver: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("large").mkdir()
    Path("large", "file").write_bytes(bytes(1 << 21))
    target = cache / "artifacts" / "key"
    with (
        file_size_limit(),
        pytest.raises(HarnessError) as raised,
        create_folder_atomically(target) as out,
    ):
        SAVERS[saver](out / "file.npz")
    assert str(raised.value).startswith(f"{target}: the ")
    assert "Free some space, or set WATTBENCH_CACHE" in str(raised.value)
    assert not target.exists()
    assert not list((cache / "tmp").iterdir())


def test_file_outside_the_cache_is_named_and_the_cache_is_not(cache: Path, tmp_path: Path) -> None:
    path = tmp_path / "results" / "index.html"
    write_atomically(path, b"old")
    with file_size_limit(), pytest.raises(HarnessError) as raised:
        write_atomically(path, bytes(1 << 21))
    assert str(raised.value) == (
        f"{path}: the file is larger than is allowed (ulimit -f). Free some space, or choose a "
        "path on another disk; what is finished is kept."
    )
    assert path.read_bytes() == b"old"
    assert [file.name for file in path.parent.iterdir()] == ["index.html"]


def test_full_disk_that_a_step_reports_as_its_own_failure_is_named(cache: Path) -> None:
    target = cache / "artifacts" / "key"
    with (
        pytest.raises(HarnessError, match=f"^{target}: the disk quota is used up"),
        create_folder_atomically(target),
    ):
        try:
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
        except OSError as error:
            raise BuildError("gpt2 cannot be exported") from error


def test_other_exceptions_pass(cache: Path) -> None:
    with pytest.raises(KeyError, match="x"), create_folder_atomically(cache / "artifacts" / "key"):
        raise KeyError("x")


def test_full_temporary_folder_is_named_instead_of_the_cache(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = {"/full": 0}
    usage = lambda path: SimpleNamespace(free=free.get(str(path), 10**9))  # noqa: E731
    monkeypatch.setattr(tempfile, "tempdir", "/full")
    monkeypatch.setattr(shutil, "disk_usage", usage)
    with (
        pytest.raises(HarnessError, match=r"^/full: the disk is full\. .* or set TMPDIR to"),
        create_folder_atomically(cache / "artifacts" / "key"),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_file_that_cannot_be_read_is_not_blamed_on_the_cache(cache: Path, tmp_path: Path) -> None:
    secret = tmp_path / "model" / "weights"
    with (
        pytest.raises(HarnessError) as raised,
        create_folder_atomically(cache / "artifacts" / "key"),
    ):
        raise PermissionError(errno.EACCES, "Permission denied", str(secret))
    assert str(raised.value).startswith(f"{secret}: Permission denied. Choose another path")


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
