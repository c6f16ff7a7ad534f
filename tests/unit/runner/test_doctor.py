import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from harness.cli.main import main
from harness.runner import doctor
from harness.telemetry import energy, kernel, machine
from harness.worker import sandbox

Files = dict[str, str]
CPU = "/sys/devices/system/cpu"


@pytest.fixture
def set_kernel_files(monkeypatch: pytest.MonkeyPatch) -> Callable[[Files], None]:
    """Replace the files of the kernel."""

    def set_files(files: Files) -> None:
        monkeypatch.setattr(kernel, "read_kernel_file", lambda path: files.get(str(path), ""))

    return set_files


@pytest.mark.parametrize(
    ("check", "files", "state", "remedy"),
    [
        ("_check_quota", {}, "no CPU quota", ""),
        (
            "_check_governor",
            {f"{CPU}/cpu0/cpufreq/scaling_governor": "powersave\n"},
            "'powersave'",
            "cpupower frequency-set -g performance",
        ),
        (
            "_check_governor",
            {f"{CPU}/cpu0/cpufreq/scaling_governor": "performance\n"},
            "is 'perf",
            "",
        ),
        (
            "_check_turbo",
            {f"{CPU}/intel_pstate/no_turbo": "0\n"},
            "turbo is on",
            "echo 1 | sudo tee",
        ),
        ("_check_turbo", {f"{CPU}/cpufreq/boost": "1\n"}, "turbo is on", "echo 0 | sudo tee"),
        ("_check_turbo", {f"{CPU}/intel_pstate/no_turbo": "1\n"}, "turbo is off", ""),
    ],
)
def test_kernel_settings_are_read_and_get_a_remedy(
    set_kernel_files: Callable[[Files], None], check: str, files: Files, state: str, remedy: str
) -> None:
    set_kernel_files(files)
    found_state, found_remedy = getattr(doctor, check)()
    assert state in found_state
    assert remedy in found_remedy
    assert bool(remedy) == bool(found_remedy)


def test_cpus_that_share_a_core_are_counted(
    set_kernel_files: Callable[[Files], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor.os, "sched_getaffinity", lambda pid: {0, 1, 2, 3})
    lists = {0: "0,2", 1: "1,3", 2: "0,2", 3: "1,3"}
    set_kernel_files({f"{CPU}/cpu{k}/topology/thread_siblings_list": v for k, v in lists.items()})
    line, remedy_text = doctor._check_siblings()
    assert line.startswith("2 of the 4 logical CPUs share a core")
    assert "smt/control" in remedy_text


def test_busy_neighbours_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = iter([(100.0, 5.0), (101.5, 5.0), (100.0, 5.0), (100.0, 5.5)])
    monkeypatch.setattr(kernel, "read_cpu_seconds", lambda: next(seen))
    monkeypatch.setattr(doctor, "WATCHED_SECONDS", 0.05)
    line, remedy_text = doctor._check_load()
    assert "other processes keep" in line
    assert remedy_text.startswith("Stop what is not needed (")
    _, remedy_text = doctor._check_load()
    assert remedy_text.startswith("Neighbours share this host")


def test_busiest_processes_are_those_of_the_watched_seconds() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        process = psutil.Process(busy.pid)
        before = doctor._read_process_seconds()
        assert psutil.Process() not in before
        while process.cpu_times().user < before.get(process, 0.0) + 0.2:
            time.sleep(0.01)
        names = doctor._name_busiest(before, seconds=1.0)
        name = process.name()
        busy.kill()
    assert f"{name}: " in names
    assert names.endswith(" cores")


def test_quota_is_stated_with_the_share_of_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "read_cpu_quota", lambda: 0.6)
    monkeypatch.setattr(kernel, "read_throttling", lambda: {Path("/a"): (213, 168)})
    state, remedy = doctor._check_quota()
    assert state.startswith("the control group allows 0.6 of ")
    assert state.endswith(" cores, and has paused in 168 of 213 periods so far")
    assert "CPU limit" in remedy


def test_memory_that_a_control_group_leaves_is_stated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "read_free_memory", lambda: 10**9)
    assert "and 1.0 GB of memory are free in the control group" in doctor._check_memory()[0]


def test_full_memory_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.psutil, "swap_memory", lambda: SimpleNamespace(used=5e9))
    line, remedy_text = doctor._check_memory()
    assert line.startswith("5,000 MB are swapped out")
    assert "swapoff" in remedy_text


def test_unreadable_counters_come_with_the_command_that_fixes_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(energy, "is_rapl_readable", lambda: True)
    assert doctor._check_energy_counters()[0].startswith("energy is measured")
    monkeypatch.setattr(energy, "is_rapl_readable", lambda: False)
    monkeypatch.setattr(Path, "exists", lambda self: True)
    assert "chmod" in doctor._check_energy_counters()[1]


def test_every_check_prints_a_line_and_quick_warnings_are_among_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doctor, "WATCHED_SECONDS", 0.1)
    lines = list(doctor.examine())
    assert len(lines) == len(doctor.CHECKS)
    assert all(line.startswith(("ok    ", "fix   ")) for line in lines)
    quick = [line.split(",")[0] for line in doctor.find_quick_warnings()]
    assert set(quick) <= {line.split(",")[0] for line in lines if line.startswith("fix")}


def test_missing_sandbox_comes_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fault = sandbox.MissingSandbox("bubblewrap is missing", "apt install it")
    monkeypatch.setattr(sandbox, "check_sandbox", lambda: fault)
    state, remedy = doctor._check_sandbox()
    assert state.startswith("isolation: process")
    assert state.endswith("bubblewrap is missing")
    assert remedy == "apt install it"
    monkeypatch.setattr(sandbox, "check_sandbox", lambda: None)
    assert doctor._check_sandbox()[0].startswith("isolation: bubblewrap")


def test_cpu_seconds_count_what_a_busy_process_uses() -> None:
    busy, stolen = kernel.read_cpu_seconds()
    end = time.process_time() + 0.3
    while time.process_time() < end:
        pass
    after, still = kernel.read_cpu_seconds()
    assert after - busy > 0.25
    assert still >= stolen


def test_fingerprint_tells_machines_apart() -> None:
    fingerprint = machine.build_fingerprint("process")
    assert {"cpu", "flags", "cores", "quota", "governor", "smt", "kernel", "isolation"} <= set(
        fingerprint
    )
    assert machine.get_software()["revision"]


def test_revision_counts_changed_code_and_no_results(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        identity = ("-c", "user.name=test", "-c", "user.email=test@example.com")
        command = ["git", *identity, *arguments]
        return subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout.strip()

    code, table = tmp_path / "harness" / "code.py", tmp_path / "results" / "README.md"
    for file in (code, table):
        file.parent.mkdir()
        file.write_text("first")
    assert machine.get_revision(code) == "unknown", "no checkout"
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    commit = git("rev-parse", "--short=12", "HEAD")
    assert machine.get_revision(code) == commit
    table.write_text("a session wrote this")
    (tmp_path / "results" / "record.json").write_text("this too")
    assert machine.get_revision(code) == commit
    code.write_text("changed")
    assert machine.get_revision(code) == f"{commit}-dirty"
    installed = tmp_path / ".venv" / "harness" / "code.py"
    installed.parent.mkdir(parents=True)
    installed.write_text("of a wheel")
    assert machine.get_revision(installed) == "unknown", "the commit of somebody else's project"


def test_command_prints_every_line_also_one_with_a_percentage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "WATCHED_SECONDS", 0.1)
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(doctor.CHECKS)
    assert "%" in lines[-1]
