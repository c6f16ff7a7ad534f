"""Lines that say how much of a task is done; any function that takes lines can take them."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Self, TypeVar

Log = Callable[[str], None]
"""Takes a line; some lines are a `ProgressLine`."""

INTERVAL = 5.0
"""Seconds between two lines of `track`."""

Item = TypeVar("Item")


class ProgressLine(str):
    """A line that the next one replaces, such as `epoch 1/3 (45%, about 2 min left)`.

    Attributes:
        text: the line without the share and the time.
        done: the share that is done, from 0 to 1.
        seconds_left: how long the rest will take; None if it is not known.
    """

    text: str
    done: float
    seconds_left: float | None

    def __new__(cls, text: str, done: float, seconds_left: float | None = None) -> Self:
        done = min(1.0, max(0.0, done))
        left = "" if seconds_left is None else f", {format_seconds_left(seconds_left)}"
        line = super().__new__(cls, f"{text} ({done:.0%}{left})")
        line.text, line.done, line.seconds_left = text, done, seconds_left
        return line


def add_prefix(prefix: str, line: str) -> str:
    """Return a line with a prefix; a `ProgressLine` stays one."""
    if isinstance(line, ProgressLine):
        return ProgressLine(prefix + line.text, line.done, line.seconds_left)
    return prefix + line


def format_seconds_left(seconds: float) -> str:
    """Return for example `about 40 s left`."""
    if seconds < 90:
        return f"about {seconds:.0f} s left"
    if seconds < 90 * 60:
        return f"about {seconds / 60:.0f} min left"
    return f"about {seconds / 3600:.1f} h left"


def track(items: Sequence[Item], log: Log, text: str) -> Iterator[Item]:
    """Yield the items, and log a `ProgressLine` now and then.

    Args:
        items: what is worked through; each is assumed to take the same time.
        log: takes the lines.
        text: what is being done.
    """
    started = logged = time.monotonic()
    for number, item in enumerate(items):
        now = time.monotonic()
        if number and now - logged > INTERVAL:
            logged = now
            seconds_left = (now - started) / number * (len(items) - number)
            log(ProgressLine(text, number / len(items), seconds_left))
        yield item
