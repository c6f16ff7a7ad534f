"""Custom tasks: a `task.toml` beside the data, without Python.

The file declares which fields hold the text and the label, and the files of the splits (JSONL, CSV,
TSV or Parquet). The version of the task is a digest of the declaration and of all its data.
"""

import shutil
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import AfterValidator, BeforeValidator, Field

from harness.errors import SourceError
from harness.schema import Expected, Faults, Number, Schema, Text, read_toml, to_tuple
from harness.store.cache import digest, expand_home, file_sha256, resolve_path
from harness.tasks.labels import IntegerLabels
from harness.tasks.readers import read_rows
from harness.tasks.splits import compute_split_position
from harness.tasks.stored_examples import StoredExamples, store_examples
from harness.tasks.task import Candidate, Example, Task, Transfer, predictions_by_label

UNLABELLED_SPLITS = ("test", "transfer")

Name = Annotated[Text, AfterValidator(str.strip)]
"""A name without the blanks around it."""

Names = Annotated[tuple[Name, ...], BeforeValidator(to_tuple), Field(min_length=1)]


def _write_integers(value: Any) -> Any:
    """Return a list with its integers as strings."""
    names = to_tuple(value)
    if not isinstance(names, tuple):
        return value
    return tuple(str(name) if type(name) is int else name for name in names)


Labels = Annotated[Names, BeforeValidator(_write_integers)]
"""Names of labels, which may be written as integers."""

FieldName = Annotated[Name, Expected("the name of a field")]
FileName = Annotated[str, Expected("the name of a file")]


class FieldNames(Schema):
    """The table `[fields]`: the names of the fields of a row; '' and () for none."""

    text: FieldName = Field(description="the text")
    label: FieldName = Field(
        description="the label: the name of one, or its position in `labels`, counted from 0"
    )
    pair: FieldName = Field("", description="the second text, which is encoded as the text's pair")
    choices: Annotated[Names, Expected("a list of two or more different fields, without pair")] = (
        Field((), description="two or more texts, which are scored one by one; instead of `pair`")
    )
    group: FieldName = Field(
        "",
        description="what examples of one group have in common: they stay in one slice and are "
        "resampled together",
    )
    idx: FieldName = Field(
        "", description="the number of the example in prediction files (default: its position)"
    )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that are declared, for digests."""
        return {key: value for key, value in self.model_dump().items() if value}

    def get_names(self) -> set[str]:
        """Return the names of all declared fields."""
        return {self.text, self.label, self.pair, self.group, self.idx, *self.choices}


class SplitFiles(Schema):
    """The table `[splits]`: the file of each split; '' for none."""

    train: FileName = Field(description="examples to train on: .jsonl, .csv, .tsv or .parquet")
    selection: FileName = Field(
        "", description="examples to select and calibrate on (default: a tenth of `train`)"
    )
    validation: FileName = Field(description="the reported split, on which scores are computed")
    test: FileName = Field("", description="examples for predictions; labels are not needed")
    transfer: FileName = Field("", description="unlabelled text for distillation")


class TaskFile(Schema):
    """A `task.toml` without its tables."""

    name: Text = Field(description="letters, digits, `-` and `_`; not that of a built-in task")
    title: Text = Field("", description="the question of the task, in one line (default: its name)")
    labels: Labels = Field(
        (),
        description="the names of the labels, strings or integers; none for a task with choices",
        json_schema_extra={"items": {"anyOf": [{"type": "string"}, {"type": "integer"}]}},
    )
    metric: Literal["accuracy", "f1", "macro-f1", "matthews", "accuracy+macro-f1"] = Field(
        description="the score; `f1` and `matthews` need two labels, the second is the positive one"
    )
    max_length: int = Field(
        128,
        ge=8,
        le=8192,
        description="in tokens; longer texts are truncated, and the padded reference pads to it",
    )
    latency_bound_ms: Number = Field(
        50, ge=0.1, le=60_000, description="the p99 latency allowed in the scenario `server`"
    )
    source: str = Field("", description="where the data comes from")
    licence: str = Field("licence not stated", description="licence of the data")
    quoting: Literal["", "minimal", "none"] = Field(
        "",
        description="quotation marks in CSV and TSV: `minimal` if they enclose fields, `none` if "
        "they are ordinary characters (default: `minimal` for .csv, `none` for .tsv)",
    )


READER_VERSION = 3
"""Increases whenever the same file gives other examples than before."""


@dataclass(frozen=True)
class CustomData:
    """The data that a `task.toml` declares.

    Attributes:
        fields: the names of the fields of a row.
        labels: the names of the labels.
        files: the file of each split.
        path: the `task.toml`.
        quoting: how CSV and TSV are quoted; '' for the usual way of the format.
    """

    fields: FieldNames
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
            raise SourceError(
                f"{self.path}: there is no {split} split. Add it to [splits], or choose another."
            )
        return self.read_split(split).examples

    def read_split(self, split: str) -> StoredExamples:
        """Return the examples of a split's file.

        Raises:
            SourceError: the file is missing or faulty.
        """
        path = self.files[split]
        sha256 = self.compute_sha256(split)
        declared = self.fields.to_dict(), self.labels, self.quoting, path.suffix.lower()
        key = digest([READER_VERSION, *declared, split, sha256])

        def read_unchanged() -> Iterator[tuple[float, Example]]:
            yield from self._read_examples(path, split)
            if self.compute_sha256(split) != sha256:
                raise SourceError(f"{path}: it changed while it was read. Run the command again.")

        return store_examples(key, read_unchanged, f"{split} of {self.path}: {path}")

    def compute_sha256(self, split: str) -> str:
        """Return the digest of a split's file.

        Raises:
            SourceError: it cannot be read.
        """
        path = self.files[split]
        try:
            if path.is_file():
                return file_sha256(path)
            reason = "it is not a file" if path.exists() else "there is no such file"
        except OSError as error:  # it may not be read, or its name is too long
            reason = error.strerror or str(error)
        raise SourceError(f"{path}: {reason}. Fix [splits] {split} in {self.path}.")

    def content(self) -> str:
        """Return a digest of fields, labels and labelled splits (not of `test` and `transfer`)."""
        contents = [
            self.read_split(split).content for split in self.files if split not in UNLABELLED_SPLITS
        ]
        return digest([self.fields.to_dict(), self.labels, contents])

    def load_transfer(self) -> list[Candidate]:
        """Return the unlabelled text."""
        examples = self.load("transfer")
        return [candidate for example in examples for candidate in example.candidates]

    def pack(self, data: Path, examples: int) -> str:
        """Copy the `task.toml` and its files into a folder, as `Task.pack`.

        Raises:
            SourceError: a file is missing, or only a part of the training file is wanted.
        """
        declaration = read_toml(self.path)
        if examples:
            raise SourceError(
                f"{self.path}: --examples takes a part of SuperGLUE's tasks alone. Shorten "
                f"{self.files['train'].name} itself, and leave --examples out."
            )
        folder = data / "tasks" / str(declaration["name"])
        folder.mkdir(parents=True, exist_ok=True)
        for split, path in self.files.items():
            self.compute_sha256(split)  # says what is wrong with the file
            shutil.copyfile(path, folder / f"{split}{path.suffix}")
            declaration["splits"][split] = f"{split}{path.suffix}"
        (folder / "task.toml").write_text(tomli_w.dumps(declaration))
        return str((folder / "task.toml").relative_to(data))

    def _read_examples(self, path: Path, split: str) -> Iterator[tuple[float, Example]]:
        """Yield examples with their split positions; a group has one position.

        Every declared field is required, except label and group in `test` and `transfer`, and idx
        in `transfer`.
        """
        labelled = split not in UNLABELLED_SPLITS
        fields = self.fields
        labels = fields.choices or self.labels
        groups: dict[str, int] = {}
        integers = IntegerLabels()
        first_lines: dict[str | int | float, str] = {}
        columns = {"idx", *self.fields.get_names()}
        rows = read_rows(path, "Correct the file, or task.toml.", self.quoting, columns)
        for number, row in enumerate(rows):
            text = row.get_string(fields.text)
            pairs = [fields.pair] if fields.pair else fields.choices
            candidates = tuple((text, row.get_string(pair)) for pair in pairs) or ((text,),)
            label = -1
            if labelled:
                field = fields.label
                label = row.get_label(field, labels)
                line = row.location.rpartition(": ")[2]
                if conflict := integers.find_conflict(row.values[field], line, labels):
                    raise row.error(f"{field}: {conflict}")
            group, key = -1, text
            if fields.group and labelled:
                key = str(row.get_scalar(fields.group))
                group = groups.setdefault(key, len(groups))
            idx: str | int | float = number
            has_idx = fields.idx or row.values.get("idx") is not None
            if has_idx and split != "transfer":
                idx = row.get_scalar(fields.idx or "idx")
            if split == "test" and first_lines.setdefault(idx, row.location) != row.location:
                line = first_lines[idx].rpartition(": ")[2]
                raise row.error(f"{fields.idx or 'idx'} is {idx!r}, like that of {line}")
            yield compute_split_position(key), Example(candidates, label, group, idx=idx)


def read_task(path: Path, reserved: Container[str] = ()) -> Task:
    """Return the task that a `task.toml` declares.

    Args:
        path: the file.
        reserved: names that the task must not have: those of the built-in tasks.

    Raises:
        ManifestError: the declaration has faults; the message names all of them.
    """
    path = resolve_path(path)
    data, faults = read_toml(path), Faults(path)
    tables = {key: faults.get_table(data, key) for key in ("fields", "splits")}
    known = {key: value for key, value in data.items() if key not in tables}
    declaration = faults.check(TaskFile, known, also=tables)
    fields = faults.check(FieldNames, tables["fields"], "[fields] ")
    splits = faults.check(SplitFiles, tables["splits"], "[splits] ")
    if declaration:
        _check_name(faults, declaration.name, reserved)
    if (
        fields
        and fields.choices
        and (fields.pair or len(set(fields.choices)) < max(2, len(fields.choices)))
    ):
        faults.add("[fields] choices must be a list of two or more different fields, without pair.")
    if declaration and fields:
        _check_metric(faults, bool(fields.choices), declaration)
    faults.raise_any()
    assert declaration
    assert fields
    assert splits
    labels = ("wrong", "right") if fields.choices else declaration.labels
    names = {split: name for split, name in splits.model_dump().items() if name}
    files = {split: path.parent / expand_home(name) for split, name in names.items()}
    custom_data = CustomData(fields, labels, files, path, declaration.quoting)
    return Task(
        name=declaration.name,
        title=declaration.title or declaration.name,
        edition="own",
        labels=labels,
        metric=declaration.metric,
        max_length=declaration.max_length,
        latency_bound_ms=float(declaration.latency_bound_ms),
        source=declaration.source or path.name,
        licence=declaration.licence,
        load=custom_data.load,
        available_locally=lambda: all(map(_is_file, files.values())),
        transfer=_build_transfer(custom_data),
        content=custom_data.content,
        path=path,
        pack=custom_data.pack,
        prediction_format=predictions_by_label(fields.choices or labels),
    )


def _check_name(faults: Faults, name: str, reserved: Container[str]) -> None:
    if name in reserved:
        faults.add(f"name {name!r} is that of a built-in task. Choose another.")
    elif not name.replace("-", "").replace("_", "").isalnum() or len(name.encode()) > 100:
        faults.add(f"name {name!r}: use only letters, digits, '-' and '_', up to 100 bytes.")


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # the name is too long for a file
        return False


def _check_metric(faults: Faults, choices: bool, declaration: TaskFile) -> None:
    """Check that labels and metric fit each other, and the choices, if the task has some."""
    labels, metric = declaration.labels, declaration.metric
    if choices:
        if metric != "accuracy":
            faults.add(f"metric = {metric!r}: a task with choices is scored by 'accuracy'.")
        return
    if not labels:
        faults.add("labels is missing or empty; it must be a list of strings.")
    elif len(labels) < 2 or len(set(labels)) < len(labels):
        faults.add("labels must be two or more different strings.")
    if metric in ("f1", "matthews") and len(labels) != 2:
        faults.add(
            f"metric = {metric!r} needs two labels, of which the second is the positive one."
        )


def _build_transfer(data: CustomData) -> Transfer | None:
    if "transfer" not in data.files:
        return None
    return Transfer(data.compute_sha256("transfer"), data.load_transfer)
