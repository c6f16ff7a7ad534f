"""A cascade: other systems in order, the cheapest first; each answers where its calibrated
confidence passes its threshold (Viola & Jones 2001; FrugalGPT: Chen et al. 2023).
"""

import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from harness.optimize.base import Inputs, Step, StepContext
from harness.tasks.task import Task


@dataclass(frozen=True)
class Cascade:
    """Scale the members' confidences, and choose a threshold for each but the last, jointly.

    criterion: an example is answered by its `probability` or by its `entropy`.
    max_drop: the score that may be lost against the last member, 0..1.
    """

    criterion: str = "probability"
    max_drop: float = 0.01


PASSES = 3
"""Times that a member's speed is taken; the shortest counts."""


def validate(params: Cascade, shape: dict[str, Any]) -> list[str]:
    """Faults of the parameters, as sentences."""
    faults = []
    if params.criterion not in ("probability", "entropy"):
        faults.append(f"criterion = {params.criterion!r}: choose 'probability' or 'entropy'")
    if not 0 <= params.max_drop <= 1:
        faults.append(f"max_drop = {params.max_drop}: choose 0..1")
    return faults


def run(inputs: Inputs, task: Task, params: Cascade, context: StepContext) -> dict[str, Any]:
    """Put the members' files side by side, with the rule by which they pass on.

    What a member costs is the time it takes for the selection slice here, one by one.
    Raises: BuildError without a selection slice.
    """
    from harness.engines import base, registry
    from harness.optimize.thresholds import Slice

    examples = [each.candidates for each in task.examples("selection")]
    members: list[dict[str, Any]] = []
    logits, costs = [], []
    for number, each in enumerate(inputs.members):
        folder = context.out / str(number)
        shutil.copytree(each.artifact.folder, folder, copy_function=os.link)
        about = each.artifact.engine_metadata
        serve = base.ServeConfig(each.engine)
        loaded = registry.load_engine(base.EngineConfig(folder, about, serve, context.threads))
        logits.append(loaded.scores(examples))
        costs.append(_seconds(loaded, examples))
        context.log(f"{each.name}: {costs[-1] * 1e6:.0f} us an example")
        members.append({"name": each.name, "engine": each.engine, "about": about})
    slice_ = Slice(task, logits, list(accumulate(costs)), by_input=False)
    chosen = slice_.choose(params.criterion, params.max_drop, 0.0, joint=True)
    dtypes = {str(each["about"].get("dtype", "fp32")) for each in members}
    count = sum(each["about"].get("model", {}).get("parameters", 0) for each in members)
    return {
        "format": "cascade",
        "dtype": next((each for each in sorted(dtypes) if each != "fp32"), "fp32"),
        "model": {"parameters": count},
        "members": members,
        "seconds": costs,
        **chosen,
    }


def _seconds(loaded: Any, examples: Sequence[Any]) -> float:
    """For an example, in the fastest of some passes."""
    best = float("inf")
    for _ in range(PASSES):
        started = time.perf_counter()
        loaded.scores(examples)
        best = min(best, time.perf_counter() - started)
    return best / len(examples)


STEP = Step(
    "cascade",
    1,
    Cascade,
    ("members",),
    run,
    validate,
    output_spec=lambda params, shape: {"format": "cascade"},
    trains=True,
)
