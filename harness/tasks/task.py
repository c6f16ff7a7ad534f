"""What is asked: tasks and suites as declarations, and the registry of both."""

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias, TypeVar

from harness.errors import HarnessError

Candidate: TypeAlias = tuple[str, ...]
"""A text, or a text and its pair."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Example:
    """One question with its answer.

    candidates: what is scored; one for an ordinary task, several where a choice is scored.
    label: the right answer; an index into the task's labels, or into the candidates where there are
    several.
    group: examples of one group are resampled together (the passage of a question, say); -1: on its
    own.
    """

    candidates: tuple[Candidate, ...]
    label: int
    group: int = -1


@dataclass(frozen=True)
class Transfer:
    """Text of a task's domain without labels, for a student to learn from.

    key: a digest of it; load: gives it, as candidates.
    """

    key: str
    load: Callable[[], tuple[Candidate, ...]]


@dataclass(frozen=True)
class Task:
    """A labelled data set.

    version: changes whenever the examples or their rendering change; part of every artifact's key
    and every record.
    load: gives the examples of a split: `train`, `selection` (to select and calibrate) or
    `validation` (to report).
    at_hand: whether the data is there without a download.
    max_length: tokens; what the padded reference pads to, and where longer inputs are cut.
    latency_bound_ms: the 99th percentile that the server scenario must hold.
    transfer: unlabelled text of its domain, where there is some.
    """

    name: str
    title: str
    version: str
    labels: tuple[str, ...]
    metric: str
    max_length: int
    latency_bound_ms: float
    source: str
    licence: str
    load: Callable[[str], tuple[Example, ...]]
    at_hand: Callable[[], bool]
    transfer: Transfer | None = None

    def examples(self, split: str) -> tuple[Example, ...]:
        """The examples of a split, loaded once a process.

        Raises: SourceError if they cannot be had.
        """
        return _examples(self, split)

    def texts(self, transfer: bool) -> list[Candidate]:
        """All candidates of the training split, then, if asked, the transfer text."""
        rows = [candidate for each in self.examples("train") for candidate in each.candidates]
        return rows + list(self.transfer.load() if transfer and self.transfer else ())


@dataclass(frozen=True)
class Suite:
    """Tasks that are scored together, with the systems they are compared with.

    systems: the default set; `--all` measures every system that names one of the tasks.
    ladder: systems of which each adds one optimization to the one before.
    """

    name: str
    tasks: tuple[str, ...]
    reference: str
    unpadded_reference: str
    systems: tuple[str, ...]
    ladder: tuple[str, ...] = ()


def task(name: str) -> Task:
    """The task of this name. Raises: HarnessError that names the nearest one."""
    return _find("task", name, tasks())


def suite(name: str) -> Suite:
    """The suite of this name. Raises: HarnessError that names the nearest one."""
    return _find("suite", name, suites())


def tasks() -> dict[str, Task]:
    """All tasks by name."""
    from harness.tasks import embedded

    return {each.name: each for each in embedded.TASKS}


def suites() -> dict[str, Suite]:
    """All suites by name."""
    from harness.tasks import embedded

    return {each.name: each for each in embedded.SUITES}


def nearest(name: str, known: Iterable[str]) -> str:
    """' Did you mean ...?' with the known name nearest to this one, or the list of all."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    close = close or [each for each in names if name and name in each]
    return f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(names) or 'none'}."


def _find(kind: str, name: str, known: dict[str, T]) -> T:
    if name not in known:
        raise HarnessError(f"{kind} {name!r} does not exist. {nearest(name, known)}")
    return known[name]


@lru_cache(maxsize=16)
def _examples(task: Task, split: str) -> tuple[Example, ...]:
    return task.load(split)
