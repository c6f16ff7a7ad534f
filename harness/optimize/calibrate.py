"""Calibration of early exits: at which confidence examples leave, selected on the selection slice
with the graphs as they are served (after quantization).
"""

import os
from dataclasses import dataclass, replace
from typing import Any

from harness.engines.confidence import CRITERIA, NEVER
from harness.optimize.base import Inputs, Step, StepContext
from harness.tasks.task import Task


@dataclass(frozen=True)
class Calibrate:
    """Scale the confidences of the exits, and choose one threshold for all of them.

    criterion: an example leaves by its `probability`, by its `entropy`, or by `patience`, when
        enough exits agree.
    max_drop: the score that may be lost against the complete model, 0..1.
    cost: instead of max_drop, the mean cost of an example as a share of the complete model's
        layers, 0..1; 0 to use max_drop.
    """

    criterion: str = "probability"
    max_drop: float = 0.01
    cost: float = 0.0


def validate(params: Calibrate, spec: dict[str, Any]) -> list[str]:
    """Return the errors of the parameters, as sentences."""
    faults = []
    if params.criterion not in CRITERIA:
        choices = " or ".join(map(repr, CRITERIA))
        faults.append(f"criterion = {params.criterion!r}: choose {choices}")
    for key in ("max_drop", "cost"):
        if not 0 <= getattr(params, key) <= 1:
            faults.append(f"{key} = {getattr(params, key)}: choose 0..1")
    if params.criterion == "patience" and len(spec.get("exits") or (0, 0)) < 2:
        faults.append("patience needs at least two exits. Give the step 'exits' more layers")
    return faults


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
        base.EngineConfig(before.folder, before.metadata, serve, context.threads)
    )
    assert isinstance(loaded, StagesEngine)
    selection = [example.candidates for example in task.examples("selection")]
    model = before.metadata["model"]
    ends = [*(layer + 1 for layer in model["exits"]), model["layers"]]
    logits = []
    for stage in range(len(ends)):  # the logits of each stage: all examples leave there
        thresholds = tuple(-1.0 if stage == exit_ else NEVER for exit_ in range(len(ends) - 1))
        loaded.rule = replace(loaded.rule, thresholds=thresholds)
        logits.append(loaded.scores(selection))
    costs = [end / model["layers"] for end in ends]
    selection_slice = SelectionSlice(task, logits, costs, per_candidate=True)
    unchanged = {key: before.metadata[key] for key in ("format", "dtype", "model")}
    return unchanged | selection_slice.choose_rule(
        params.criterion, params.max_drop, params.cost, per_stage=False
    )


STEP = Step("calibrate", 1, Calibrate, ("stages",), run, validate, trains=True)
