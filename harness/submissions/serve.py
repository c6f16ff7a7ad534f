"""A manifest's `[serve]`: read and checked against the artifact that the recipe leaves."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.engines.base import SERVE_CHOICES, SERVE_KEYS, ServeConfig
from harness.engines.registry import CUSTOM_CODE, ENGINES
from harness.results.record import SCENARIOS
from harness.schema import Faults, nearest, params


def read_serve(
    faults: Faults, data: dict[str, Any], shape: dict[str, Any]
) -> dict[str, ServeConfig]:
    """How it is served in each scenario; faults are noted."""
    artifact_format = shape.get("format", "")
    table = faults.table(data, "serve")
    common = {key: value for key, value in table.items() if key not in (*SCENARIOS, "points")}
    own = _own_code(faults, common, table)
    served = {}
    for scenario in SCENARIOS:
        overrides = faults.table(table, scenario, "serve.")
        place = f"[serve.{scenario}] " if overrides else "[serve] "
        if (
            not faults.keys(place, {**common, **overrides}, (*SERVE_KEYS, *SCENARIOS, "points"))
            or "engine" not in common
        ):
            continue
        serve = params(faults, place, ServeConfig, {**common, **overrides})
        if serve is None:
            continue
        for key, choices in SERVE_CHOICES.items():
            if getattr(serve, key) not in choices:
                faults.add(
                    f"{place}{key} = {getattr(serve, key)!r}: choose "
                    f"{' or '.join(map(repr, choices))}."
                )
        if not 1 <= serve.batch <= 4096:
            faults.add(f"{place}batch = {serve.batch}: choose 1..4096.")
        if shape.get("pads") is False and not own and (serve.padding == "max" or serve.batch > 1):
            faults.add(
                f"{place}the checkpoint has no padding token (pad_token_id in config.json): set "
                "padding = 'longest' and batch = 1."
            )
        if not _is_threshold(serve.threshold):
            faults.add(f"{place}threshold = {serve.threshold!r}: {THRESHOLDS}.")
        elif serve.threshold != "chosen" and artifact_format not in (None, *LEAVING):
            faults.add(f"{place}threshold: nothing leaves early here. {NO_EXITS}")
        if serve.tokens < 0:
            faults.add(f"{place}tokens = {serve.tokens}: choose 0 or above.")
        if not (
            serve.instances == "per-core"
            if isinstance(serve.instances, str)
            else 1 <= serve.instances <= 256
        ):
            faults.add(f"{place}instances = {serve.instances!r}: choose 1..256, or 'per-core'.")
        if scenario == "single_stream":
            serve = replace(serve, instances=1)
        if own:
            if artifact_format in UNBUILT:
                faults.add(f"{place}{own} gets {UNBUILT[artifact_format]}.")
        elif serve.engine not in ENGINES:
            faults.add(
                f"{place}engine {serve.engine!r} does not exist. {nearest(serve.engine, ENGINES)}"
            )
        elif artifact_format is not None and artifact_format not in ENGINES[serve.engine].formats:
            fitting = [name for name, kind in ENGINES.items() if artifact_format in kind.formats]
            faults.add(
                f"{place}engine {serve.engine!r} cannot serve "
                f"{UNBUILT.get(artifact_format, artifact_format) or 'an empty recipe'}. "
                f"{'Choose ' + ' or '.join(fitting) if fitting else 'Add a step'}."
            )
        elif serve.engine == "openvino" and shape["format"] == "onnx" and "dtype" in shape:
            faults.add(
                f"{place}engine 'openvino' cannot serve a graph that onnxruntime has quantized. "
                "Quantize with by = 'nncf', or leave the step out."
            )
        served[scenario] = serve
    if "engine" not in common:
        faults.add(
            f"[serve] engine is missing. Choose {', '.join(ENGINES)}; or give a module or a "
            "command of your own."
        )
    faults.lines = list(dict.fromkeys(faults.lines))
    return served


THRESHOLDS = "choose 'chosen', 'never', or a number above 0"
LEAVING = ("stages", "cascade")
NO_EXITS = "Leave it out, or add the step 'exits' or 'cascade'."


UNBUILT = {
    "encoder": "an encoder without a classifier; add the step 'finetune'",
    "checkpoint": "weights as they came; add the step 'unpack', or 'adopt' for a model that the "
    "other steps know",
    "members": "systems that nothing puts in order; add the step 'cascade'",
}
"""What `[model]` gives before any step, as a fault."""


def _own_code(faults: Faults, common: dict[str, Any], table: dict[str, Any]) -> str:
    """`module` or `command`, where the submission brings its own code; it stands as the engine."""
    given = [key for key in CUSTOM_CODE if key in common]
    if not given:
        return ""
    if len(given) > 1 or "engine" in common:
        faults.add("[serve] has more than one of engine, module and command; keep one of them.")
    for scenario in SCENARIOS:
        for key in given:
            if key in faults.table(table, scenario, "serve."):
                faults.add(f"[serve.{scenario}] {key}: say it once, in [serve].")
    common["engine"] = given[0]
    folder = faults.path.parent
    if given[0] == "module":
        name = common["module"]
        if not isinstance(name, str) or not _inside(folder, name) or not name.endswith(".py"):
            faults.add(f"[serve] module = {name!r}: there is no such Python file in this folder.")
        return "module"
    command = common["command"]
    if not isinstance(command, list) or not command or not isinstance(command[0], str):
        faults.add(f"[serve] command = {command!r}: give a list of texts, ['./run.sh'].")
    elif "/" in command[0] and not _inside(folder, command[0]):
        faults.add(
            f"[serve] command = {command!r}: {command[0]} is no file of this folder. Name one, "
            "'./run.sh', or a program of the system without a path."
        )
    return "command"


def _inside(folder: Path, name: str) -> bool:
    """Whether a path, relative to the folder, is a file in it."""
    path = (folder / name).resolve()
    return path.is_file() and path.is_relative_to(folder.resolve()) and not Path(name).is_absolute()


def _is_threshold(value: Any) -> bool:
    if isinstance(value, str):
        return value in ("chosen", "never")
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def read_points(faults: Faults, data: dict[str, Any], shape: dict[str, Any]) -> dict[str, Any]:
    """`[serve.points]`: thresholds by name."""
    points = faults.table(faults.table(data, "serve"), "points", "serve.")
    if points and shape.get("format") not in (None, *LEAVING):
        faults.add(f"[serve.points]: nothing leaves early here. {NO_EXITS}")
    for name, value in points.items():
        if not re.fullmatch(r"[A-Za-z0-9._-]+", name):
            faults.add(f"[serve.points] {name!r}: take letters, digits, '.', '_' and '-'.")
        if not _is_threshold(value):
            faults.add(f"[serve.points] {name} = {value!r}: {THRESHOLDS}.")
    return points
