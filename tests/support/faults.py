"""The faults of a step's parameters, as a manifest reports them."""

from pathlib import Path
from typing import Any

from harness.models.model_spec import ModelSpec
from harness.optimize.base import Step
from harness.schema import Faults

TINY = ModelSpec("safetensors", "tiny", layers=2, width=32, heads=4, ffn=64)


def step_faults(step: Step, values: dict[str, Any], spec: ModelSpec = TINY) -> list[str]:
    """Return what is wrong with the values, without the path."""
    faults = Faults(Path("m"))
    params = faults.check(step.params, values)
    lines = [line.removeprefix("m: ") for line in faults.lines]
    return [*lines, *(step.validate(params, spec) if params else ())]
