"""Cascades: other systems in order, the cheapest first; each one answers if its calibrated
confidence passes its threshold (Viola & Jones 2001; FrugalGPT: Chen et al. 2023).
"""

import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any, Literal

from pydantic import Field

from harness.optimize.base import Inputs, Step, StepContext, StepParams, get_selection
from harness.schema import Number
from harness.tasks.task import Task


class Cascade(StepParams):
    """Scale the confidences of the members, and choose a threshold for each but the last one."""

    criterion: Literal["probability", "entropy"] = Field(
        "probability", description="what an example is answered by"
    )
    max_drop: Number = Field(
        0.01,
        ge=0,
        le=1,
        description="the score that may be lost against the last member, with a margin of one "
        "standard error of the difference",
    )


PASSES = 3
"""How often the speed of a member is measured; the shortest time counts."""


def run(inputs: Inputs, task: Task, params: Cascade, context: StepContext) -> dict[str, Any]:
    """Write the files of all members, and the rule by which they pass examples on.

    The cost of a member is its time for the selection slice on this machine, one example after the
    other.

    Raises:
        BuildError: the selection slice is empty.
    """
    from harness.engines import base, registry
    from harness.optimize.thresholds import SelectionSlice

    examples = [example.candidates for example in get_selection(task)]
    members: list[dict[str, Any]] = []
    logits, costs = [], []
    for number, member in enumerate(inputs.members):
        folder = context.out / str(number)
        shutil.copytree(member.artifact.folder, folder, copy_function=os.link)
        metadata = member.artifact.engine_metadata
        serve = base.ServeConfig(member.engine)
        loaded = registry.load_engine(base.EngineConfig(folder, metadata, serve, context.threads))
        logits.append(loaded.scores(examples))
        costs.append(_time_example(loaded, examples))
        context.log(f"{member.name}: {costs[-1] * 1e6:.0f} µs per example")
        members.append({"name": member.name, "engine": member.engine, "about": metadata})
    selection_slice = SelectionSlice(task, logits, list(accumulate(costs)), per_candidate=False)
    rule = selection_slice.choose_rule(params.criterion, params.max_drop, 0.0, per_stage=True)
    dtypes = {str(member["about"].get("dtype", "fp32")) for member in members}
    parameters = sum(member["about"].get("model", {}).get("parameters", 0) for member in members)
    return {
        "format": "cascade",
        "dtype": next((dtype for dtype in sorted(dtypes) if dtype != "fp32"), "fp32"),
        "model": {"parameters": parameters},
        "members": members,
        "seconds": costs,
        **rule,
    }


def _time_example(loaded: Any, examples: Sequence[Any]) -> float:
    """Return the seconds of an example in the fastest of some passes."""
    best = float("inf")
    for _ in range(PASSES):
        started = time.perf_counter()
        loaded.scores(examples)
        best = min(best, time.perf_counter() - started)
    return best / len(examples)


STEP = Step(
    "cascade",
    2,
    Cascade,
    ("members",),
    run,
    output_spec=lambda params, spec: replace(spec, format="cascade"),
    trains=True,
)
