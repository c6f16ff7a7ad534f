"""Data files of every format, and a task of two columns."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.tasks.registry import get_task
from harness.tasks.task import Task, _examples


def written(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """A file of the format that its suffix says."""
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".parquet":
        from datasets import Dataset

        Dataset.from_list(list(rows)).to_parquet(path)
    else:
        with path.open("w", newline="") as file:
            comma = "," if path.suffix == ".csv" else "\t"
            writer = csv.DictWriter(file, list(rows[0]), delimiter=comma)
            writer.writeheader()
            writer.writerows(rows)


def declared(folder: Path, suffix: str, labels: Sequence[str], **keys: str) -> Path:
    """A task whose `rows` file has the columns text and label; keys: more of `[fields]`."""
    folder.mkdir(parents=True, exist_ok=True)
    fields = "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())
    path = folder / "task.toml"
    path.write_text(
        f'name = "mine"\ntitle = "Mine"\nmetric = "accuracy"\nlabels = {json.dumps(labels)}\n'
        f'[fields]\ntext = "text"\nlabel = "label"\n{fields}'
        f'[splits]\ntrain = "rows.{suffix}"\nvalidation = "rows.{suffix}"\n'
    )
    return path


def loaded(path: Path) -> Task:
    _examples.cache_clear()
    return get_task(str(path))
