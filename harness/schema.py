"""Reading TOML files and checking their values, so that one error names every fault."""

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
    """Return the content of a TOML file.

    Raises:
        ManifestError: there is no such file, or it is not TOML; the message names the line.
    """
    if not path.is_file():
        raise ManifestError(f"{path}: there is no such file.")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise ManifestError(f"{path}: {error}. Correct it there.") from None


def suggest_name(name: str, known: Iterable[str]) -> str:
    """Return 'Did you mean ...?' with the known name nearest to this one, else a list of all."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    close = close or [candidate for candidate in names if name and name in candidate]
    return f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(names) or 'none'}."


class Faults:
    """The faults of one file.

    Each `get_…` method reads one value. Where the value is wrong, it notes a fault and returns an
    empty or default value, so that reading goes on to the next one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: list[str] = []

    def add(self, fault: str) -> None:
        """Note a fault; the file's path is put before it."""
        self.lines.append(f"{self.path}: {fault}")

    def raise_any(self) -> None:
        """Do nothing if there are no faults.

        Raises:
            ManifestError: all faults, one per line.
        """
        if self.lines:
            raise ManifestError("\n".join(self.lines))

    def check_keys(self, prefix: str, table: dict[str, Any], known: Sequence[str]) -> bool:
        """Return whether all keys of a table are known.

        Args:
            prefix: what to put before a fault, such as '[model] '.
            table: the table.
            known: the keys that it may have.
        """
        unknown = [key for key in table if key not in known]
        for key in unknown:
            self.add(f"{prefix}unknown key {key!r}. {suggest_name(key, known)}")
        return not unknown

    def get_table(self, data: dict[str, Any], key: str, parent: str = "") -> dict[str, Any]:
        """Return a table; a missing one is empty.

        Args:
            data: the table that holds it.
            key: its name.
            parent: the names of the tables above it, each with a dot, for the message.
        """
        value = data.get(key, {})
        if isinstance(value, dict):
            return value
        self.add(f"{key} must be a table, written as [{parent}{key}].")
        return {}

    def get_string(self, data: dict[str, Any], key: str) -> str:
        """Return a required string that is not empty."""
        value = data.get(key, "")
        if not isinstance(value, str) or not value.strip():
            self.add(f"{key} is missing or empty; it must be a string.")
            return ""
        return value

    def get_strings(self, data: dict[str, Any], key: str) -> tuple[str, ...]:
        """Return a required list of strings; neither the list nor a string may be empty."""
        value = data.get(key)
        if not value:
            self.add(f"{key} is missing or empty; it must be a list of strings.")
        elif not isinstance(value, list):
            self.add(f"{key} = {value!r} must be a list of strings, none of them empty.")
        elif all(isinstance(item, str) and item.strip() for item in value):
            return tuple(value)
        elif all(isinstance(item, int) for item in value):
            strings = json.dumps([str(item) for item in value])
            self.add(f"{key} = {value!r} must be a list of strings. Write {strings}.")
        else:
            self.add(f"{key} = {value!r} must be a list of strings, none of them empty.")
        return ()

    def get_choice(self, data: dict[str, Any], key: str, choices: Sequence[str]) -> str:
        """Return one of several strings."""
        value = data.get(key)
        if value not in choices:
            self.add(f"{key} = {value!r}: choose {', '.join(map(repr, choices))}.")
        return str(value)

    def get_number(
        self, data: dict[str, Any], key: str, low: float, high: float, default: float
    ) -> float:
        """Return a number in low..high."""
        value = data.get(key, default)
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not low <= value <= high
        ):
            self.add(f"{key} = {value!r}: choose {low:g}..{high:g}.")
            return default
        return value

    def get_integer(self, data: dict[str, Any], key: str, low: int, high: int, default: int) -> int:
        """Return an integer in low..high."""
        value = self.get_number(data, key, low, high, default)
        if value != int(value):
            self.add(f"{key} = {value!r} must be an integer.")
        return int(value)


def build_params(faults: Faults, prefix: str, schema: type, table: dict[str, Any]) -> Any:
    """Return an instance of a dataclass from the values of a table.

    Args:
        faults: where faults are noted.
        prefix: what to put before a fault, such as 'step 2 (prune): '.
        schema: the dataclass; its type hints say what each value must be.
        table: the values; lists become tuples.

    Returns:
        The instance; None if a key is unknown or a value has the wrong type.
    """
    hints = typing.get_type_hints(schema)
    known = {field.name for field in fields(schema)}
    if not faults.check_keys(prefix, table, sorted(known)):
        return None
    values = {
        key: tuple(value) if isinstance(value, list) else value for key, value in table.items()
    }
    for key, value in values.items():
        if not _has_type(value, hints[key]):
            faults.add(f"{prefix}{key} = {table[key]!r} must be {_describe_type(hints[key])}.")
            return None
    return schema(**values)


def _has_type(value: Any, hint: Any) -> bool:
    if typing.get_origin(hint) is types.UnionType:
        return any(_has_type(value, option) for option in typing.get_args(hint))
    if typing.get_origin(hint) is tuple:
        item_hint = typing.get_args(hint)[0]
        return isinstance(value, tuple) and all(_has_type(item, item_hint) for item in value)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, hint) and not (hint is int and isinstance(value, bool))


def _describe_type(hint: Any) -> str:
    if typing.get_origin(hint) is types.UnionType:
        return " or ".join(_describe_type(option) for option in typing.get_args(hint))
    if typing.get_args(hint):
        plurals = {int: "integers", float: "numbers", str: "strings"}
        return f"a list of {plurals[typing.get_args(hint)[0]]}"
    names = {
        int: "an integer",
        float: "a number",
        bool: "a boolean (true or false)",
        str: "a string",
    }
    return names[hint]
