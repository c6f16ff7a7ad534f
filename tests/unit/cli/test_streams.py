"""Closed, full and ASCII-only standard streams."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.systems import REPOSITORY

FULL = "/dev/full"


def run_shell(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a shell command line in which `wattbench` is the command."""
    done = subprocess.run(
        ["bash", "-c", f'wattbench() {{ "{sys.executable}" -m harness "$@"; }}; {command}'],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env={**os.environ, **environment},
    )
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    return done


@pytest.mark.parametrize("command", ["tasks", "--help", "run --help", "--version", "steps"])
def test_closed_stdout_is_no_fault(command: str) -> None:
    assert run_shell(f"wattbench {command} >&-").returncode == 0


def test_closed_stdin_and_stderr_keep_the_status() -> None:
    assert run_shell("wattbench tasks <&-").returncode == 0
    assert run_shell("wattbench check nowhere 2>&-").returncode == 2


@pytest.mark.parametrize("command", ["steps", "tasks", "--help"])
def test_reader_that_leaves_is_no_fault(command: str) -> None:
    done = run_shell(f"wattbench {command} | true; exit ${{PIPESTATUS[0]}}")
    assert done.returncode in (0, 1)  # 1: typer's own status where the help is not read
    assert done.stderr == ""


@pytest.mark.skipif(not Path(FULL).exists(), reason=f"there is no {FULL}")
@pytest.mark.parametrize("command", ["tasks", "--help", "--version"])
def test_full_disk_is_said_once_with_status_2(command: str) -> None:
    done = run_shell(f"wattbench {command} > {FULL}")
    assert done.returncode == 2
    assert done.stderr == "wattbench: the output cannot be written: No space left on device.\n"


@pytest.mark.skipif(not Path(FULL).exists(), reason=f"there is no {FULL}")
def test_full_stderr_keeps_the_status() -> None:
    assert run_shell(f"wattbench check nowhere 2> {FULL}").returncode == 2


def test_ascii_terminal_gets_the_nearest_spelling() -> None:
    script = (
        "from harness.cli.streams import prepare_streams\nprepare_streams()\n"
        "print('0.87 ± 0.01 → 2.5 µs × 中')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert done.stdout == "0.87 +- 0.01 -> 2.5 us x ?\n", done.stderr


def test_board_is_printed_on_an_ascii_terminal() -> None:
    done = run_shell("wattbench ladder", PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert "+-" in done.stdout or "x" in done.stdout
    assert done.stdout.isascii()
