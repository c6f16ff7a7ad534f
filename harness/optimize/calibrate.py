"""Calibration of early exits: at which confidence examples leave, selected on the selection slice
with the graphs as they are served (after quantization).
"""

import os
from dataclasses import replace
from typing import Any, Literal

from pydantic import Field

from harness.engines.confidence import NEVER
from harness.models.model_spec import ModelSpec
from harness.optimize.base import Inputs, Step, StepContext, StepParams, get_selection
from harness.schema import Number
from harness.tasks.task import Task


class Calibrate(StepParams):
    """Scale the confidences of the exits, and choose one threshold for all of them."""

    criterion: Literal["probability", "entropy", "patience"] = Field(
        "probability",
        description="an example leaves by its `probability`, by its `entropy`, or by `patience`, "
        "when enough exits agree",
    )
    max_drop: Number = Field(
        0.01,
        ge=0,
        le=1,
        description="the score that may be lost against the complete model, with a margin of one "
        "standard error of the difference",
    )
    cost: Number = Field(
        0.0,
        ge=0,
        le=1,
        description="instead of max_drop, the mean cost of an example as a share of the complete "
        "model's layers; 0 to use max_drop",
    )


def validate(params: Calibrate, spec: ModelSpec) -> list[str]:
    """Return what does not fit the model, as sentences."""
    if params.criterion == "patience" and len(spec.exits or (0, 0)) < 2:
        return ["patience needs at least two exits. Give the step 'exits' more layers"]
    return []


def run(inputs: Inputs, task: Task, params: Calibrate, context: StepContext) -> dict[str, Any]:
    """Keep the graphs and add the rule by which examples leave.

    Raises:
        BuildError: the selection slice is empty.
    """
    from harness.engines import base, registry
    from harness.engines.stages import StagesEngine
    from harness.optimize.thresholds import SelectionSlice

    assert inputs.artifact is not None
    before = inputs.artifact
    for path in before.folder.iterdir():
        if path.name != "artifact.json":
            os.link(path, context.out / path.name)
    serve = base.ServeConfig("onnxruntime", threshold="never")
    loaded = registry.load_engine(
        base.EngineConfig(before.folder, before.engine_metadata, serve, context.threads)
    )
    assert isinstance(loaded, StagesEngine)
    selection = [example.candidates for example in get_selection(task)]
    model = before.metadata.model
    ends = [*(layer + 1 for layer in model["exits"]), model["layers"]]
    logits = []
    for stage in range(len(ends)):  # the logits of each stage: all examples leave there
        thresholds = tuple(-1.0 if stage == exit_ else NEVER for exit_ in range(len(ends) - 1))
        loaded.rule = replace(loaded.rule, thresholds=thresholds)
        logits.append(loaded.scores(selection))
    costs = [end / model["layers"] for end in ends]
    selection_slice = SelectionSlice(task, logits, costs, per_candidate=True)
    meta = before.metadata
    unchanged = {"format": meta.format, "dtype": meta.dtype, "model": meta.model}
    return unchanged | selection_slice.choose_rule(
        params.criterion, params.max_drop, params.cost, per_stage=False
    )


STEP = Step("calibrate", 2, Calibrate, ("stages",), run, validate, trains=True)
