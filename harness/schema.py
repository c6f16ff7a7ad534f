"""Schemas of TOML files: pydantic models, whose faults are collected so that one error names all.

Numbers keep the type that they are written with (`4` does not become `4.0`), because they are
hashed.
"""

import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from harness.errors import ManifestError, suggest_name

Number = int | float
"""A number as it is written."""

Text = Annotated[str, Field(pattern=r"\S")]
"""A string that is not empty."""


def to_tuple(value: Any) -> Any:
    """Return a list as a tuple, and anything else as it is."""
    return tuple(value) if isinstance(value, list) else value


Texts = Annotated[tuple[Text, ...], BeforeValidator(to_tuple), Field(min_length=1)]
"""A list of strings; neither the list nor a string may be empty."""

Integers = Annotated[tuple[int, ...], BeforeValidator(to_tuple)]
Numbers = Annotated[tuple[Number, ...], BeforeValidator(to_tuple)]


class Schema(BaseModel):
    """A table of a TOML file. Unknown keys are faults, and values are not converted."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


@dataclass(frozen=True)
class Expected:
    """Annotates a type with what its values must be, for messages."""

    text: str


AnySchema = TypeVar("AnySchema", bound=Schema)


def read_toml(path: Path) -> dict[str, Any]:
    """Return the content of a TOML file.

    Raises:
        ManifestError: there is no such file, or it is not TOML; the message names the line.
    """
    if path.is_symlink() and not path.exists():
        raise ManifestError(f"{path}: a link to {path.readlink()}, which does not exist.")
    if path.exists() and not path.is_file():
        raise ManifestError(f"{path}: not a file. Put a TOML file of that name there.")
    if not path.is_file():
        raise ManifestError(f"{path}: there is no such file.")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ManifestError(f"{path}: line {line} is not UTF-8. Save the file as UTF-8.") from None
    except RecursionError:
        raise ManifestError(f"{path}: nested too deeply. Correct it there.") from None
    except (OSError, ValueError) as error:  # a number of thousands of digits is a ValueError
        reason = str(error).partition("; use sys.")[0]
        if reason.startswith("Cannot overwrite"):
            reason = f"a key that is there already{reason[reason.index(' (') :]}"
        raise ManifestError(f"{path}: {reason}. Correct it there.") from None


class Faults:
    """The faults of one file, each a sentence that says how to fix it."""

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
            raise ManifestError("\n".join(dict.fromkeys(self.lines)))

    def get_table(self, data: Mapping[str, Any], key: str, parent: str = "") -> dict[str, Any]:
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

    def check(
        self,
        schema: type[AnySchema],
        table: Mapping[str, Any],
        prefix: str = "",
        also: Iterable[str] = (),
    ) -> AnySchema | None:
        """Check a table, and note all its faults.

        Args:
            schema: what the table may have.
            table: the table.
            prefix: what to put before a fault, such as '[model] '.
            also: further keys that a user may have meant by an unknown one.

        Returns:
            The values, so that checks which need several of them can go on even where one is out of
            its range; None if a key is unknown or missing, or a value has the wrong type.
        """
        try:
            return schema.model_validate(dict(table))
        except ValidationError as error:
            details = error.errors(include_url=False, include_context=False, include_input=False)
        kinds: dict[str, set[str]] = {}
        for detail in details:
            kinds.setdefault(str(detail["loc"][0]), set()).add(detail["type"])
        for key, found in kinds.items():
            self.add(f"{prefix}{_describe_fault(schema, key, table.get(key), found, also)}")
        if not set.union(*kinds.values()) <= RANGE_ERRORS:
            return None
        values = {key: to_tuple(value) for key, value in table.items()}
        return schema.model_construct(**values)


RANGE_ERRORS = {
    *("greater_than", "greater_than_equal", "less_than", "less_than_equal"),
    "literal_error",
}
"""Faults of a value that has the right type."""


def _describe_fault(
    schema: type[Schema], key: str, value: Any, kinds: set[str], also: Iterable[str]
) -> str:
    """Return a sentence about the faults of one key."""
    if "extra_forbidden" in kinds:
        return f"unknown key {key!r}. {suggest_name(key, (*schema.model_fields, *also))}"
    field = schema.model_fields[key]
    markers = [part.text for part in field.metadata if isinstance(part, Expected)]
    expected = markers[0] if markers else describe_type(field.annotation)
    is_empty = value in ("", []) or (isinstance(value, str) and not value.strip())
    if kinds == {"missing"} and typing.get_origin(field.annotation) is Literal:
        return f"{key} is missing; {describe_range(field)}."
    if kinds == {"missing"} or (is_empty and field.is_required()):
        may_be_empty = "string" in expected
        return f"{key} is missing{' or empty' * may_be_empty}; it must be {expected}."
    if kinds <= RANGE_ERRORS or "literal_error" in kinds:
        written = repr(value) if isinstance(value, str | list) else value
        return f"{key} = {written}: {describe_range(field)}."
    suffix = ", none of them empty" if isinstance(value, list) and "string" in expected else ""
    return f"{key} = {value!r} must be {expected}{suffix}."


def describe_type(hint: Any) -> str:
    """Return what a value must be, such as 'a list of integers'."""
    if typing.get_origin(hint) is Annotated:
        return describe_type(typing.get_args(hint)[0])
    if typing.get_origin(hint) is Literal:
        return _join_choices(hint)
    if hint == Number:
        return "a number"
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        options = [option for option in typing.get_args(hint) if option is not type(None)]
        return " or ".join(describe_type(option) for option in options)
    if typing.get_origin(hint) is tuple:
        item = describe_type(typing.get_args(hint)[0])
        return f"a list of {item.removeprefix('an ').removeprefix('a ')}s"
    names = {
        int: "an integer",
        float: "a number",
        bool: "a boolean (true or false)",
        str: "a string",
        dict: "a table",
    }
    return names.get(typing.get_origin(hint) or hint, "a table")


def describe_range(field: FieldInfo) -> str:
    """Return how to choose a value in its range, such as 'choose 1..100'; '' if it has none."""
    bounds = _describe_bounds(field.metadata) or describe_choices(field.annotation)
    return f"choose {bounds}" if bounds else ""


def describe_choices(hint: Any) -> str:
    """Return the values that a type allows, such as `'a' or 'b'`; '' if all of a Python type."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _describe_bounds(hint.__metadata__) or describe_choices(arguments[0])
    if origin is Literal:
        return _join_choices(hint)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(filter(None, map(describe_choices, arguments)))
    if origin is tuple and (bounds := describe_choices(arguments[0])):
        return f"{bounds} for each"
    return ""


def _describe_bounds(metadata: Iterable[Any]) -> str:
    bounds: dict[str, Any] = {}
    for part in metadata:
        constraints = part.metadata if isinstance(part, FieldInfo) else [part]
        for constraint in constraints:
            for kind in ("ge", "gt", "le", "lt"):
                if (bound := getattr(constraint, kind, None)) is not None:
                    bounds[kind] = bound
    if {"ge", "le"} <= bounds.keys():
        return f"{bounds['ge']}..{bounds['le']}"
    texts = {"ge": "{} or above", "gt": "a number above {}", "lt": "below {}", "le": "{} or below"}
    return ", ".join(texts[kind].format(bounds[kind]) for kind in texts if kind in bounds)


def _join_choices(hint: Any) -> str:
    *others, last = [repr(choice) for choice in typing.get_args(hint) if choice != ""]
    return f"{', '.join(others)} or {last}" if others else str(last)
