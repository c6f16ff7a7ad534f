"""Workers that go wrong, and drivers that are killed: neither takes more than its own with it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from harness.cli.main import main
from harness.reports.results_folder import write_board
from harness.results import record
from harness.runner import resume
from harness.runner.config import SMOKE
from harness.tasks.task import Task
from harness.worker import process_tree, sandbox
from tests.support.systems import (
    REPOSITORY,
    build_all,
    build_and_measure,
    copy_example,
    measure,
    offline_records,
)
from tests.support.workers import ENOUGH

MODULES = {
    "dies at load": ("def load(self, *_): raise RuntimeError('no weights')", "RuntimeError: no w"),
    "never gets ready": ("def load(self, *_): time.sleep(600)", "gave no answer within 10 s"),
    "hangs": ("def predict(self, examples): time.sleep(600)", "gave no answer within 10 s"),
    "dies half-way": (
        "def predict(self, examples):\n    self.n = getattr(self, 'n', 0) + len(examples)\n"
        "    if self.n > 300: os.kill(os.getpid(), 9)\n    return [0] * len(examples)",
        "SIGKILL",
    ),
    "answers too few": (
        "def predict(self, examples): return [0]",
        r"one answer per example: expected \d+, got 1",
    ),
    "answers nothing": ("def predict(self, examples): pass", "list of answers, but .* NoneType"),
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


def test_each_fault_ends_its_own_row_alone(project: Path, reviews: Task) -> None:
    names = {}
    for number, (fault, (body, _)) in enumerate(MODULES.items()):
        folder = copy_example(project, copy=f"fault-{number}")
        text = "import os, sys, time\nclass Faulty:\n    def load(self, *_): pass\n"
        text += "    def predict(self, examples): return [0] * len(examples)\n    "
        (folder / "model.py").write_text(text + body.replace("\n", "\n    ") + "\n")
        names[fault] = folder.name
    folder = copy_example(project, "custom-command", "fault-command")
    manifest = (folder / "submission.toml").read_text()
    (folder / "submission.toml").write_text(manifest.replace("./run.sh", "no-such-program"))
    folder = copy_example(project, "custom-command", "chatty-command")
    (folder / "run.sh").write_text("#!/bin/sh\necho Loading...\nexec sleep 600\n")
    copy_example(project)
    names_of_all = ("null", "custom-module", *names.values(), "fault-command", "chatty-command")
    before = set(process_tree.find_tree(os.getpid()))
    timing = replace(SMOKE, load_timeout=10.0, query_timeout=10.0)
    records = build_and_measure(project, names_of_all, reviews, memory_gb=0.5, timing=timing)
    for fault, (_, reason) in MODULES.items():
        failure = records[names[fault]].failure
        assert failure, fault
        assert re.search(reason, failure["reason"]), failure
    chatter = (records["chatty-command"].failure or {})["reason"]
    assert re.search(r"not JSON: b'Loading|sent a line before it got a message", chatter)
    assert "no-such-program" in (records["fault-command"].failure or {})["stderr"]
    assert "no weights" in (records[names["dies at load"]].failure or {})["stderr"]
    assert records["null"].failure is None
    assert records["custom-module"].failure is None
    left = [psutil.Process(pid) for pid in set(process_tree.find_tree(os.getpid())) - before]
    assert not [process for process in left if process.status() != psutil.STATUS_ZOMBIE]
    assert not list((project.parent / "cache" / "tmp").iterdir())


def test_session_survives_the_death_of_its_driver(project: Path, reviews: Task) -> None:
    """Killed in its second block, the same command continues with the whole block that it has."""
    copy_example(project)
    names = ("null", "custom-module")
    build_all(project, names, reviews)
    script = (
        "import sys\nfrom pathlib import Path\n"
        "from harness.telemetry.configuration import choose_configuration\n"
        "from harness.runner import session\n"
        "from harness.submissions.plan import make_plan\n"
        "from harness.runner.config import SMOKE, RunConfig\n"
        "from harness.tasks.registry import get_suite, get_task\n"
        "from tests.support.systems import load_systems\n"
        f"root = Path({str(project)!r})\n"
        f"plan = make_plan(load_systems(root, {names!r}), [get_task({reviews.address!r})])\n"
        "session.measure(plan, get_suite('quick'),\n"
        "    choose_configuration('cpu-1'), root / 'results', RunConfig(3, timing=SMOKE),\n"
        "    log=lambda line: print(line, flush=True))\n"
    )
    command = [sys.executable, "-c", script]
    driver = subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert driver.stdout
    for line in driver.stdout:
        if line.startswith("block 2"):
            break
    deadline = time.monotonic() + ENOUGH
    while not (workers := psutil.Process(driver.pid).children(recursive=True)):
        assert time.monotonic() < deadline
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    driver.stdout.close()
    _, alive = psutil.wait_procs(workers, timeout=ENOUGH)
    assert all(process.status() == psutil.STATUS_ZOMBIE for process in alive)
    (session,) = (project / "results" / "records").iterdir()
    path = session / "reviews" / "offline" / "custom-module.json"
    assert [window.block for window in record.read_record(path).rounds] == [1]

    def run_again() -> str:
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
        return done.stdout

    assert f"continuing session {session.name}, whose process was killed" in run_again()
    assert [window.block for window in record.read_record(path).rounds] == [1, 2, 3]
    assert list((project / "results" / "records").iterdir()) == [session]
    assert not (session / resume.MARKER).exists()
    assert "continuing" not in run_again()


def test_marker_of_another_session_or_a_running_one_is_ignored(tmp_path: Path) -> None:
    folder, paths = tmp_path / "s1", ["sentiment/offline/null.json"]
    with resume.running(folder, "settings"):
        (folder / "sentiment" / "offline").mkdir(parents=True)
        (folder / "sentiment" / "offline" / "null.json").write_text("{}")
        assert resume.find_killed_session(tmp_path, "settings", paths) == "", "it runs"
        marker = (folder / resume.MARKER).read_text()
    assert not (folder / resume.MARKER).exists()
    dead = json.loads(marker) | {"pid": 4_000_000}
    (folder / resume.MARKER).write_text(json.dumps(dead))
    assert resume.find_killed_session(tmp_path, "another", paths) == ""
    assert resume.find_killed_session(tmp_path, "settings", paths) == "s1"
    empty = tmp_path / "s2"
    (empty / "sentiment" / "offline").mkdir(parents=True)
    (empty / "sentiment" / "offline" / "null.json.gz").write_bytes(b"x")
    (empty / resume.MARKER).write_text(json.dumps(dead))
    assert resume.find_killed_session(tmp_path, "settings", paths) == "s1"
    assert not empty.exists(), "killed in its first block, it holds nothing"


def test_custom_code_without_a_sandbox_runs_with_a_warning(
    project: Path,
    reviews: Task,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    copy_example(project)
    monkeypatch.chdir(project)
    fault = sandbox.MissingSandbox("bubblewrap is not installed", "Install it")
    monkeypatch.setattr(sandbox, "check_sandbox", lambda: fault)
    command = ["audit", "custom-module", "--task", reviews.address, "--configuration", "cpu-1"]
    for name in ("sandbox", "walls"):  # `walls` is the old spelling
        assert main([*command, "--isolation", name]) == 2
        assert "Install it, or leave --isolation sandbox out" in capsys.readouterr().err
    lines: list[str] = []
    session = measure(project, ["null"], reviews, log=lines.append)
    assert lines[0] == "isolation: process, since bubblewrap is not installed. Install it."
    assert not any("warning" in line for line in lines)
    records = build_and_measure(project, ("null", "custom-module"), reviews, log=lines.append)
    assert any(line.startswith("warning: custom code runs without a sandbox") for line in lines)
    records |= offline_records(project, session)
    assert {record.machine["isolation"] for record in records.values()} == {"process"}
    assert records["custom-module"].failure is None


def test_record_of_an_older_sandbox_is_read_and_drawn(project: Path, reviews: Task) -> None:
    """`namespaces`: user namespaces that a shell script set up, until bubblewrap was required."""
    session = measure(project, ["null"], reviews)
    for path in (project / "results" / "records" / session).glob("*/*/null.json"):
        path.write_text(
            re.sub(r'"isolation": "\w+"', '"isolation": "namespaces"', path.read_text())
        )
    write_board(project / "results")
    assert "isolation: namespaces." in (project / "results" / "README.md").read_text()
