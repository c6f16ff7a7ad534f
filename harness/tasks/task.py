"""Tasks and their examples."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

Candidate: TypeAlias = tuple[str, ...]
"""A text, or a text and its pair."""


@dataclass(frozen=True, slots=True)
class Example:
    """One question with its answer.

    candidates: what is scored; one for an ordinary task, several where a choice is scored.
    label: the right answer; an index into the task's labels, or into the candidates where there are
    several; -1 where it is not known.
    group: examples of one group are resampled together (the passage of a question, say); -1: on its
    own.
    right: all candidates that are right, where it is more than one.
    gold: what the metric needs to know instead of the label (a JSON value), where that is not
    enough.
    idx: the number of the example in its data set (a JSON value), for test predictions.
    """

    candidates: tuple[Candidate, ...]
    label: int
    group: int = -1
    right: tuple[int, ...] = ()
    gold: Any = None
    idx: Any = None

    @property
    def truth(self) -> Any:
        """What the metric compares an answer with."""
        return self.label if self.gold is None else self.gold

    @property
    def row_labels(self) -> list[int]:
        """The label of each candidate: 1 for one that is right, where a choice is scored."""
        if len(self.candidates) == 1 and not self.right:
            return [self.label]
        right = self.right or (self.label,)
        return [int(number in right) for number in range(len(self.candidates))]


PredictionFormat: TypeAlias = Callable[[Iterable[Example], Sequence[int]], Iterator[Any]]


def predictions_by_label(labels: Sequence[str]) -> PredictionFormat:
    """Lines of an example's number (where it has none its place) and the name of its label."""

    def lines(examples: Iterable[Example], answers: Sequence[int]) -> Iterator[Any]:
        for number, (each, answer) in enumerate(zip(examples, answers, strict=True)):
            yield {"idx": number if each.idx is None else each.idx, "label": labels[answer]}

    return lines


@dataclass(frozen=True)
class Transfer:
    """Text of a task's domain without labels, for a student to learn from.

    key: a digest of it; load: gives it, as candidates.
    """

    key: str
    load: Callable[[], Sequence[Candidate]]


@dataclass(frozen=True)
class Task:
    """A labelled data set.

    edition: changes whenever the rendering of the examples changes; with a digest of the data,
    where that is not pinned, it is the task's `version`.
    load: gives the examples of a split: `train`, `selection` (to select and calibrate),
    `validation` (to report), and `test` (without labels) where there is one.
    at_hand: whether the data is there without a download.
    max_length: tokens; what the padded reference pads to, and where longer inputs are cut.
    latency_bound_ms: the 99th percentile that the server scenario must hold.
    transfer: unlabelled text of its domain, where there is some.
    trains_on: the task on whose training split its systems are built, where it has none itself.
    content: a digest of the data, where it is not pinned.
    path: the file that declares it, where it is not built in.
    archive: its folder in SuperGLUE's archive. sizes: examples of train, validation and test when
    complete, where that is known.
    predicted: lines as the official server takes them, from the examples and their answers.
    """

    name: str
    title: str
    edition: str
    labels: tuple[str, ...]
    metric: str
    max_length: int
    latency_bound_ms: float
    source: str
    licence: str
    load: Callable[[str], Sequence[Example]]
    available_locally: Callable[[], bool]
    transfer: Transfer | None = None
    trains_on: "Task | None" = None
    content: Callable[[], str] | None = None
    path: Path | None = None
    archive: str = ""
    sizes: tuple[int, int, int] = (0, 0, 0)
    prediction_format: PredictionFormat | None = None

    @property
    def version(self) -> str:
        """Part of every artifact's key and every record. Raises: SourceError without the data."""
        return f"{self.edition}-{self.content()[:8]}" if self.content else self.edition

    @property
    def address(self) -> str:
        """What `get_task` finds it by, in another process too."""
        return str(self.path) if self.path else self.name

    @property
    def training_task(self) -> "Task":
        """The task on whose training split its systems are built: itself, but for diagnostics."""
        return self.trains_on or self

    def examples(self, split: str) -> Sequence[Example]:
        """The examples of a split, loaded once a process.

        Raises: SourceError if they cannot be had.
        """
        return _examples(self, split)

    def texts(self, transfer: bool) -> Iterator[Candidate]:
        """All candidates of the training split, then, if asked, the transfer text."""
        rows = (candidate for each in self.examples("train") for candidate in each.candidates)
        return chain(rows, self.transfer.load() if transfer and self.transfer else ())


@lru_cache(maxsize=16)
def _examples(task: Task, split: str) -> Sequence[Example]:
    return task.load(split)
