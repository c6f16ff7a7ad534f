"""The table `[serve]` of a manifest, checked against the artifact that the recipe writes."""

import re
from collections.abc import Iterator
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError, create_model

from harness.engines.base import ServeConfig
from harness.engines.registry import CUSTOM_CODE, get_engines
from harness.errors import suggest_name
from harness.models.model_spec import ModelSpec
from harness.results.record_parts import SCENARIOS
from harness.schema import Faults, Number, Schema, Text, describe_choices, to_tuple

POINTS = "points"
UNKNOWN_ENGINE = "?"
"""Stands for the missing engine of a manifest, so that its other keys are still checked."""

EARLY_EXIT_FORMATS = ("stages", "cascade")
"""Formats of artifacts whose examples can exit early."""

NO_EARLY_EXITS = (
    "this system has no early exits. Remove the key, or add the step 'exits' or 'cascade'."
)

Threshold = Literal["chosen", "never"] | Annotated[Number, Field(gt=0)]

TYPES: dict[str, Any] = {
    "engine": Text,
    "padding": Literal["longest", "max"],
    "batch": Annotated[int, Field(ge=1, le=4096)],
    "tokens": Annotated[int, Field(ge=0)],
    "order": Literal["given", "by-length"],
    "instances": Annotated[int, Field(ge=1, le=256)] | Literal["per-core"],
    "threshold": Threshold,
    "command": Annotated[tuple[str, ...], BeforeValidator(to_tuple)],
}
"""The types of those keys of `ServeConfig` that do not take every value of their Python type."""

_KEYS: Any = {
    key.name: (
        TYPES.get(key.name, get_type_hints(ServeConfig)[key.name]),
        ... if key.default is MISSING else key.default,
    )
    for key in fields(ServeConfig)
}

ServeTable: type[Schema] = create_model("ServeTable", __base__=Schema, **_KEYS)
"""The table `[serve]`: the keys and defaults of `ServeConfig`, which the worker needs without
pydantic."""

UNBUILT_FORMATS = {
    "encoder": "an encoder without a classifier; add the step 'finetune'",
    "checkpoint": "weights as they are; add the step 'unpack', or 'adopt' for a model that the "
    "other steps know",
    "members": "systems without an order; add the step 'cascade'",
}
"""What an engine would get from `[model]` without the step that makes an artifact of it."""


def read_serve(faults: Faults, data: dict[str, Any], spec: ModelSpec) -> dict[str, ServeConfig]:
    """Return how a system is served in each scenario.

    Args:
        faults: where faults are noted; a scenario with an unknown key or a wrong type is left out.
        data: the manifest.
        spec: of the artifact.
    """
    table = faults.get_table(data, "serve")
    common = {key: value for key, value in table.items() if key not in (*SCENARIOS, POINTS)}
    custom = _read_custom_code(faults, common, table)
    if "engine" not in common:
        faults.add(
            f"[serve] engine is missing. Choose {', '.join(get_engines())}; or give a module or a "
            "command for custom code."
        )
        common["engine"] = UNKNOWN_ENGINE
    configs: dict[str, ServeConfig] = {}
    for scenario in SCENARIOS:
        overrides = faults.get_table(table, scenario, "serve.")
        prefix = f"[serve.{scenario}] " if overrides else "[serve] "
        values = faults.check(
            ServeTable, {**common, **overrides}, prefix, also=(*SCENARIOS, POINTS)
        )
        if values is None or common["engine"] == UNKNOWN_ENGINE:
            continue
        serve = ServeConfig(**values.model_dump(warnings=False))
        for fault in (*_find_value_faults(serve), *_find_artifact_faults(serve, spec, custom)):
            faults.add(f"{prefix}{fault}")
        if "spin" not in {**common, **overrides}:
            serve = replace(serve, spin=_spins(serve.engine, scenario))
        configs[scenario] = replace(serve, instances=1) if scenario == "single_stream" else serve
    return configs


def _spins(engine: str, scenario: str) -> bool:
    """Return the default of `spin`; false for engines without it, which need not be loaded again
    between scenarios.
    """
    kind = get_engines().get(engine)
    return kind is not None and kind.spins and scenario != "server"


def read_points(faults: Faults, data: dict[str, Any], spec: ModelSpec) -> dict[str, Any]:
    """Return the thresholds of `[serve.points]` by the name of the operating point.

    Args:
        faults: where faults are noted.
        data: the manifest.
        spec: of the artifact.
    """
    points = faults.get_table(faults.get_table(data, "serve"), POINTS, "serve.")
    if points and spec.format not in (None, *EARLY_EXIT_FORMATS):
        faults.add(f"[serve.points]: {NO_EARLY_EXITS}")
    names: dict[str, str] = {}
    for name, threshold in points.items():
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,100}", name):
            faults.add(f"[serve.points] {name!r}: use up to 100 letters, digits, '.', '_' and '-'.")
        if re.fullmatch(r"seed\d+", name, re.IGNORECASE):
            faults.add(
                f"[serve.points] {name!r}: the rows of further training seeds are called so. "
                "Choose another name."
            )
        namesake = names.setdefault(name.casefold(), name)
        if namesake != name:  # their records would be one file where file names ignore case
            faults.add(
                f"[serve.points] {namesake!r} and {name!r} differ in case alone. Rename one."
            )
        if not _is_threshold(threshold):
            faults.add(
                f"[serve.points] {name} = {threshold!r}: choose {describe_choices(Threshold)}."
            )
    return points


def _find_value_faults(serve: ServeConfig) -> Iterator[str]:
    """Yield what does not fit together."""
    for key in ("compile", "cuda_graphs"):
        if getattr(serve, key) and serve.engine != "pytorch":
            yield f"{key}: only the engine 'pytorch' has it. Remove the key."
        if getattr(serve, key) and serve.instances != 1:
            yield f"{key}: it needs instances = 1, since the model is compiled or recorded once."


def _find_artifact_faults(serve: ServeConfig, spec: ModelSpec, custom: str) -> Iterator[str]:
    """Yield what does not fit the artifact.

    Args:
        serve: how the system is served.
        spec: of the artifact.
        custom: `module`, `command` or ''.
    """
    if not spec.pads and not custom and (serve.padding == "max" or serve.batch > 1):
        yield (
            "the checkpoint has no padding token (pad_token_id in config.json): set "
            "padding = 'longest' and batch = 1."
        )
    rows, length = spec.shape
    if length and serve.padding != "max":
        yield f"the graph takes exactly {length} tokens: set padding = 'max'."
    if rows and serve.batch > 1:
        yield "the graph takes one text at once: set batch = 1."
    sets_threshold = serve.threshold != "chosen" and _is_threshold(serve.threshold)
    if sets_threshold and spec.format not in (None, *EARLY_EXIT_FORMATS):
        yield f"threshold: {NO_EARLY_EXITS}"
    for key in ("compile", "cuda_graphs"):
        if getattr(serve, key) and spec.format == "transformers":
            yield f"{key}: only a BERT can be served so, since the forward pass is the project's."
        if getattr(serve, key) and spec.keep:
            yield f"{key}: a model with token pruning has no fixed shapes. Remove the key."
    engines = get_engines()
    if custom:
        if spec.format in UNBUILT_FORMATS:
            yield f"{custom} gets {UNBUILT_FORMATS[spec.format]}."
    elif serve.engine not in engines:
        yield f"engine {serve.engine!r} does not exist. {suggest_name(serve.engine, engines)}"
    elif spec.format is not None and spec.format not in engines[serve.engine].formats:
        fitting = [name for name, kind in engines.items() if spec.format in kind.formats]
        artifact = UNBUILT_FORMATS.get(spec.format, spec.format)
        artifact = artifact or "an empty recipe; add a step"
        fix = f" Choose {' or '.join(fitting)}." if fitting else ""
        yield f"engine {serve.engine!r} cannot serve {artifact}.{fix}"
    elif serve.engine == "openvino" and spec.format == "onnx" and spec.dtype != "fp32":
        yield (
            "engine 'openvino' cannot serve a graph that onnxruntime has quantized. Quantize "
            "with by = 'nncf', or remove the step."
        )


def _read_custom_code(faults: Faults, common: dict[str, Any], table: dict[str, Any]) -> str:
    """Check custom code, and set it as the engine in `common`.

    Returns:
        `module` or `command`; '' if an engine serves the system.
    """
    keys = [key for key in CUSTOM_CODE if key in common]
    if not keys:
        return ""
    if len(keys) > 1 or "engine" in common:
        faults.add("[serve] has more than one of engine, module and command; keep one of them.")
    for scenario in SCENARIOS:
        for key in keys:
            if key in faults.get_table(table, scenario, "serve."):
                faults.add(f"[serve.{scenario}] {key}: set it once, in [serve].")
    key = common["engine"] = keys[0]
    folder = faults.path.parent
    if key == "module":
        module = common["module"]
        if (
            not isinstance(module, str)
            or not module.endswith(".py")
            or not _is_inside(folder, module)
        ):
            faults.add(f"[serve] module = {module!r}: there is no such Python file in this folder.")
        return key
    command = common["command"]
    if command == []:
        faults.add("[serve] command is empty. Name a program and its arguments, like ['./run.sh'].")
    elif (
        isinstance(command, list)  # `ServeTable` reports other types
        and isinstance(command[0], str)
        and "/" in command[0]
        and not _is_inside(folder, command[0])
    ):
        faults.add(
            f"[serve] command = {command!r}: {command[0]} is not a file in this folder. Name one, "
            "like './run.sh', or an installed program without a path."
        )
    return key


def _is_inside(folder: Path, name: str) -> bool:
    """Return whether a relative path is a file inside of the folder."""
    path = (folder / name).resolve()
    return path.is_file() and path.is_relative_to(folder.resolve()) and not Path(name).is_absolute()


def _is_threshold(value: Any) -> bool:
    try:
        TypeAdapter(Threshold).validate_python(value, strict=True)
    except ValidationError:
        return False
    return True
