"""Custom tasks: a `task.toml` beside the data, without Python.

The file declares which fields hold the text and the label, and the files of the splits (JSONL, CSV,
TSV or Parquet). The version of the task is a digest of the declaration and of all its data.
"""

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import ManifestError, SourceError
from harness.schema import Faults, read_toml
from harness.store.cache import digest, file_sha256
from harness.tasks.delimited import QUOTING
from harness.tasks.labels import IntegerLabels
from harness.tasks.readers import read_rows
from harness.tasks.splits import compute_split_position
from harness.tasks.stored_examples import StoredExamples, store_examples
from harness.tasks.task import Candidate, Example, Task, Transfer, predictions_by_label

KEYS = (
    *("name", "title", "labels", "metric", "max_length", "latency_bound_ms", "source", "licence"),
    "quoting",
)
FIELDS = ("text", "pair", "choices", "label", "group", "idx")
SPLITS = ("train", "selection", "validation", "test", "transfer")
UNLABELLED_SPLITS = ("test", "transfer")

LABEL_METRICS = ("accuracy", "f1", "macro-f1", "matthews", "accuracy+macro-f1")
"""Metrics that need nothing but labels."""

READER_VERSION = 2
"""Increases whenever the same file gives other examples than before."""


@dataclass(frozen=True)
class CustomData:
    """The data that a `task.toml` declares.

    Attributes:
        fields: the table `[fields]`: the names of the fields of a row.
        labels: the names of the labels.
        files: the file of each split.
        path: the `task.toml`.
        quoting: how CSV and TSV are quoted; '' for the usual way of the format.
    """

    fields: dict[str, Any]
    labels: tuple[str, ...]
    files: dict[str, Path]
    path: Path
    quoting: str = ""

    def load(self, split: str) -> Sequence[Example]:
        """Return the examples of a split.

        Raises:
            SourceError: the split is not declared, or its file is missing or faulty.
        """
        if split in ("train", "selection") and "selection" not in self.files:
            return self.read_split("train").select(split)
        if split not in self.files:
            raise SourceError(f"{self.path}: there is no {split} split. Add it to [splits].")
        return self.read_split(split).examples

    def read_split(self, split: str) -> StoredExamples:
        """Return the examples of a split's file.

        Raises:
            SourceError: the file is missing or faulty.
        """
        path = self.files[split]
        if not _is_file(path):
            raise SourceError(
                f"{path}: there is no such file. Fix [splits] {split} in {self.path}."
            )
        key = digest(
            [READER_VERSION, self.fields, self.labels, self.quoting, split, file_sha256(path)]
        )
        return store_examples(key, lambda: self._read_examples(path, split))

    def content(self) -> str:
        """Return a digest of fields, labels and labelled splits (not of `test` and `transfer`)."""
        contents = [
            self.read_split(split).content for split in self.files if split not in UNLABELLED_SPLITS
        ]
        return digest([self.fields, self.labels, contents])

    def load_transfer(self) -> list[Candidate]:
        """Return the unlabelled text."""
        examples = self.load("transfer")
        return [candidate for example in examples for candidate in example.candidates]

    def _read_examples(self, path: Path, split: str) -> Iterator[tuple[float, Example]]:
        """Yield examples with their split positions; a group has one position.

        Every declared field is required, except label and group in `test` and `transfer`, and idx
        in `transfer`.
        """
        labelled = split not in UNLABELLED_SPLITS
        fields = self.fields
        labels = fields.get("choices", self.labels)
        groups: dict[str, int] = {}
        integers = IntegerLabels()
        rows = read_rows(path, "Correct the line, or [fields] in task.toml.", self.quoting)
        for number, row in enumerate(rows):
            text = row.get_string(fields["text"])
            pairs = [fields["pair"]] if "pair" in fields else fields.get("choices", [])
            candidates = tuple((text, row.get_string(pair)) for pair in pairs) or ((text,),)
            label = -1
            if labelled:
                field = fields["label"]
                label = row.get_label(field, labels)
                line = row.location.rpartition(": ")[2]
                if conflict := integers.find_conflict(row.values[field], line, labels):
                    raise row.error(f"{field}: {conflict}")
            group, key = -1, text
            if "group" in fields and labelled:
                key = str(row.get_scalar(fields["group"]))
                group = groups.setdefault(key, len(groups))
            idx: str | int | float = number
            has_idx = "idx" in fields or row.values.get("idx") is not None
            if has_idx and split != "transfer":
                idx = row.get_scalar(fields.get("idx", "idx"))
            yield compute_split_position(key), Example(candidates, label, group, idx=idx)


def read_task(path: Path, reserved: Container[str] = ()) -> Task:
    """Return the task that a `task.toml` declares.

    Args:
        path: the file.
        reserved: names that the task must not have: those of the built-in tasks.

    Raises:
        ManifestError: the declaration has faults; the message names all of them.
    """
    path = path.expanduser().resolve()
    data, faults = read_toml(path), Faults(path)
    faults.check_keys("", data, (*KEYS, "fields", "splits"))
    fields, splits = faults.get_table(data, "fields"), faults.get_table(data, "splits")
    faults.check_keys("[fields] ", fields, FIELDS)
    faults.check_keys("[splits] ", splits, SPLITS)
    name, title = faults.get_string(data, "name"), faults.get_string(data, "title")
    if name in reserved:
        faults.add(f"name {name!r} is that of a built-in task. Choose another.")
    elif not name.replace("-", "").replace("_", "").isalnum():
        faults.add(f"name {name!r}: use only letters, digits, '-' and '_'.")
    metric = faults.get_choice(data, "metric", LABEL_METRICS)
    max_length = faults.get_integer(data, "max_length", 8, 8192, 128)
    latency_bound = faults.get_number(data, "latency_bound_ms", 0.1, 60_000, 50)
    labels = ("wrong", "right") if "choices" in fields else faults.get_strings(data, "labels")
    _check_fields(faults, fields)
    _check_metric(faults, "choices" in fields, labels, metric)
    for split in SPLITS:
        if split not in splits and split in ("train", "validation"):
            faults.add(f"[splits] {split} is missing; it must be the name of a file.")
        elif split in splits and not isinstance(splits[split], str):
            faults.add(f"[splits] {split} = {splits[split]!r} must be the name of a file.")
    if "quoting" in data:
        faults.get_choice(data, "quoting", tuple(QUOTING))
    faults.raise_any()
    files = {
        split: path.parent / _expand_home(splits[split]) for split in SPLITS if split in splits
    }
    custom_data = CustomData(fields, labels, files, path, str(data.get("quoting", "")))
    return Task(
        name=name,
        title=title,
        edition="own",
        labels=labels,
        metric=metric,
        max_length=max_length,
        latency_bound_ms=float(latency_bound),
        source=str(data.get("source", path.name)),
        licence=str(data.get("licence", "licence not stated")),
        load=custom_data.load,
        available_locally=lambda: all(map(_is_file, files.values())),
        transfer=_build_transfer(custom_data),
        content=custom_data.content,
        path=path,
        prediction_format=predictions_by_label(fields.get("choices", labels)),
    )


def _expand_home(name: str) -> Path:
    try:
        return Path(name).expanduser()
    except RuntimeError:  # there is no such user
        return Path(name)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # the name is too long for a file
        return False


def _check_fields(faults: Faults, fields: dict[str, Any]) -> None:
    for key in ("text", "label", "pair", "group", "idx"):
        if key not in fields and key in ("text", "label"):
            faults.add(f"[fields] {key} is missing; it must be the name of a field.")
        elif key in fields and (not isinstance(fields[key], str) or not fields[key].strip()):
            faults.add(f"[fields] {key} = {fields[key]!r} must be the name of a field.")
    if "choices" not in fields:
        return
    choices = fields["choices"]
    if (
        not isinstance(choices, list)
        or not all(isinstance(choice, str) and choice.strip() for choice in choices)
        or len(set(choices)) < max(2, len(choices))
        or "pair" in fields
    ):
        faults.add("[fields] choices must be a list of two or more different fields, without pair.")


def _check_metric(faults: Faults, choices: bool, labels: Sequence[str], metric: str) -> None:
    if choices and metric != "accuracy":
        faults.add(f"metric = {metric!r}: a task with choices is scored by 'accuracy'.")
    if not choices and labels and (len(labels) < 2 or len(set(labels)) < len(labels)):
        faults.add("labels must be two or more different strings.")
    if metric in ("f1", "matthews") and len(labels) != 2:
        faults.add(
            f"metric = {metric!r} needs two labels, of which the second is the positive one."
        )


def _build_transfer(data: CustomData) -> Transfer | None:
    if "transfer" not in data.files:
        return None
    path = data.files["transfer"]
    if not path.is_file():
        raise ManifestError(f"{path}: there is no such file. Fix [splits] transfer.")
    return Transfer(file_sha256(path), data.load_transfer)
