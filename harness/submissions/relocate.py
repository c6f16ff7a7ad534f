"""Manifests that are written into another folder than the one they were read from."""

import copy
import os
from pathlib import Path
from typing import Any

from harness.models import pretrained
from harness.store.cache import expand_home


def relocate(manifest: dict[str, Any], source: Path, target: Path | None = None) -> dict[str, Any]:
    """Return a manifest whose relative paths are right in another folder.

    Args:
        manifest: the content of a `submission.toml`.
        source: the folder that its paths are relative to.
        target: the folder that the new ones are relative to; None for absolute ones.
    """
    moved = copy.deepcopy(manifest)

    def move(path: str) -> str:
        place = (source / expand_home(path)).resolve()
        return os.path.relpath(place, target.resolve()) if target else str(place)

    moved["tasks"] = [
        move(task) if task.endswith(".toml") else task for task in manifest.get("tasks", ())
    ]
    model: dict[str, Any] = moved.get("model", {})
    for key in ("pretrained", "checkpoint"):
        if key in model and not pretrained.is_pinned(model[key]):
            model[key] = move(model[key])
    if "/" in model.get("teacher", ""):
        model["teacher"] = move(model["teacher"])
    if "members" in model:
        model["members"] = [move(name) if "/" in name else name for name in model["members"]]
    for step in moved.get("step", ()):
        if step.get("student") and not pretrained.is_pinned(step["student"]):
            step["student"] = move(step["student"])
    return moved
