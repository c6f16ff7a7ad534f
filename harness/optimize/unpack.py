"""Bundled weights as they are, for the custom code of a submission."""

import shutil
from typing import Any

from harness.models.model_spec import ModelSpec
from harness.optimize.base import Inputs, Step, StepContext, StepParams
from harness.tasks.task import Task


class Unpack(StepParams):
    """Take the files of `[model] weights` as they are, for a custom module or command."""


def run(inputs: Inputs, task: Task, params: Unpack, context: StepContext) -> dict[str, Any]:
    """Copy the files."""
    assert inputs.encoder is not None, "a manifest without weights is refused earlier"
    shutil.copytree(inputs.encoder.folder, context.out, dirs_exist_ok=True)
    return {"format": "files"}


def output_spec(params: Unpack, spec: ModelSpec) -> ModelSpec:
    """Return the format; nothing else is known of the files."""
    return ModelSpec("files", spec.name)


STEP = Step("unpack", 1, Unpack, ("checkpoint",), run, output_spec=output_spec)
