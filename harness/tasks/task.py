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

    Attributes:
        candidates: what is scored: one for an ordinary task, several for a choice.
        label: the right answer: an index into the task's labels, or, for a choice, into the
            candidates; -1 if it is not known.
        group: examples of one group are resampled together (those of one passage, for instance);
            -1 if the example has no group.
        right: the indices of all right candidates, if there can be several.
        gold: what the metric needs instead of the label (a JSON value), if that is not enough.
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
    def candidate_labels(self) -> list[int]:
        """The label of each candidate; for a choice 1 for a right one, else 0."""
        if len(self.candidates) == 1 and not self.right:
            return [self.label]
        right = self.right or (self.label,)
        return [int(index in right) for index in range(len(self.candidates))]


PredictionFormat: TypeAlias = Callable[[Iterable[Example], Sequence[int]], Iterator[Any]]
"""Returns the lines that an official server expects, as JSON values, from examples and answers."""


def predictions_by_label(labels: Sequence[str]) -> PredictionFormat:
    """Return a format with the number of each example and the name of its label.

    An example without a number has its position.
    """

    def format_lines(examples: Iterable[Example], answers: Sequence[int]) -> Iterator[Any]:
        for position, (example, answer) in enumerate(zip(examples, answers, strict=True)):
            idx = position if example.idx is None else example.idx
            yield {"idx": idx, "label": labels[answer]}

    return format_lines


@dataclass(frozen=True)
class Transfer:
    """Unlabelled text of a task's domain, for a student to learn from.

    Attributes:
        key: a digest of it.
        load: returns it.
    """

    key: str
    load: Callable[[], Sequence[Candidate]]


@dataclass(frozen=True)
class Task:
    """A labelled data set.

    Attributes:
        name: the name, also in records.
        title: one line for tables.
        edition: changes whenever the rendering of the examples changes; part of `version`.
        labels: the names of the labels.
        metric: a name in `METRICS`.
        max_length: tokens; the padded reference pads to it, and longer inputs are cut.
        latency_bound_ms: what the 99th percentile of latencies must not exceed in the server
            scenario.
        source: where the data comes from, for people.
        licence: the licence of the data.
        load: returns the examples of a split: `train`, `selection` (to select and calibrate),
            `validation` (the reported split), and, for some tasks, `test` (without labels).
        available_locally: returns whether the data needs no download.
        transfer: unlabelled text of the domain, if there is any.
        trains_on: the task on whose training split systems are built, if this one has none.
        content: returns a digest of the data, if the data is not pinned.
        path: the `task.toml` of a custom task.
        archive: the folder in SuperGLUE's archive.
        sizes: number of examples of train, validation and test in the complete data set, if known.
        prediction_format: how the official server expects predictions.
        pack: writes the labelled splits and the transfer text into a folder, in which the task is
            found on another machine if `WATTBENCH_DATA` names it, and returns its name or the path
            of its `task.toml` there. The second argument is the largest number of rows of the
            training file, 0 for all.
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
    pack: Callable[[Path, int], str] | None = None

    @property
    def version(self) -> str:
        """Part of every artifact key and record.

        Raises:
            SourceError: the data is not pinned, and not available.
        """
        return f"{self.edition}-{self.content()[:8]}" if self.content else self.edition

    @property
    def address(self) -> str:
        """What `get_task` finds the task by, in another process too."""
        return str(self.path) if self.path else self.name

    @property
    def training_task(self) -> "Task":
        """The task on whose training split systems are built: itself, except for diagnostics."""
        return self.trains_on or self

    def examples(self, split: str) -> Sequence[Example]:
        """Return the examples of a split; they are loaded once per process.

        Raises:
            SourceError: the data is not available, or faulty.
        """
        return _load_examples(self, split)

    def texts(self, transfer: bool) -> Iterator[Candidate]:
        """Return all candidates of the training split.

        Args:
            transfer: whether the transfer text follows them.
        """
        candidates = (
            candidate for example in self.examples("train") for candidate in example.candidates
        )
        return chain(candidates, self.transfer.load() if transfer and self.transfer else ())


@lru_cache(maxsize=16)
def _load_examples(task: Task, split: str) -> Sequence[Example]:
    return task.load(split)
