"""JSON Schemas of manifests, task files and records, derived from the models that read them.

`python docs/json_schemas.py` writes them to docs/schemas/. What depends on several keys or on other
files is not in them: `wattbench check` remains the complete check of a manifest.
"""

import inspect
import json
import re
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from harness.engines.base import ServeConfig
from harness.engines.registry import CUSTOM_CODE, ENGINES
from harness.optimize.base import STEP_MODULES, get_step
from harness.results.record import Record, Round, Timing
from harness.results.record_parts import (
    SCENARIOS,
    AccuracyPassPart,
    ConfigurationPart,
    EnergyPart,
    MachinePart,
    RolesPart,
    SystemPart,
    TaskPart,
)
from harness.store.bundled_weights import FILE_KEYS, HUB_KEYS
from harness.submissions.manifest import Head, ModelTable
from harness.submissions.serve import ServeTable, Threshold
from harness.tasks.custom import FieldNames, SplitFiles, TaskFile

FOLDER = Path(__file__).parent / "schemas"
DIALECT = "http://json-schema.org/draft-07/schema#"  # what TOML editors support

RECORD_PARTS = (
    *(SystemPart, TaskPart, ConfigurationPart, MachinePart, EnergyPart, RolesPart),
    *(AccuracyPassPart, Round, Timing),
)

Json = dict[str, Any]


def build_schemas() -> dict[str, Json]:
    """Return the schemas by the names of their files."""
    schemas = {
        "submission": ("Manifest of a wattbench submission (submission.toml)", build_submission()),
        "task": ("Custom task of wattbench (task.toml)", build_task()),
        "record": ("Record of a wattbench measurement", build_record()),
    }
    return {
        f"{name}.schema.json": {
            "$schema": DIALECT,
            "$id": f"{name}.schema.json",
            "title": title,
            **{key: value for key, value in schema.items() if key != "title"},
        }
        for name, (title, schema) in schemas.items()
    }


def build_submission() -> Json:
    """Return the schema of `submission.toml`."""
    schema = Head.model_json_schema()
    model = ModelTable.model_json_schema()
    model["properties"]["weights"] |= {"oneOf": [build_strings(FILE_KEYS), build_strings(HUB_KEYS)]}
    steps = {
        "type": "array",
        "items": {"oneOf": build_steps()},
        "description": "The recipe: steps in order, each with `use` and its parameters.",
    }
    schema["description"] = "What a system declares."
    schema["properties"] |= {"model": model, "step": steps, "serve": build_serve()}
    schema["properties"]["model"] |= {"maxProperties": 1}
    schema["required"].append("serve")
    return simplify(schema)


def build_steps() -> list[Json]:
    """Return one schema for each step, and one for the steps of other packages."""
    schemas = []
    for name in STEP_MODULES:
        schema = get_step(name).params.model_json_schema()
        parameters = schema.get("properties", {})
        for_task = {"type": "object", "properties": parameters, "additionalProperties": False}
        tasks = {
            "type": "object",
            "description": "Other values of some parameters, by the name of the task.",
            "additionalProperties": for_task,
        }
        schema["properties"] = {"use": {"const": name}} | parameters
        if parameters:
            schema["properties"] |= {"tasks": tasks}
        schema["required"] = ["use", *schema.get("required", [])]
        for key in parameters.values():
            key.pop("added", None)  # concerns the keys of artifacts
        schemas.append(schema)
    other = {
        "description": "A step of another package.",
        "type": "object",
        "properties": {"use": {"type": "string", "not": {"enum": list(STEP_MODULES)}}},
        "required": ["use"],
    }
    return [*schemas, other]


def build_serve() -> Json:
    """Return the schema of `[serve]`: the same keys for all scenarios and for one of them."""
    schema = ServeTable.model_json_schema()
    describe(schema, ServeConfig)
    del schema["required"]
    keys = schema["properties"]
    keys["engine"]["examples"] = list(ENGINES)
    one_scenario = {key: value for key, value in keys.items() if key not in CUSTOM_CODE}
    scenarios = {
        scenario: {
            **schema,
            "properties": one_scenario,
            "description": f"Overrides `[serve]` in the scenario `{scenario}`.",
        }
        for scenario in SCENARIOS
    }
    points = {
        "type": "object",
        "description": "Further operating points by name: thresholds of early exit.",
        "additionalProperties": TypeAdapter(Threshold).json_schema(),
    }
    return {
        **schema,
        "description": "How the artifact is served.",
        "properties": {**keys, **scenarios, "points": points},
        "oneOf": [{"required": [key]} for key in ("engine", *CUSTOM_CODE)],
    }


def build_task() -> Json:
    """Return the schema of `task.toml`."""
    schema = TaskFile.model_json_schema()
    fields, splits = FieldNames.model_json_schema(), SplitFiles.model_json_schema()
    schema["description"] = "The labels, metric, fields and files of a custom task."
    schema["properties"] |= {"fields": fields, "splits": splits}
    schema["required"] += ["fields", "splits"]
    return simplify(schema)


def build_record() -> Json:
    """Return the schema of a record."""
    schema = TypeAdapter(Record).json_schema()
    describe(schema, Record)
    for part in RECORD_PARTS:
        describe(schema["$defs"][part.__name__], part)
    return simplify(schema)


def build_strings(keys: set[str]) -> Json:
    """Return the schema of an object with these keys, whose values are strings."""
    return {
        "type": "object",
        "properties": {key: {"type": "string"} for key in sorted(keys)},
        "required": sorted(keys),
        "additionalProperties": False,
    }


def describe(schema: Json, described: type) -> None:
    """Add what the section `Attributes` of a class's docstring says of each key."""
    text = inspect.cleandoc(described.__doc__ or "")
    schema["description"], _, attributes = text.partition("\n\nAttributes:\n")
    for name, description in re.findall(r"(?ms)^    (\w+): (.+?)(?=^    \w|\Z)", attributes):
        schema["properties"][name]["description"] = " ".join(description.split())


def simplify(schema: Any) -> Any:
    """Return a schema without the titles that pydantic makes of the names of keys.

    For a list with a validator of its own pydantic writes `minLength` instead of `minItems`.
    """
    if isinstance(schema, list):
        return [simplify(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    renamed = {"minLength": "minItems"} if schema.get("type") == "array" else {}
    return {
        renamed.get(key, key): simplify(value)
        for key, value in schema.items()
        if not (key == "title" and isinstance(value, str))
    }


def format_schema(schema: Json) -> str:
    """Return the content of a schema's file."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for file_name, content in build_schemas().items():
        (FOLDER / file_name).write_text(format_schema(content))
