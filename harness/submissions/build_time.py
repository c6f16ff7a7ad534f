"""How long a build will take, before it is begun: right within a factor of two or so.

Training costs 6 floating-point operations a parameter and token, and a teacher's answers 2 (Kaplan
et al. 2020, section 2.1); a training step runs at about the rate of a plain matrix product. What
does not train takes seconds.
"""

import time
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import HarnessError
from harness.models import pretrained
from harness.store.cache import artifact_dir
from harness.submissions.manifest import System, find_systems, read_system
from harness.submissions.plan import plan_build
from harness.tasks.task import Task

SHARE = 0.9
"""Of the rate of a matrix product that a training step reaches, as measured."""

PLAIN_SECONDS = 8.0
STATIC_SECONDS = 5e-4
"""Of a text and epoch of the step `static`."""

PIECES = 1.35
"""Word pieces a word."""


def build_seconds(system: System, task: Task, root: Path) -> float:
    """Of all steps that the store does not hold; the task's training split must be at hand."""
    train = task.training_task.examples("train")
    words = [sum(len(text.split()) for one in each.candidates for text in one) for each in train]
    tokens = min(PIECES * sum(words) / len(words) + 3, task.max_length * 1.0)
    gathered = len(task.training_task.transfer.load()) if task.training_task.transfer else 0
    left = {each.key for each in plan_build(system, task, 0, root)}
    left = {key for key in left if not artifact_dir(key).is_dir()}
    if not left:
        return 0.0
    return _seconds(system, task, root, left, (len(train), gathered, tokens), _rate())


def _seconds(
    system: System,
    task: Task,
    root: Path,
    left: set[str],
    text: tuple[int, int, float],
    rate: float,
) -> float:
    known, total = find_systems(root), 0.0
    for name in [*([system.teacher] if system.teacher else []), *system.members]:
        total += _seconds(read_system(known[name], root), task, root, left, text, rate)
    own = plan_build(system, task, 0, root)[-len(system.recipe) :] if system.recipe else []
    shape = _start(system, root, known)
    teacher = _parameters(shape)
    count, gathered, tokens = text
    for step in own:
        params = step.step_config.params
        shape = {**shape, **step.step_config.step.output_spec(params, shape)}
        if step.key not in left:
            continue
        left.discard(step.key)
        epochs = getattr(params, "epochs", 0)
        texts = count + (gathered if getattr(params, "transfer", False) else 0)
        texts *= 1 + getattr(params, "augment", 0)
        if step.step_config.step.name == "static":
            total += STATIC_SECONDS * texts * epochs
        elif epochs:
            taught = 2 * teacher if step.step_config.step.needs_teacher else 0
            total += texts * tokens * (6 * _parameters(shape) * epochs + taught) / rate
        total += PLAIN_SECONDS
    return total


def _start(system: System, root: Path, known: dict[str, Path]) -> dict[str, Any]:
    """What the recipe begins with; empty where it is no encoder that is known."""
    if system.teacher:
        shape = dict(read_system(known[system.teacher], root).shape)
    else:
        try:
            shape = pretrained.get_encoder_spec(system.pretrained, system.folder)
        except HarnessError:
            return {}
    size = shape.get("width", 384) / shape.get("heads", 12)
    return {"head_size": size, **shape}


def _parameters(shape: dict[str, Any]) -> float:
    """Of the layers, without embeddings."""
    full = {"layers": 6, "width": 384, "heads": 12, "ffn": 1536, "head_size": 32} | shape
    attention = 4 * full["width"] * full["heads"] * full["head_size"]
    return float(full["layers"] * (attention + 2 * full["width"] * full["ffn"]))


def _rate() -> float:
    """Floating-point operations a second of a training step on this machine."""
    rows, weights = np.ones((1024, 384), np.float32), np.ones((384, 1536), np.float32)
    best, started = float("inf"), time.perf_counter()
    while time.perf_counter() - started < 0.3:
        before = time.perf_counter()
        rows @ weights
        best = min(best, time.perf_counter() - before)
    return SHARE * 2 * rows.size * 1536 / best
