"""What is drawn on a terminal, with rich: progress bar, tables, Markdown.

Importing rich takes a while, so `console.py` imports this module when it is first needed.
"""

from collections.abc import Iterator, Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markdown import Markdown, TableElement
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Column, Table
from rich.text import Text

from harness.progress import ProgressLine, format_seconds_left


class Bar:
    """A progress bar that no thread redraws: it changes only when it is told."""

    def __init__(self) -> None:
        text = Column(no_wrap=True, overflow="ellipsis", ratio=1)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False, table_column=text),
            BarColumn(bar_width=16, table_column=Column(min_width=16)),
            TaskProgressColumn(table_column=Column(min_width=4)),
            TextColumn(
                "{task.fields[left]}", markup=False, table_column=Column(no_wrap=True, min_width=15)
            ),
            console=Console(highlight=False),
            auto_refresh=False,
            expand=True,
            transient=True,
        )
        self._task = self._progress.add_task("", total=1.0)

    def draw(self, line: ProgressLine) -> None:
        """Draw a line in place of the one before."""
        left = "" if line.seconds_left is None else format_seconds_left(line.seconds_left)
        self._progress.update(self._task, description=line.text, completed=line.done, left=left)
        self._progress.start()
        self._progress.refresh()

    def remove(self) -> None:
        """Erase the bar."""
        self._progress.stop()


def print_table(rows: Sequence[Mapping[str, object]]) -> None:
    """Print a table that is as wide as the terminal at most; long cells continue below."""
    table = Table(*rows[0], box=SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row.values()))
    Console(highlight=False).print(_fold(table))


def print_markdown(text: str) -> None:
    """Print Markdown, set for the width of the terminal."""
    Console(highlight=False).print(_Markdown(text))


class _FoldingTable(TableElement):
    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        tables: Iterator[Table] = iter(super().__rich_console__(console, options))  # type: ignore[arg-type]
        yield from map(_fold, tables)


class _Markdown(Markdown):
    elements = {**Markdown.elements, "table_open": _FoldingTable}  # noqa: RUF012


def _fold(table: Table) -> Table:
    """Let long cells continue on the next line, except those of the first column."""
    for column in table.columns:
        column.overflow = "fold"
    table.columns[0].no_wrap = True
    return table
