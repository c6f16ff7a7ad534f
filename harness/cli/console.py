"""What the command prints: lines, progress and tables.

On a terminal progress is a bar, and tables fit its width. Elsewhere a line of progress is printed
every `PLAIN_INTERVAL` seconds at most, and tables are text of any width. No thread redraws the bar:
it changes only when the next line of progress comes, which is never within a timed window.
"""

import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.progress import ProgressLine, format_seconds_left

if TYPE_CHECKING:
    from rich.progress import Progress

PLAIN_INTERVAL = 20.0
"""Seconds between a line and the next line of progress where stdout is not a terminal."""


class Console:
    """Prints lines; a `ProgressLine` is drawn as a bar until the next other line."""

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty() and os.environ.get("TERM") not in (None, "", "dumb")
        self._printed = -PLAIN_INTERVAL
        self._bar: Progress | None = None

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
        if not self._terminal:
            from tabulate import tabulate

            self._print(tabulate(rows, headers="keys", tablefmt="simple", disable_numparse=True))
            return
        from rich.box import SIMPLE_HEAD
        from rich.table import Table
        from rich.text import Text

        table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
        for number, heading in enumerate(rows[0]):
            table.add_column(Text(heading), no_wrap=number == 0, overflow="fold")
        for row in rows:
            table.add_row(*(Text(str(cell)) for cell in row.values()))
        _create_rich_console().print(table)

    def print_markdown(self, text: str) -> None:
        """Print Markdown: set for the width of a terminal, as it is elsewhere."""
        self.close()
        if not self._terminal:
            self._print(text)
            return
        from rich.markdown import Markdown

        _create_rich_console().print(Markdown(text))

    def close(self) -> None:
        """Remove the bar, if there is one."""
        if self._bar:
            self._bar.stop()
            self._bar = None

    def _print(self, line: str) -> None:
        print(line, flush=True)
        self._printed = time.monotonic()

    def _draw(self, line: ProgressLine) -> None:
        if self._bar is None:
            self._bar = _create_bar()
            self._bar.add_task("", total=1.0)
        left = "" if line.seconds_left is None else format_seconds_left(line.seconds_left)
        task = self._bar.task_ids[0]
        self._bar.update(task, description=line.text, completed=line.done, left=left)
        self._bar.start()
        self._bar.refresh()


def _create_bar() -> "Progress":
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
    from rich.table import Column

    return Progress(
        TextColumn(
            "{task.description}",
            markup=False,
            table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1),
        ),
        BarColumn(bar_width=16, table_column=Column(min_width=16)),
        TaskProgressColumn(table_column=Column(min_width=4)),
        TextColumn(
            "{task.fields[left]}", markup=False, table_column=Column(no_wrap=True, min_width=15)
        ),
        console=_create_rich_console(),
        auto_refresh=False,
        expand=True,
        transient=True,
    )


def _create_rich_console() -> Any:
    from rich.console import Console as RichConsole

    return RichConsole(highlight=False)
