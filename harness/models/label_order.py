"""A checkpoint's labels in the task's order, by their names."""

import json
import re
from pathlib import Path
from typing import Any

from harness.errors import BuildError
from harness.tasks.task import Task


def label_order(config: dict[str, Any], task: Task, folder: Path) -> list[int]:
    """For each label of the task the model's own number of it.

    Names are compared as they are; then without regard to capitals; then also to punctuation that
    separates words. A comparison counts only where it keeps all names apart. LABEL_0, LABEL_1, ...
    are positions.

    Raises: BuildError if they are other labels, or `id2label` is no table of numbers and names.
    """
    place = folder / "config.json"
    given = config.get("id2label")
    if given is None:
        given = {str(n): f"LABEL_{n}" for n in range(len(task.labels))}
    numbers = [str(number) for number in range(len(given))] if isinstance(given, dict) else []
    if not numbers or sorted(map(str, given), key=str) != sorted(numbers):
        raise BuildError(
            f"{place}: id2label is {json.dumps(given)[:80]}, not a table from 0, 1, ... to names. "
            'Write {"0": ..., "1": ...}.'
        )
    by_number = {str(number): str(name) for number, name in given.items()}
    names = [by_number[number] for number in numbers]
    for form in (str, _folded, _words):
        own, wanted = [form(name) for name in names], [form(name) for name in task.labels]
        if len(set(own)) == len(own) == len(wanted) and set(own) == set(wanted):
            return [own.index(name) for name in wanted]
    places = [re.sub(r"^label_?", "", name.lower()) for name in names]
    if len(names) == len(task.labels) and places == numbers and places != names:
        return list(range(len(names)))
    raise BuildError(
        f"{place}: id2label has {', '.join(names)}, but {task.name} has "
        f"{', '.join(task.labels)}. Rename one of them, or take another task."
    )


def _folded(name: str) -> str:
    return " ".join(name.casefold().split())


def _words(name: str) -> str:
    """Without blanks and punctuation beside a letter; what may be a sign (-1, C++, C#, A-, .5)
    stays.
    """
    letter = r"[^\W\d_]"
    name = re.sub(rf"(?<={letter})[-\s]+(?=\w)|(?<=\w)[-\s]+(?={letter})", "", name.casefold())
    marks = r"""[\s_.,:;!?'"()\[\]/]+"""
    return re.sub(rf"(?<={letter}){marks}|{marks}(?={letter})", "", name)
