"""Whether a record is of what would be built and measured today."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from harness.results.record import Record


@dataclass(frozen=True)
class State:
    """The state of a record.

    Attributes:
        name: `current`, `stale` or `not checked`.
        reasons: why it is stale, or could not be checked.
    """

    name: Literal["current", "stale", "not checked"]
    reasons: tuple[str, ...] = ()


NOT_CHECKED = State("not checked")

FindState = Callable[[Record], State]


def leave_unchecked(record: Record) -> State:
    """Return that a record was not checked."""
    return NOT_CHECKED
