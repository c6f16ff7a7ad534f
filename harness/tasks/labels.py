"""Labels: what a value of a data file stands for."""

import math
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")


def label_of(value: Any, labels: Sequence[str]) -> tuple[int, bool] | None:
    """The label that a value of a data file stands for.

    A value whose text is a label's name is that label, and so is a number that equals a name; only
    otherwise an integer (also `"0"` in CSV, `1.0`, true and false) is a position, counted from 0.
    `true` has the text `true`, `True` or `TRUE`.

    Returns: the label's index, and whether the value is a position; None where it is neither.
    """
    if not isinstance(value, str | int | float | Decimal):
        return None
    text = str(value)
    texts = [text]
    if text.lower() in ("true", "false"):
        texts += [text.lower(), text.capitalize(), text.upper()]
    for each in texts:
        if each in labels:
            return labels.index(each), False
    number = as_number(value)
    if number is None:
        return None
    equal = [at for at, name in enumerate(labels) if as_number(name, words=False) == number]
    if equal:
        return (equal[0], False) if len(equal) == 1 else None
    if isinstance(value, ClassName) and NUMBER.fullmatch(value):
        return None
    return (int(number), True) if number in range(len(labels)) else None


class ClassName(str):
    """The name of a class of a Parquet file; where it is a number, that is no position."""

    __slots__ = ()


def as_number(value: Any, words: bool = True) -> Decimal | None:
    """A number, or a text that is one; None for anything else. words: true is 1 and false is 0."""
    if isinstance(value, str):
        if words and value.lower() in ("true", "false"):
            value = "1" if value.lower() == "true" else "0"
        return Decimal(value) if NUMBER.fullmatch(value) else None
    if isinstance(value, int):
        return Decimal(int(value))
    finite = isinstance(value, float | Decimal) and math.isfinite(value)
    return Decimal(str(value)) if finite else None


def class_label(number: int, names: Sequence[str]) -> int | ClassName | None:
    """A class of a Parquet file by its name; by its number where that is its name; None where it is
    negative, which stands for no label.

    Raises: ValueError if there are not so many classes.
    """
    if number < 0:
        return None
    if number >= len(names):
        raise ValueError(f"class {number}, but there are only {len(names)} names")
    return number if names[number] == str(number) else ClassName(names[number])


class Integers:
    """Refuses a file in which some integers are labels' names and others are positions."""

    def __init__(self) -> None:
        self.first: dict[bool, str] = {}  # whether it is a position: where, and which

    def conflict(self, value: Any, place: str, labels: Sequence[str]) -> str:
        """What is wrong with a value that is read otherwise than one before it; '' if nothing is.

        place: of the value in the file, for the message about a later one.
        """
        label = label_of(value, labels)
        if label is None or as_number(value) is None:
            return ""
        position = label[1]
        self.first.setdefault(position, f"{value!r} in {place}")
        if other := self.first.get(not position):
            name, number = (other, repr(value)) if position else (repr(value), other)
            return (
                f"{number} is no label's name, so it would be a position, but {name} is a "
                "name. Write the names"
            )
        return ""
