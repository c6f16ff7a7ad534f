"""Anyone's own task: a `task.toml` beside the data, and no Python.

The file says which fields are the text and the label, and where the splits lie; the data is JSONL,
CSV, TSV or Parquet. Its version is a digest of the declaration and of all its data.
"""

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import ManifestError, SourceError
from harness.schema import Faults, read_toml
from harness.store.cache import digest, file_sha256
from harness.tasks.delimited import QUOTING
from harness.tasks.labels import Integers
from harness.tasks.readers import Stored, read_rows, stored
from harness.tasks.splits import split_position
from harness.tasks.task import Candidate, Example, Task, Transfer, predictions_by_label

KEYS = (
    *("name", "title", "labels", "metric", "max_length", "latency_bound_ms", "source", "licence"),
    "quoting",
)
FIELDS = ("text", "pair", "choices", "label", "group", "idx")
READING = 2
"""Counts up when the same file gives other examples than before."""

SPLITS = ("train", "selection", "validation", "test", "transfer")
PLAIN = ("accuracy", "f1", "macro-f1", "matthews", "accuracy+macro-f1")
"""Metrics that need nothing but labels."""


@dataclass(frozen=True)
class CustomData:
    """What a `task.toml` says of its rows: the fields' names, the labels, the splits' files, and
    how CSV and TSV are quoted ('': as is usual for the format).
    """

    fields: dict[str, Any]
    labels: tuple[str, ...]
    files: dict[str, Path]
    quoting: str = ""

    def load(self, split: str) -> Sequence[Example]:
        """The examples of a split. Raises: SourceError if it has no file, or a faulty one."""
        if split in ("train", "selection") and "selection" not in self.files:
            return self.opened("train").part(split)
        if split not in self.files:
            where = self.files["train"].parent / "task.toml"
            raise SourceError(f"{where}: there is no {split} split. Add it to [splits].")
        return self.opened(split).examples

    def opened(self, split: str) -> Stored:
        """The file of a split, as examples."""
        path = self.files[split]
        if not _is_file(path):
            raise SourceError(f"{path}: there is no such file. Mend [splits] {split}.")
        key = digest(
            [READING, self.fields, self.labels, self.quoting, split, file_sha256(path)],
        )
        return stored(key, lambda: self._examples(path, split))

    def content(self) -> str:
        """A digest of the labelled examples and of what is said of them."""
        found = [
            self.opened(each).content for each in self.files if each not in ("test", "transfer")
        ]
        return digest([self.fields, self.labels, found])

    def transfer(self) -> list[Candidate]:
        """The unlabelled texts."""
        return [row for each in self.load("transfer") for row in each.candidates]

    def _examples(self, path: Path, split: str) -> Iterator[tuple[float, Example]]:
        """With their positions: rows of one group fall into the same slice.

        Every declared field must be there, except label and group in `test`, and idx, too, in
        `transfer`.
        """
        known = split not in ("test", "transfer")
        groups: dict[str, int] = {}
        names = self.fields
        labels = names.get("choices", self.labels)
        integers = Integers()
        rows = read_rows(path, "Correct the line, or [fields] in task.toml.", self.quoting)
        for number, row in enumerate(rows):
            text = row.text(names["text"])
            pairs = [names["pair"]] if "pair" in names else names.get("choices", [])
            candidates = tuple((text, row.text(each)) for each in pairs) or ((text,),)
            label = -1
            if known:
                label = row.label(names["label"], labels)
                place = row.place.rpartition(": ")[2]
                if conflict := integers.conflict(row.values[names["label"]], place, labels):
                    raise row.fault(f"{names['label']}: {conflict}")
            group, key = -1, text
            if "group" in names and known:
                key = str(row.scalar(names["group"]))
                group = groups.setdefault(key, len(groups))
            numbered = "idx" in names or row.values.get("idx") is not None
            idx: Any = number
            if numbered and split != "transfer":
                idx = row.scalar(names.get("idx", "idx"))
            yield split_position(key), Example(candidates, label, group, idx=idx)


def read(path: Path, reserved: Container[str] = ()) -> Task:
    """The task that a file declares.

    Args:
        path: the `task.toml`.
        reserved: names that it must not have: those of built-in tasks.

    Raises:
        ManifestError: every fault of the declaration.
    """
    path = path.expanduser().resolve()
    data, faults = read_toml(path), Faults(path)
    faults.keys("", data, (*KEYS, "fields", "splits"))
    fields, splits = faults.table(data, "fields"), faults.table(data, "splits")
    faults.keys("[fields] ", fields, FIELDS)
    faults.keys("[splits] ", splits, SPLITS)
    name, title = faults.text(data, "name"), faults.text(data, "title")
    if name in reserved or not name.replace("-", "").replace("_", "").isalnum():
        faults.add(f"name {name!r} is a built-in task's, or not made of letters, digits, - and _.")
    metric = faults.choice(data, "metric", PLAIN)
    max_length = faults.whole(data, "max_length", 8, 8192, 128)
    bound = faults.number(data, "latency_bound_ms", 0.1, 60_000, 50)
    labels = ("wrong", "right") if "choices" in fields else faults.texts(data, "labels")
    _check_fields(faults, fields, labels, metric)
    for split in SPLITS:
        if split not in splits and split in ("train", "validation"):
            faults.add(f"[splits] {split} is missing; it must be a file's name.")
        elif split in splits and not isinstance(splits[split], str):
            faults.add(f"[splits] {split} = {splits[split]!r} must be a file's name.")
    if "quoting" in data:
        faults.choice(data, "quoting", tuple(QUOTING))
    faults.raise_any()
    files = {split: path.parent / _expanded(splits[split]) for split in SPLITS if split in splits}
    form = CustomData(fields, labels, files, str(data.get("quoting", "")))
    return Task(
        name=name,
        title=title,
        edition="own",
        labels=labels,
        metric=metric,
        max_length=max_length,
        latency_bound_ms=float(bound),
        source=str(data.get("source", path.name)),
        licence=str(data.get("licence", "not said")),
        load=form.load,
        available_locally=lambda: all(map(_is_file, files.values())),
        transfer=_transfer(form),
        content=form.content,
        path=path,
        prediction_format=predictions_by_label(fields.get("choices", labels)),
    )


def _expanded(name: str) -> Path:
    """With `~` as the home folder, where there is one."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        return Path(name)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long for a file
        return False


def _check_fields(
    faults: Faults, fields: dict[str, Any], labels: Sequence[str], metric: str
) -> None:
    for key in ("text", "label", "pair", "group", "idx"):
        if key not in fields and key in ("text", "label"):
            faults.add(f"[fields] {key} is missing; it must be the name of a field.")
        elif key in fields and (not isinstance(fields[key], str) or not fields[key].strip()):
            faults.add(f"[fields] {key} = {fields[key]!r} must be the name of a field.")
    choices = fields.get("choices", ["a", "b"])
    if (
        not isinstance(choices, list)
        or not all(isinstance(each, str) and each.strip() for each in choices)
        or len(set(choices)) < max(2, len(choices))
        or ("pair" in fields and "choices" in fields)
    ):
        faults.add("[fields] choices must be a list of two or more different fields, without pair.")
    if "choices" in fields and metric != "accuracy":
        faults.add(f"metric = {metric!r}: a choice is scored by 'accuracy'.")
    if "choices" not in fields and labels and (len(labels) < 2 or len(set(labels)) < len(labels)):
        faults.add("labels must be at least two different texts.")
    if metric in ("f1", "matthews") and len(labels) != 2:
        faults.add(
            f"metric = {metric!r} needs two labels, of which the second is the positive one."
        )


def _transfer(form: CustomData) -> Transfer | None:
    if "transfer" not in form.files:
        return None
    path = form.files["transfer"]
    if not path.is_file():
        raise ManifestError(f"{path}: there is no such file. Mend [splits] transfer.")
    return Transfer(file_sha256(path), form.transfer)
