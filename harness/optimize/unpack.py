"""Bundled weights as they are, for the custom code of a submission."""

import shutil
from dataclasses import dataclass
from typing import Any

from harness.optimize.base import Inputs, Step, StepContext
from harness.tasks.task import Task


@dataclass(frozen=True)
class Unpack:
    """Take the files of `[model] weights` as they are, for a custom module or command.

    No parameters.
    """


def run(inputs: Inputs, task: Task, params: Unpack, context: StepContext) -> dict[str, Any]:
    """Copy the files."""
    assert inputs.encoder is not None, "a manifest without weights is refused earlier"
    shutil.copytree(inputs.encoder.folder, context.out, dirs_exist_ok=True)
    return {"format": "files"}


def output_spec(params: Unpack, spec: dict[str, Any]) -> dict[str, Any]:
    """Return the format; nothing else is known of the files."""
    return {"format": "files"}


STEP = Step("unpack", 1, Unpack, ("checkpoint",), run, output_spec=output_spec)
