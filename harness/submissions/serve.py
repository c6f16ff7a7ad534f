"""The table `[serve]` of a manifest, checked against the artifact that the recipe writes."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.engines.base import SERVE_CHOICES, SERVE_KEYS, ServeConfig
from harness.engines.registry import CUSTOM_CODE, ENGINES
from harness.results.record import SCENARIOS
from harness.schema import Faults, build_params, suggest_name

POINTS = "points"
EARLY_EXIT_FORMATS = ("stages", "cascade")
"""Formats of artifacts whose examples can exit early."""

NO_EARLY_EXITS = (
    "this system has no early exits. Remove the key, or add the step 'exits' or 'cascade'."
)
THRESHOLD_CHOICES = "choose 'chosen', 'never', or a number above 0"

UNBUILT_FORMATS = {
    "encoder": "an encoder without a classifier; add the step 'finetune'",
    "checkpoint": "weights as they are; add the step 'unpack', or 'adopt' for a model that the "
    "other steps know",
    "members": "systems without an order; add the step 'cascade'",
}
"""What an engine would get from `[model]` without the step that makes an artifact of it."""


def read_serve(
    faults: Faults, data: dict[str, Any], spec: dict[str, Any]
) -> dict[str, ServeConfig]:
    """Return how a system is served in each scenario.

    Args:
        faults: where faults are noted; a scenario with an unknown key or a wrong type is left out.
        data: the manifest.
        spec: the specification of the artifact (`System.spec`).
    """
    table = faults.get_table(data, "serve")
    common = {key: value for key, value in table.items() if key not in (*SCENARIOS, POINTS)}
    custom = _read_custom_code(faults, common, table)
    known_keys = (*SERVE_KEYS, *SCENARIOS, POINTS)
    configs = {}
    for scenario in SCENARIOS:
        overrides = faults.get_table(table, scenario, "serve.")
        prefix = f"[serve.{scenario}] " if overrides else "[serve] "
        values = {**common, **overrides}
        if not faults.check_keys(prefix, values, known_keys) or "engine" not in common:
            continue
        serve = build_params(faults, prefix, ServeConfig, values)
        if serve is None:
            continue
        for fault in (*_find_value_faults(serve), *_find_artifact_faults(serve, spec, custom)):
            faults.add(f"{prefix}{fault}")
        configs[scenario] = replace(serve, instances=1) if scenario == "single_stream" else serve
    if "engine" not in common:
        faults.add(
            f"[serve] engine is missing. Choose {', '.join(ENGINES)}; or give a module or a "
            "command for custom code."
        )
    faults.lines = list(dict.fromkeys(faults.lines))  # each scenario repeats those of [serve]
    return configs


def read_points(faults: Faults, data: dict[str, Any], spec: dict[str, Any]) -> dict[str, Any]:
    """Return the thresholds of `[serve.points]` by the name of the operating point.

    Args:
        faults: where faults are noted.
        data: the manifest.
        spec: the specification of the artifact (`System.spec`).
    """
    points = faults.get_table(faults.get_table(data, "serve"), POINTS, "serve.")
    if points and spec.get("format") not in (None, *EARLY_EXIT_FORMATS):
        faults.add(f"[serve.points]: {NO_EARLY_EXITS}")
    for name, threshold in points.items():
        if not re.fullmatch(r"[A-Za-z0-9._-]+", name):
            faults.add(f"[serve.points] {name!r}: use letters, digits, '.', '_' and '-'.")
        if not _is_threshold(threshold):
            faults.add(f"[serve.points] {name} = {threshold!r}: {THRESHOLD_CHOICES}.")
    return points


def _find_value_faults(serve: ServeConfig) -> Iterator[str]:
    for key, choices in SERVE_CHOICES.items():
        if getattr(serve, key) not in choices:
            allowed = " or ".join(map(repr, choices))
            yield f"{key} = {getattr(serve, key)!r}: choose {allowed}."
    if not 1 <= serve.batch <= 4096:
        yield f"batch = {serve.batch}: choose 1..4096."
    if serve.tokens < 0:
        yield f"tokens = {serve.tokens}: choose 0 or above."
    if isinstance(serve.instances, str):
        valid = serve.instances == "per-core"
    else:
        valid = 1 <= serve.instances <= 256
    if not valid:
        yield f"instances = {serve.instances!r}: choose 1..256, or 'per-core'."
    for key in ("compile", "cuda_graphs"):
        if getattr(serve, key) and serve.engine != "pytorch":
            yield f"{key}: only the engine 'pytorch' has it. Remove the key."
        if getattr(serve, key) and serve.instances != 1:
            yield f"{key}: it needs instances = 1, since the model is compiled or recorded once."
    if not _is_threshold(serve.threshold):
        yield f"threshold = {serve.threshold!r}: {THRESHOLD_CHOICES}."


def _find_artifact_faults(serve: ServeConfig, spec: dict[str, Any], custom: str) -> Iterator[str]:
    """Yield what does not fit the artifact.

    Args:
        serve: how the system is served.
        spec: its `format` is None if it is not known yet, and '' if the recipe is empty.
        custom: `module`, `command` or ''.
    """
    artifact_format = spec.get("format", "")
    if spec.get("pads") is False and not custom and (serve.padding == "max" or serve.batch > 1):
        yield (
            "the checkpoint has no padding token (pad_token_id in config.json): set "
            "padding = 'longest' and batch = 1."
        )
    sets_threshold = serve.threshold != "chosen" and _is_threshold(serve.threshold)
    if sets_threshold and artifact_format not in (None, *EARLY_EXIT_FORMATS):
        yield f"threshold: {NO_EARLY_EXITS}"
    for key in ("compile", "cuda_graphs"):
        if getattr(serve, key) and artifact_format == "transformers":
            yield f"{key}: only a BERT can be served so, since the forward pass is the project's."
        if getattr(serve, key) and spec.get("keep"):
            yield f"{key}: a model with token pruning has no fixed shapes. Remove the key."
    if custom:
        if artifact_format in UNBUILT_FORMATS:
            yield f"{custom} gets {UNBUILT_FORMATS[artifact_format]}."
    elif serve.engine not in ENGINES:
        yield f"engine {serve.engine!r} does not exist. {suggest_name(serve.engine, ENGINES)}"
    elif artifact_format is not None and artifact_format not in ENGINES[serve.engine].formats:
        fitting = [name for name, kind in ENGINES.items() if artifact_format in kind.formats]
        artifact = UNBUILT_FORMATS.get(artifact_format, artifact_format)
        artifact = artifact or "an empty recipe; add a step"
        fix = f" Choose {' or '.join(fitting)}." if fitting else ""
        yield f"engine {serve.engine!r} cannot serve {artifact}.{fix}"
    elif serve.engine == "openvino" and spec["format"] == "onnx" and "dtype" in spec:
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
        isinstance(command, list)  # `build_params` reports other types
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
    if isinstance(value, str):
        return value in ("chosen", "never")
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0
