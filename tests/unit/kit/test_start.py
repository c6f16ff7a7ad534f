"""The program that a kit is, without a session that measures."""

import json
import os
import platform
import re
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

from harness.kit import start

PYTHON = ".".join(platform.python_version_tuple()[:2])

NODE = """
import json, os, pathlib, sys, time
folder, number = pathlib.Path(sys.argv[1]), int(sys.argv[2])
print("environment", os.environ["HOME"], os.environ["WATTBENCH_DATA"])
seconds, blocks = json.loads((folder / "sessions.json").read_text())[number]
session = folder / "results" / "records" / f"session-{number}-{time.monotonic_ns()}"
path = session / "mine" / "offline" / "null.json"
try:
    for block in range(1, blocks + 1):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"failure": None, "rounds": [{}] * block}))
    time.sleep(seconds)
except KeyboardInterrupt:
    sys.exit(130)
sys.exit(not blocks)
"""
"""Stands in for `harness.kit.node`: each session writes so many blocks and lasts so long."""


def write_kit(folder: Path, *sessions: tuple[float, int], **changes: Any) -> Path:
    """Write an archive whose sessions do nothing but last."""
    kit = {
        "python": PYTHON,
        "machine": platform.machine(),
        "requirements": [],
        "minutes": 5,
        "rounds": 3,
        "sessions": [{"task": f"task{n}", "configuration": "cpu-1"} for n in range(len(sessions))],
    }
    archive = folder / "kit.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.write(start.__file__, "__main__.py")
        file.writestr("kit.json", json.dumps(kit | changes))
        file.writestr("code/harness/__init__.py", "")
        file.writestr("code/harness/kit/__init__.py", "")
        file.writestr("code/harness/kit/node.py", NODE)
        file.writestr("sessions.json", json.dumps(sessions))
    return archive


def run(archive: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, archive.name, *options]
    return subprocess.run(command, cwd=archive.parent, capture_output=True, text=True, timeout=120)


def read_names(archive: Path) -> list[str]:
    with zipfile.ZipFile(archive) as file:
        return sorted(re.sub(r"(-\d{6,})?/.*", "", name) for name in file.namelist())


def test_all_sessions_are_measured_and_archived(tmp_path: Path) -> None:
    done = run(write_kit(tmp_path, (0, 3), (0, 3)))
    assert done.returncode == 0, done.stderr
    assert "kit: measured  task0 under cpu-1: 3 of 3 blocks\n" in done.stdout
    assert "At home: wattbench add records.zip" in done.stdout
    assert read_names(tmp_path / "kit" / "records.zip") == ["session-0", "session-1"]
    assert f"environment {tmp_path}/kit/home {tmp_path}/kit/data" in done.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"kit.zip", "kit"}, "nothing outside"


def test_what_does_not_fit_into_the_time_is_left_off_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start, "LEAST_SECONDS", 0.5)
    monkeypatch.setattr(start, "END_SECONDS", 1.0)
    archive = write_kit(tmp_path, (0, 3), (60, 1), (0, 3))
    folder = start.unpack(archive)
    kit = json.loads((folder / "kit.json").read_text())
    out = tmp_path / "out" / "all.zip"
    began = time.monotonic()
    assert start.run_sessions(kit, folder, began + 4, out) == 1
    assert time.monotonic() - began < 30
    assert read_names(out) == ["session-0", "session-1"], "of the second one, its whole blocks"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_run_leaves_what_was_measured(tmp_path: Path, number: signal.Signals) -> None:
    archive = write_kit(tmp_path, (0, 3), (60, 0), (0, 3))
    records = tmp_path / "kit" / "records.zip"
    with subprocess.Popen(
        [sys.executable, str(archive)], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        while not records.exists():
            time.sleep(0.05)
        os.kill(process.pid, number)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "left off  task1 under cpu-1: interrupted" in out
    assert "left off  task2 under cpu-1: interrupted" in out
    assert read_names(records) == ["session-0"]


def test_nothing_measured_is_status_2(tmp_path: Path) -> None:
    done = run(write_kit(tmp_path, (0, 0)))
    assert done.returncode == 2
    assert "left off  task0 under cpu-1: it failed, see above" in done.stdout


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"python": "3.1"}, f"this is Python {PYTHON}, and the kit is for 3.1. Start it with"),
        ({"machine": "vax"}, "and the kit is for vax. Pack it again with --target-machine"),
        ({"requirements": ["nowhere>=1"]}, "nowhere is missing. Pack the kit again with --target"),
        ({"requirements": ["pip>=1000"]}, "not >=1000. Pack the kit again"),
    ],
)
def test_machine_that_does_not_fit_is_one_message(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    done = run(write_kit(tmp_path, (0, 3), **changes))
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_unpacked_kit_is_kept_and_another_folder_is_not_touched(tmp_path: Path) -> None:
    archive = write_kit(tmp_path, (0, 3))
    folder = start.unpack(archive)
    (folder / "built").touch()
    assert start.unpack(archive) == folder
    assert (folder / "built").exists()
    assert run(archive).returncode == 0
    command = [sys.executable, str(folder)]
    assert subprocess.run(command, capture_output=True).returncode == 0, "also as a folder"
    (folder / "kit.json").write_text("{}")
    with pytest.raises(start.KitError, match=r"exists and is not of this kit. Move it away"):
        start.unpack(archive)


def test_wheels_are_unpacked_into_the_kit(tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    with zipfile.ZipFile(tmp_path / "wheels" / "a-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("alpha/__init__.py", "")
        wheel.writestr("a-1.data/purelib/beta.py", "")
        wheel.writestr("a-1.dist-info/METADATA", "Name: a\n")
    path = list(sys.path)
    try:
        start.install(tmp_path)
        assert sys.path[:2] == [str(tmp_path / "code"), str(tmp_path / "packages")]
    finally:
        sys.path[:] = path
    assert (tmp_path / "packages" / "alpha" / "__init__.py").is_file()
    assert (tmp_path / "packages" / "beta.py").is_file()


def test_archive_stays_below_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "MAX_BYTES", 5000)
    for name, size in (("a", 3000), ("b", 9000), ("c", 1000)):
        path = tmp_path / "records" / name / "mine" / "offline" / "null.json.gz"
        path.parent.mkdir(parents=True)
        path.write_bytes(os.urandom(size))
        (path.parents[2] / ".running").touch()
    lines: list[str] = []
    out = tmp_path / "records.zip"
    start.write_archive(tmp_path / "records", out, lines.append)
    assert out.stat().st_size < 5000
    assert read_names(out) == ["a", "c"]
    assert lines == ["left off  session b: the archive would be too large"]
