"""Commands on a terminal of a given width."""

import os
import pty
import subprocess
import sys
from contextlib import suppress


def run_on_terminal(script: str, columns: int = 80, **environment: str) -> str:
    """Return what a Python script writes to a terminal."""
    driver, terminal = pty.openpty()
    variables = {**os.environ, "TERM": "xterm", "COLUMNS": str(columns), "LINES": "40"}
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=variables | environment,
    ) as process:
        os.close(terminal)
        out = b""
        with suppress(OSError):  # the terminal is closed
            while data := os.read(driver, 65536):
                out += data
        assert process.wait() == 0, out.decode()
    os.close(driver)
    return out.decode()
