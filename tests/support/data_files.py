"""Data files of every format, and a custom task with two columns."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.tasks.registry import get_task
from harness.tasks.task import Task, _load_examples


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write a file in the format that its suffix names."""
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".parquet":
        from datasets import Dataset

        Dataset.from_list(list(rows)).to_parquet(path)
    else:
        with path.open("w", newline="") as file:
            delimiter = "," if path.suffix == ".csv" else "\t"
            writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
            writer.writeheader()
            writer.writerows(rows)


def write_task(folder: Path, suffix: str, labels: Sequence[str], **keys: str) -> Path:
    """Write a task.toml whose `rows` file has the columns text and label.

    Args:
        folder: where the file is write_rows.
        suffix: that of the data file, without a dot.
        labels: names of the labels.
        keys: more keys of `[fields]`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    fields = "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())
    path = folder / "task.toml"
    path.write_text(
        f'name = "mine"\ntitle = "Mine"\nmetric = "accuracy"\nlabels = {json.dumps(labels)}\n'
        f'[fields]\ntext = "text"\nlabel = "label"\n{fields}'
        f'[splits]\ntrain = "rows.{suffix}"\nvalidation = "rows.{suffix}"\n'
    )
    return path


def load_task(path: Path) -> Task:
    """Read a task.toml; its examples are read again, too."""
    _load_examples.cache_clear()
    return get_task(str(path))
