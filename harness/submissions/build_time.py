"""Estimates how long a build takes before it starts, within about a factor of two.

Training costs 6 floating-point operations per parameter and token, and a teacher's logits cost 2
(Kaplan et al. 2020, section 2.1). A training step runs at nearly the rate of a matrix product.
Steps that do not train take seconds.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import HarnessError
from harness.models import pretrained
from harness.store.cache import artifact_dir
from harness.submissions.manifest import ArtifactSpec, System, find_systems, read_system
from harness.submissions.plan import plan_build
from harness.tasks.task import Task

MATMUL_SHARE = 0.9
"""The measured rate of a training step, as a share of the rate of a matrix product."""

STEP_SECONDS = 8.0
"""Time of a step besides training: loading, exporting, writing."""

STATIC_SECONDS = 5e-4
"""Time per text and epoch of the step `static`."""

TOKENS_PER_WORD = 1.35


@dataclass(frozen=True)
class _TextSize:
    """The size of what a task offers for training.

    Attributes:
        examples: number of examples of the training split.
        transfer: number of texts of the transfer text.
        tokens: mean number of tokens of an example.
    """

    examples: int
    transfer: int
    tokens: float


def estimate_build_seconds(system: System, task: Task, root: Path) -> float:
    """Return the estimated time of all steps whose artifacts the cache does not hold, in seconds.

    The rate of this machine is measured for 0.3 seconds.

    Args:
        system: the system.
        task: the task; its training split must be available locally.
        root: the folder that holds baselines/ and submissions/.
    """
    planned_keys = {planned.key for planned in plan_build(system, task, 0, root)}
    missing = {key for key in planned_keys if not artifact_dir(key).is_dir()}
    if not missing:
        return 0.0
    rate = _measure_flops_per_second()
    return _estimate(system, task, root, missing, _measure_texts(task), rate)


def _measure_texts(task: Task) -> _TextSize:
    examples = task.training_task.examples("train")
    words = 0
    for example in examples:
        words += sum(len(text.split()) for candidate in example.candidates for text in candidate)
    tokens = min(TOKENS_PER_WORD * words / len(examples) + 3, task.max_length * 1.0)
    transfer = task.training_task.transfer
    return _TextSize(len(examples), len(transfer.load()) if transfer else 0, tokens)


def _estimate(
    system: System, task: Task, root: Path, missing: set[str], size: _TextSize, rate: float
) -> float:
    """Estimate the time of the missing steps, and remove their keys from `missing`."""
    systems, total = find_systems(root), 0.0
    for name in (*([system.teacher] if system.teacher else []), *system.members):
        total += _estimate(read_system(systems[name], root), task, root, missing, size, rate)
    steps = plan_build(system, task, 0, root)[-len(system.recipe) :] if system.recipe else []
    spec = _get_start_spec(system, root, systems)
    teacher_parameters = _count_parameters(spec)
    for planned in steps:
        step, params = planned.step_config.step, planned.step_config.params
        spec = {**spec, **step.output_spec(params, spec)}
        if planned.key not in missing:
            continue
        missing.discard(planned.key)
        total += STEP_SECONDS
        epochs = getattr(params, "epochs", 0)
        texts = size.examples + (size.transfer if getattr(params, "transfer", False) else 0)
        texts *= 1 + getattr(params, "augment", 0)
        if step.name == "static":
            total += STATIC_SECONDS * texts * epochs
        elif epochs:
            teacher_flops = 2 * teacher_parameters if step.needs_teacher else 0
            flops_per_token = 6 * _count_parameters(spec) * epochs + teacher_flops
            total += texts * size.tokens * flops_per_token / rate
    return total


def _get_start_spec(system: System, root: Path, systems: dict[str, Path]) -> ArtifactSpec:
    """Return the specification of the encoder that the recipe starts from; {} if it is unknown."""
    if system.teacher:
        spec = dict(read_system(systems[system.teacher], root).spec)
    else:
        try:
            spec = pretrained.get_encoder_spec(system.pretrained, system.folder)
        except HarnessError:
            return {}
    return {"head_size": spec.get("width", 384) / spec.get("heads", 12), **spec}


def _count_parameters(spec: dict[str, Any]) -> float:
    """Return the number of parameters of the layers, without embeddings."""
    full = {"layers": 6, "width": 384, "heads": 12, "ffn": 1536, "head_size": 32} | spec
    attention = 4 * full["width"] * full["heads"] * full["head_size"]
    return float(full["layers"] * (attention + 2 * full["width"] * full["ffn"]))


def _measure_flops_per_second() -> float:
    """Return the estimated rate of a training step on this machine."""
    inputs, weights = np.ones((1024, 384), np.float32), np.ones((384, 1536), np.float32)
    shortest, started = float("inf"), time.perf_counter()
    while time.perf_counter() - started < 0.3:
        before = time.perf_counter()
        inputs @ weights
        shortest = min(shortest, time.perf_counter() - before)
    return MATMUL_SHARE * 2 * inputs.size * 1536 / shortest
