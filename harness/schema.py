"""What TOML files declare: read, and checked so that all faults are said at once."""

import difflib
import json
import tomllib
import types
import typing
from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from harness.errors import ManifestError


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file. Raises: ManifestError with the line if it is not TOML."""
    if not path.is_file():
        raise ManifestError(f"{path}: there is no such file.")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise ManifestError(f"{path}: {error}. Correct it there.") from None


def nearest(name: str, known: Iterable[str]) -> str:
    """' Did you mean ...?' with the known name nearest to this one, or the list of all."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    close = close or [each for each in names if name and name in each]
    return f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(names) or 'none'}."


class Faults:
    """Collects the faults of a file. The readers note a fault and return an empty value."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: list[str] = []

    def add(self, fault: str) -> None:
        """Note a fault; the file's path is put before it."""
        self.lines.append(f"{self.path}: {fault}")

    def raise_any(self) -> None:
        """Raises: ManifestError with every fault, a line each."""
        if self.lines:
            raise ManifestError("\n".join(self.lines))

    def keys(self, place: str, given: dict[str, Any], known: Sequence[str]) -> bool:
        """Whether all keys are known."""
        unknown = [key for key in given if key not in known]
        for key in unknown:
            self.add(f"{place}unknown key {key!r}. {nearest(key, known)}")
        return not unknown

    def table(self, data: dict[str, Any], key: str, above: str = "") -> dict[str, Any]:
        """A table; one that is missing is empty."""
        value = data.get(key, {})
        if isinstance(value, dict):
            return value
        self.add(f"{key} must be a table, written as [{above}{key}].")
        return {}

    def text(self, data: dict[str, Any], key: str) -> str:
        """A text that must be there."""
        value = data.get(key, "")
        if not isinstance(value, str) or not value.strip():
            self.add(f"{key} is missing or empty; it must be a text.")
            return ""
        return value

    def texts(self, data: dict[str, Any], key: str) -> tuple[str, ...]:
        """A list of texts that must be there."""
        value = data.get(key)
        if (
            isinstance(value, list)
            and value
            and all(isinstance(each, str) and each.strip() for each in value)
        ):
            return tuple(value)
        if not value:
            self.add(f"{key} is missing or empty; it must be a list of texts.")
        elif isinstance(value, list) and value and all(isinstance(one, int) for one in value):
            texts = json.dumps([str(one) for one in value])
            self.add(f"{key} = {value!r} must be a list of texts. Write {texts}.")
        else:
            self.add(f"{key} = {value!r} must be a list of texts, none of them empty.")
        return ()

    def choice(self, data: dict[str, Any], key: str, choices: Sequence[str]) -> str:
        """One of several texts."""
        value = data.get(key)
        if value not in choices:
            self.add(f"{key} = {value!r}: choose {', '.join(map(repr, choices))}.")
        return str(value)

    def number(
        self, data: dict[str, Any], key: str, low: float, high: float, usual: float
    ) -> float:
        """A number between two others; `usual` where it is missing."""
        value = data.get(key, usual)
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not low <= value <= high
        ):
            self.add(f"{key} = {value!r}: choose {low:g}..{high:g}.")
            return usual
        return value

    def whole(self, data: dict[str, Any], key: str, low: int, high: int, usual: int) -> int:
        """A whole number between two others; `usual` where it is missing."""
        value = self.number(data, key, low, high, usual)
        if value != int(value):
            self.add(f"{key} = {value!r} must be a whole number.")
        return int(value)


def params(faults: Faults, place: str, schema: type, given: dict[str, Any]) -> Any:
    """An instance of the step's dataclass, or None where a value has the wrong type."""
    hints = typing.get_type_hints(schema)
    known = {each.name for each in fields(schema)}
    if not faults.keys(place, given, sorted(known)):
        return None
    read = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
    for key, value in read.items():
        if not _fits(value, hints[key]):
            faults.add(f"{place}{key} = {given[key]!r} must be {_type_name(hints[key])}.")
            return None
    return schema(**read)


def _fits(value: Any, hint: Any) -> bool:
    if typing.get_origin(hint) is types.UnionType:
        return any(_fits(value, each) for each in typing.get_args(hint))
    if typing.get_origin(hint) is tuple:
        kind = typing.get_args(hint)[0]
        return isinstance(value, tuple) and all(_fits(each, kind) for each in value)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, hint) and not (hint is int and isinstance(value, bool))


def _type_name(hint: Any) -> str:
    if typing.get_origin(hint) is types.UnionType:
        return " or ".join(_type_name(each) for each in typing.get_args(hint))
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    if typing.get_args(hint):
        kinds = {int: "whole numbers", float: "numbers", str: "names"}
        return f"a list of {kinds[typing.get_args(hint)[0]]}"
    return names[hint]
