"""Labels: which label a value of a data file stands for."""

import math
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")


def parse_label(value: Any, labels: Sequence[str]) -> tuple[int, bool] | None:
    """Return the label that a value of a data file stands for; blanks around it do not count.

    A string that is the name of a label stands for that label, and so does a number that equals a
    name. Only otherwise an integer (also `"0"` in CSV, `1.0`, true and false) is a position,
    counted from 0. The boolean `true` matches the names `true`, `True` and `TRUE`.

    Returns:
        The index of the label, and whether the value is a position; None if it is neither a name
        nor a position.
    """
    if not isinstance(value, str | int | float | Decimal):
        return None
    text = str(value).strip()
    spellings = [text]
    if text.lower() in ("true", "false"):
        spellings += [text.lower(), text.capitalize(), text.upper()]
    for spelling in spellings:
        if spelling in labels:
            return labels.index(spelling), False
    number = parse_number(value)
    if number is None:
        return None
    equal = [
        index for index, name in enumerate(labels) if parse_number(name, booleans=False) == number
    ]
    if equal:
        return (equal[0], False) if len(equal) == 1 else None
    if isinstance(value, ClassName) and NUMBER.fullmatch(text):
        return None
    return (int(number), True) if number in range(len(labels)) else None


class ClassName(str):
    """The name of a class of a Parquet file; even if it is a number, it is not a position."""

    __slots__ = ()


def parse_number(value: Any, booleans: bool = True) -> Decimal | None:
    """Return the value of a number, or of a string that is one; None for anything else.

    Args:
        value: the value of a data file.
        booleans: whether the strings true and false are 1 and 0.
    """
    if isinstance(value, str):
        value = value.strip()
        if booleans and value.lower() in ("true", "false"):
            value = "1" if value.lower() == "true" else "0"
        return Decimal(value) if NUMBER.fullmatch(value) else None
    if isinstance(value, int):
        return Decimal(int(value))
    finite = isinstance(value, float | Decimal) and math.isfinite(value)
    return Decimal(str(value)) if finite else None


def parse_class(number: int, names: Sequence[str]) -> int | ClassName | None:
    """Return a class of a Parquet file by its name.

    Returns:
        The name; the number itself if that is the name; None for a negative number, which stands
        for no label.

    Raises:
        ValueError: there are not so many classes.
    """
    if number < 0:
        return None
    if number >= len(names):
        raise ValueError(f"class {number}, but there are only {len(names)} names")
    return number if names[number] == str(number) else ClassName(names[number])


class IntegerLabels:
    """Finds files in which some integers are names of labels and others are positions."""

    def __init__(self) -> None:
        self.first: dict[bool, str] = {}
        """By whether it is a position: the first value of that kind, and its location."""

    def find_conflict(self, value: Any, location: str, labels: Sequence[str]) -> str:
        """Return what is wrong with a value, given the values before it; '' if nothing is.

        Args:
            value: the next value of the file.
            location: where it is, such as 'line 3'.
            labels: the names of the labels.
        """
        label = parse_label(value, labels)
        if label is None or parse_number(value) is None:
            return ""
        position = label[1]
        self.first.setdefault(position, f"{value!r} in {location}")
        if other := self.first.get(not position):
            name, number = (other, repr(value)) if position else (repr(value), other)
            return (
                f"{number} is not the name of a label, so it would be a position, but {name} is "
                "the name of one. Write the names"
            )
        return ""
