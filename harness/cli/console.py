"""What the command prints: lines, progress and tables.

On a terminal progress is a bar, and tables fit its width. Elsewhere a line of progress is printed
every `PLAIN_INTERVAL` seconds at most, and tables have any width. The bar changes only when the
next line of progress comes, which is never within a timed window.
"""

import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from harness.progress import ProgressLine

if TYPE_CHECKING:
    from harness.cli.terminal import Bar

PLAIN_INTERVAL = 20.0
"""Seconds between a line and the next line of progress where stdout is not a terminal."""


class Console:
    """Prints lines; a `ProgressLine` is drawn as a bar until the next other line."""

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty() and os.environ.get("TERM") not in (None, "", "dumb")
        self._printed = -PLAIN_INTERVAL
        self._bar: Bar | None = None

    def __call__(self, line: str) -> None:
        """Print a line."""
        if not isinstance(line, ProgressLine):
            self.close()
            self._print(line)
        elif self._terminal:
            self._draw(line)
        elif time.monotonic() - self._printed >= PLAIN_INTERVAL:
            self._print(line)

    def print_table(self, rows: Sequence[Mapping[str, object]]) -> None:
        """Print a table.

        Args:
            rows: the cells by heading; all rows have the same headings, and there is at least one.
        """
        self.close()
        if self._terminal:
            from harness.cli import terminal

            terminal.print_table(rows)
        else:
            from tabulate import tabulate

            self._print(tabulate(rows, headers="keys", tablefmt="simple", disable_numparse=True))

    def print_markdown(self, text: str) -> None:
        """Print Markdown: set for the width of a terminal, as it is elsewhere."""
        self.close()
        if self._terminal:
            from harness.cli import terminal

            terminal.print_markdown(text)
        else:
            self._print(text)

    def close(self) -> None:
        """Remove the bar, if there is one."""
        if self._bar:
            self._bar.remove()
            self._bar = None

    def _print(self, line: str) -> None:
        print(line, flush=True)
        self._printed = time.monotonic()

    def _draw(self, line: ProgressLine) -> None:
        if self._bar is None:
            from harness.cli.terminal import Bar

            self._bar = Bar()
        self._bar.draw(line)
