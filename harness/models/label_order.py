"""The labels of a checkpoint in the order of the task, matched by name."""

import json
import re
import unicodedata
from pathlib import Path
from typing import Any

from harness.errors import BuildError
from harness.tasks.task import Task


def find_label_order(config: dict[str, Any], task: Task, folder: Path) -> list[int]:
    """Return for each label of the task the model's number of it.

    Names are compared literally; then ignoring case; then ignoring also spaces and punctuation
    between words. A comparison counts only if it keeps all names distinct. LABEL_0, LABEL_1, ...
    are positions.

    Args:
        config: the content of the checkpoint's config.json.
        task: has the labels.
        folder: the checkpoint's folder, for error messages.

    Raises:
        BuildError: the labels differ, or `id2label` does not map numbers to names.
    """
    path = folder / "config.json"
    table = config.get("id2label")
    if table is None:
        table = {str(number): f"LABEL_{number}" for number in range(len(task.labels))}
    numbers = [str(number) for number in range(len(table))] if isinstance(table, dict) else []
    if not numbers or sorted(map(str, table), key=str) != sorted(numbers):
        raise BuildError(
            f"{path}: id2label is {json.dumps(table)[:80]}, but must map 0, 1, ... to names. "
            'Write {"0": ..., "1": ...}.'
        )
    by_number = {str(number): str(name) for number, name in table.items()}
    names = [by_number[number] for number in numbers]
    for normalize in (str, _fold_case, _join_words):
        model_labels = [normalize(name) for name in names]
        task_labels = [normalize(name) for name in task.labels]
        distinct = len(set(model_labels)) == len(model_labels) == len(task_labels)
        if distinct and set(model_labels) == set(task_labels):
            return [model_labels.index(name) for name in task_labels]
    positions = [re.sub(r"^label_?", "", name.lower()) for name in names]
    if len(names) == len(task.labels) and positions == numbers and positions != names:
        return list(range(len(names)))
    raise BuildError(
        f"{path}: id2label has {', '.join(names)}, but {task.name} has "
        f"{', '.join(task.labels)}. Rename the labels of one of them, or choose another task."
    )


def _fold_case(name: str) -> str:
    return " ".join(unicodedata.normalize("NFC", name).casefold().split())


def _join_words(name: str) -> str:
    """Remove spaces and punctuation next to a letter, but not signs (-1, C++, C#, A-, .5)."""
    letter = r"[^\W\d_]"
    name = re.sub(rf"(?<={letter})[-\s]+(?=\w)|(?<=\w)[-\s]+(?={letter})", "", _fold_case(name))
    marks = r"""[\s_.,:;!?'"()\[\]/]+"""
    return re.sub(rf"(?<={letter}){marks}|{marks}(?={letter})", "", name)
