"""Taking files that came along as they are, for code of the submission's own."""

import shutil
from dataclasses import dataclass
from typing import Any

from harness.optimize.base import Inputs, Step, StepContext
from harness.tasks.task import Task


@dataclass(frozen=True)
class Unpack:
    """Take the files of `[model] weights` as they are, for a module or a command of one's own.

    No parameters.
    """


def run(inputs: Inputs, task: Task, params: Unpack, context: StepContext) -> dict[str, Any]:
    """Copy the files."""
    assert inputs.encoder is not None, "a manifest without weights is refused before"
    shutil.copytree(inputs.encoder.folder, context.out, dirs_exist_ok=True)
    return {"format": "files"}


def output_spec(params: Unpack, shape: dict[str, Any]) -> dict[str, Any]:
    """Nothing more is known of it."""
    return {"format": "files"}


STEP = Step("unpack", 1, Unpack, ("checkpoint",), run, output_spec=output_spec)
