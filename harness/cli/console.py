"""Progress on the terminal: a line that is rewritten; elsewhere a plain line now and then."""

import os
import sys
import time

PLAIN_INTERVAL = 20.0
"""Seconds between two lines of passing progress where stdout is not a terminal."""


class Console:
    """Prints lines; an indented line with a `%` is passing progress.

    On a terminal the next line overwrites passing progress. Elsewhere most of it is left out.
    """

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()
        self._printed = 0.0
        self._line_is_open = False

    def __call__(self, line: str) -> None:
        """Print a line."""
        passing = line.startswith("  ") and "%" in line
        if self._terminal:
            columns = os.get_terminal_size().columns - 1
            text = line[:columns] if passing else line
            print(f"\r\x1b[K{text}", end="" if passing else "\n", flush=True)
            self._line_is_open = passing
        elif not passing or time.monotonic() - self._printed > PLAIN_INTERVAL:
            self._printed = time.monotonic()
            print(line, flush=True)

    def close(self) -> None:
        """End a line of passing progress."""
        if self._line_is_open:
            print(flush=True)
            self._line_is_open = False
