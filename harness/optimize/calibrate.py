"""Where examples leave a model with exits: chosen on the selection slice, of the graphs as they are
served (after quantization, that is).
"""

import os
from dataclasses import dataclass, replace
from typing import Any

from harness.engines.confidence import CRITERIA, NEVER
from harness.optimize.base import Inputs, Step, StepContext
from harness.tasks.task import Task


@dataclass(frozen=True)
class Calibrate:
    """Scale the exits' confidences, and choose one threshold for all of them.

    criterion: an example leaves by its `probability`, by its `entropy`, or by `patience`, once so
        many exits agree.
    max_drop: the score that may be lost against the whole model, 0..1.
    cost: instead of it, the mean cost that is wanted, as a share of the whole model's layers, 0..1;
        0: by max_drop.
    """

    criterion: str = "probability"
    max_drop: float = 0.01
    cost: float = 0.0


def validate(params: Calibrate, shape: dict[str, Any]) -> list[str]:
    """Faults of the parameters, as sentences."""
    faults = []
    if params.criterion not in CRITERIA:
        choices = " or ".join(map(repr, CRITERIA))
        faults.append(f"criterion = {params.criterion!r}: choose {choices}")
    for key in ("max_drop", "cost"):
        if not 0 <= getattr(params, key) <= 1:
            faults.append(f"{key} = {getattr(params, key)}: choose 0..1")
    if params.criterion == "patience" and len(shape.get("exits") or (0, 0)) < 2:
        faults.append("patience needs two exits or more. Give the step 'exits' more of them")
    return faults


def run(inputs: Inputs, task: Task, params: Calibrate, context: StepContext) -> dict[str, Any]:
    """Keep the graphs and add the rule by which examples leave.

    Raises: BuildError without a selection slice.
    """
    from harness.engines import base, registry
    from harness.engines.stages import StagesEngine
    from harness.optimize.thresholds import Slice

    assert inputs.artifact is not None
    before = inputs.artifact
    for path in before.folder.iterdir():
        if path.name != "artifact.json":
            os.link(path, context.out / path.name)
    serve = base.ServeConfig("onnxruntime", threshold="never")
    loaded = registry.load_engine(
        base.EngineConfig(before.folder, before.about, serve, context.threads)
    )
    assert isinstance(loaded, StagesEngine)
    selection = [each.candidates for each in task.examples("selection")]
    model = before.about["model"]
    ends = [*(layer + 1 for layer in model["exits"]), model["layers"]]
    logits = []
    for number in range(len(ends)):  # each stage's own answers: all leave there
        thresholds = tuple(-1.0 if number == each else NEVER for each in range(len(ends) - 1))
        loaded.rule = replace(loaded.rule, thresholds=thresholds)
        logits.append(loaded.scores(selection))
    slice_ = Slice(task, logits, [each / model["layers"] for each in ends], by_input=True)
    kept = {key: before.about[key] for key in ("format", "dtype", "model")}
    return kept | slice_.choose(params.criterion, params.max_drop, params.cost, joint=False)


STEP = Step("calibrate", 1, Calibrate, ("stages",), run, validate, trains=True)
