"""Limits of the machine that any line of a command may reach."""

import subprocess
import sys
from pathlib import Path

import pytest

LIMITS = {
    "open files": (
        "resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32)); [open(__file__) for _ in range(99)]",
        "wattbench: {file}: Too many open files. This process may not open more files: raise the "
        "limit (ulimit -n).\n",
    ),
    "memory": (
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 32, 1 << 32)); bytearray(1 << 33)",
        "wattbench: out of memory. Free some memory, or raise the limit (ulimit -v, or that of the "
        "container).\n",
    ),
    "threads": (
        "threading.Thread.start = start; threading.Thread().start()",
        "wattbench: can't start new thread. No more processes or threads may be started: raise the "
        "limit (ulimit -u, or the pids limit of the container).\n",
    ),
}


@pytest.mark.parametrize("limit", LIMITS)
def test_limit_of_the_machine_is_one_message_with_a_remedy(tmp_path: Path, limit: str) -> None:
    body, message = LIMITS[limit]
    script = tmp_path / "script.py"
    script.write_text(
        "import resource, threading\n"
        "from harness.cli.command import command\n"
        'def start(thread): raise RuntimeError("can\'t start new thread")  # as CPython does\n'
        f"def action() -> None: {body}\n"
        "command(action)()\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert done.stderr.splitlines(keepends=True)[0] == message.format(file=script)
