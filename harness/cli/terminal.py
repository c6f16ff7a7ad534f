"""What is drawn on a terminal, with rich: progress bar, tables, Markdown.

Importing rich takes a while, so `console.py` imports this module when it is first needed.
"""

from collections.abc import Iterator, Mapping, Sequence
from operator import sub

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderResult
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
    """Print a table for the width of the terminal."""
    console = Console(highlight=False)
    table = Table(*rows[0], box=SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row.values()))
    console.print(Group(*_lay_out(table, console.width)))


def print_markdown(text: str) -> None:
    """Print Markdown, set for the width of the terminal."""
    Console(highlight=False).print(_Markdown(text))


class _FittingTable(TableElement):
    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        tables: Iterator[Table] = iter(super().__rich_console__(console, options))  # type: ignore[arg-type]
        for table in tables:
            yield from _lay_out(table, options.max_width)


class _Markdown(Markdown):
    elements = {**Markdown.elements, "table_open": _FittingTable}  # noqa: RUF012


def _lay_out(table: Table, width: int) -> Iterator[Table | Text]:
    """Yield a table whose long cells continue on the next line, between words.

    Where a word would be cut even so, yield a block of lines for each row instead. (rich itself
    cuts words in some columns while others have space to spare.)
    """
    texts = [list(map(str, (column.header, *column.cells))) for column in table.columns]
    words = [texts[0], *([word for text in cells for word in text.split()] for cells in texts[1:])]
    widths = [max(map(cell_len, column), default=0) for column in words]
    longest = [max(map(cell_len, cells)) for cells in texts]
    spare = width - sum(widths) - 3 * len(widths)
    if spare < 0:
        yield from _make_blocks(texts)
        return
    while spare and (missing := max(map(sub, longest, widths))):
        widths[list(map(sub, longest, widths)).index(missing)] += 1
        spare -= 1
    for column, column_width in zip(table.columns, widths, strict=True):
        column.width = column_width
    yield table


def _make_blocks(texts: Sequence[Sequence[str]]) -> Iterator[Table | Text]:
    """Yield the first cell of each row, then its other cells beside their headings.

    Args:
        texts: the cells of each column, the heading first.
    """
    headings, *rows = zip(*texts, strict=True)
    for name, *cells in rows:
        yield Text(name, style="bold")
        block = Table(box=None, show_header=False, padding=(0, 0, 0, 2))
        for heading, cell in zip(headings[1:], cells, strict=True):
            if cell:
                block.add_row(Text(heading), Text(cell, overflow="fold"))
        yield block
