"""Workers that go wrong, and drivers that are killed: neither takes more than its own with it."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from harness import record
from harness.build import build
from harness.cli import main
from harness.configuration import choose
from harness.manifest import find_systems, read_system
from harness.measure import interrupted, isolation, protocol, scenarios
from harness.tasks.task import task
from tests.examples import example, measured


@pytest.fixture(autouse=True)
def short_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenarios, "WINDOW_SECONDS", 0.2)
    monkeypatch.setattr(scenarios, "PLENTY_SECONDS", 0.1)


MODULES = {
    "dies at load": ("def load(self, *_): raise RuntimeError('no weights')", "RuntimeError: no w"),
    "never gets ready": ("def load(self, *_): time.sleep(60)", "gave no answer for 2 seconds"),
    "hangs": ("def predict(self, examples): time.sleep(60)", "gave no answer for 2 seconds"),
    "dies half-way": (
        "def predict(self, examples):\n    self.n = getattr(self, 'n', 0) + len(examples)\n"
        "    if self.n > 300: os.kill(os.getpid(), 9)\n    return [0] * len(examples)",
        "SIGKILL",
    ),
    "answers too few": (
        "def predict(self, examples): return [0]",
        r"gave 1 answers to \d+ examples",
    ),
    "answers no number": ("def predict(self, examples): return ['0'] * len(examples)", "'0'"),
    "answers floats": ("def predict(self, examples): return [0.0] * len(examples)", r"0\.0; an"),
    "answers out of range": ("def predict(self, examples): return [2] * len(examples)", r"2; an"),
    "takes too much memory": (
        "def predict(self, examples):\n    self.held = [b'x' * 10_000_000 for _ in iter(int, 1)]",
        r"used \d+ MB, but the configuration allows 0\.5 GiB",
    ),
    "floods stderr": (
        "def predict(self, examples):\n"
        "    for _ in range(100): sys.stderr.write('x' * 1_000_000 + chr(10))\n"
        "    print('the last line', file=sys.stderr, flush=True)\n"
        "    return [0] * len(examples)",
        "MiB to stderr",
    ),
    "cannot be imported": ("syntax error", "SyntaxError"),
}
"""Bodies of a class, and the reason that must stand in the record."""


def test_each_fault_ends_its_own_row_alone(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "LOAD_SECONDS", 2.0)
    monkeypatch.setattr(scenarios, "QUERY_SECONDS", 2.0)
    small = choose("cpu-1")
    object.__setattr__(small, "memory_gb", 0.5)
    monkeypatch.setattr("tests.examples.choose", lambda name: small)
    names = {}
    for number, (fault, (body, _)) in enumerate(MODULES.items()):
        folder = example(project, as_=f"fault-{number}")
        text = "import os, sys, time\nclass Faulty:\n    def load(self, *_): pass\n"
        text += "    def predict(self, examples): return [0] * len(examples)\n    "
        (folder / "model.py").write_text(text + body.replace("\n", "\n    ") + "\n")
        names[fault] = folder.name
    folder = example(project, "own-command", "fault-command")
    manifest = (folder / "submission.toml").read_text()
    (folder / "submission.toml").write_text(manifest.replace("./run.sh", "no-such-program"))
    folder = example(project, "own-command", "chatty-command")
    (folder / "run.sh").write_text("#!/bin/sh\necho Loading...\nexec sleep 60\n")
    example(project)
    before = {each.pid for each in psutil.process_iter()}
    began = time.monotonic()
    names_of_all = ("null", "own-module", *names.values(), "fault-command", "chatty-command")
    found = measured(project, names_of_all)
    assert time.monotonic() - began < 12 * len(names)
    for fault, (_, reason) in MODULES.items():
        failure = found[names[fault]].failure
        assert failure, fault
        assert re.search(reason, failure["reason"]), failure
    assert "Loading..." in (found["chatty-command"].failure or {})["reason"]
    assert "no-such-program" in (found["fault-command"].failure or {})["stderr"]
    assert "no weights" in (found[names["dies at load"]].failure or {})["stderr"]
    assert found["null"].failure is None
    assert found["own-module"].failure is None
    left = [each for each in psutil.process_iter() if each.pid not in before]
    kernels = 2  # the parent of its threads
    assert not [
        each for each in left if each.ppid() != kernels and each.status() != psutil.STATUS_ZOMBIE
    ]
    assert not list((project.parent / "cache" / "tmp").iterdir())


def test_suite_survives_the_death_of_its_driver(project: Path) -> None:
    """Killed in its second block, the same command goes on with the whole block that it has."""
    example(project)
    systems = [read_system(find_systems(project)[each], project) for each in ("null", "own-module")]
    build(systems, [task("sentiment")], choose("cpu-1"), project, say=lambda line: None)
    script = (
        "from pathlib import Path\n"
        "from harness.manifest import find_systems, read_system\n"
        "from harness.measure import run\nfrom harness.configuration import choose\n"
        "from harness.tasks.task import suite, task\n"
        f"root = Path({str(project)!r})\n"
        "known = find_systems(root)\n"
        "systems = [read_system(known[each], root) for each in ('null', 'own-module')]\n"
        "run.measure(systems, [task('sentiment')], suite('quick'), choose('cpu-1'), root,\n"
        "    root / 'results', run.Effort(3), say=lambda line: print(line, flush=True))\n"
    )
    command = [sys.executable, "-c", script]
    driver = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert driver.stdout
    for line in driver.stdout:
        if line.startswith("block 2"):
            time.sleep(0.3)
            break
    workers = psutil.Process(driver.pid).children(recursive=True)
    assert workers
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    driver.stdout.close()
    _, alive = psutil.wait_procs(workers, timeout=5)
    assert not [each for each in alive if each.status() != psutil.STATUS_ZOMBIE]
    (session,) = (project / "results" / "records").iterdir()
    path = session / "sentiment" / "offline" / "own-module.json"
    assert [each.block for each in record.read(path).rounds] == [1]
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"going on with session {session.name}, whose run was killed" in again.stdout
    assert [each.block for each in record.read(path).rounds] == [1, 2, 3]
    assert list((project / "results" / "records").iterdir()) == [session]
    assert not (session / interrupted.MARK).exists()
    third = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "going on" not in third.stdout


def test_mark_of_another_session_or_a_running_one_is_left_alone(tmp_path: Path) -> None:
    folder, paths = tmp_path / "s1", ["sentiment/offline/null.json"]
    with interrupted.running(folder, "asked"):
        (folder / "sentiment" / "offline").mkdir(parents=True)
        (folder / "sentiment" / "offline" / "null.json").write_text("{}")
        assert interrupted.find(tmp_path, "asked", paths) == "", "it runs"
        mark = (folder / interrupted.MARK).read_text()
    assert not (folder / interrupted.MARK).exists()
    dead = json.loads(mark) | {"pid": 4_000_000}
    (folder / interrupted.MARK).write_text(json.dumps(dead))
    assert interrupted.find(tmp_path, "another", paths) == ""
    assert interrupted.find(tmp_path, "asked", paths) == "s1"
    empty = tmp_path / "s2"
    (empty / "sentiment" / "offline").mkdir(parents=True)
    (empty / "sentiment" / "offline" / "null.json.gz").write_bytes(b"x")
    (empty / interrupted.MARK).write_text(json.dumps(dead))
    assert interrupted.find(tmp_path, "asked", paths) == "s1"
    assert not empty.exists(), "killed in its first block, it holds nothing"


def test_walls_are_refused_where_there_are_none(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    example(project)
    monkeypatch.chdir(project)
    monkeypatch.setattr(isolation, "works", lambda kind: False)
    assert main(["audit", "own-module", "--isolation", "walls"]) == 2
    assert "Install bubblewrap" in capsys.readouterr().err
    found = measured(project, ("null", "own-module"))
    assert {each.machine["isolation"] for each in found.values()} == {"process"}
    assert found["own-module"].failure is None
