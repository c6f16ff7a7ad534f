"""Estimates how long a build takes before it starts, within about a factor of two.

Training costs 6 floating-point operations per parameter and token, and a teacher's logits cost 2
(Kaplan et al. 2020, section 2.1). A training step runs at nearly the rate of a matrix product.
Steps that do not train take seconds.
"""

import time
from dataclasses import dataclass, replace

import numpy as np

from harness.errors import HarnessError
from harness.models import pretrained
from harness.models.model_spec import ModelSpec
from harness.submissions.plan import PlannedSystem, plan_system
from harness.submissions.system import System
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


def estimate_build_seconds(planned: PlannedSystem) -> float:
    """Return the estimated time of all steps whose artifacts the cache does not hold, in seconds.

    The rate of this machine is measured for 0.3 seconds.

    Args:
        planned: the system on a task, whose training split must be available locally.
    """
    missing = {step.key for step in planned.steps if not step.is_built}
    if not missing:
        return 0.0
    rate = _measure_flops_per_second()
    size = _measure_texts(planned.task)
    return _estimate(planned.system, planned.task, missing, size, rate)


def _measure_texts(task: Task) -> _TextSize:
    examples = task.training_task.examples("train")
    words = 0
    for example in examples:
        words += sum(len(text.split()) for candidate in example.candidates for text in candidate)
    tokens = min(TOKENS_PER_WORD * words / len(examples) + 3, task.max_length * 1.0)
    transfer = task.training_task.transfer
    return _TextSize(len(examples), len(transfer.load()) if transfer else 0, tokens)


def _estimate(system: System, task: Task, missing: set[str], size: _TextSize, rate: float) -> float:
    """Estimate the time of the missing steps, and remove their keys from `missing`."""
    total = 0.0
    for other in (*([system.teacher] if system.teacher else []), *system.members):
        total += _estimate(other, task, missing, size, rate)
    planned = plan_system(system, task, 0)
    own_steps = planned.steps[len(planned.steps) - planned.own_steps :]
    spec = _get_start_spec(system)
    head_size = (spec.width or 384) / (spec.heads or 12)  # pruning keeps the size of a head
    teacher_parameters = _count_parameters(spec, head_size)
    for step_config, planned_step in zip(system.recipe, own_steps, strict=True):
        step, params = step_config.step, step_config.params
        spec = step.output_spec(params, spec)
        if planned_step.key not in missing:
            continue
        missing.discard(planned_step.key)
        total += STEP_SECONDS
        epochs = getattr(params, "epochs", 0)
        texts = size.examples + (size.transfer if getattr(params, "transfer", False) else 0)
        texts *= 1 + getattr(params, "augment", 0)
        if step.name == "static":
            total += STATIC_SECONDS * texts * epochs
        elif epochs:
            teacher_flops = 2 * teacher_parameters if step.needs_teacher else 0
            flops_per_token = 6 * _count_parameters(spec, head_size) * epochs + teacher_flops
            total += texts * size.tokens * flops_per_token / rate
    return total


def _get_start_spec(system: System) -> ModelSpec:
    """Return the specification of the model that the recipe starts from."""
    if system.teacher:
        return replace(system.teacher.spec, teacher=system.teacher.spec)
    try:
        return pretrained.get_encoder_spec(system.encoder, system.folder)
    except HarnessError:
        return ModelSpec()


def _count_parameters(spec: ModelSpec, head_size: float) -> float:
    """Return the number of parameters of the layers, without embeddings.

    Sizes that are not known are those of MiniLM-L6.
    """
    layers, width = spec.layers or 6, spec.width or 384
    attention = 4 * width * (spec.heads or 12) * head_size
    return float(layers * (attention + 2 * width * (spec.ffn or 1536)))


def _measure_flops_per_second() -> float:
    """Return the estimated rate of a training step on this machine."""
    inputs, weights = np.ones((1024, 384), np.float32), np.ones((384, 1536), np.float32)
    shortest, started = float("inf"), time.perf_counter()
    while time.perf_counter() - started < 0.3:
        before = time.perf_counter()
        inputs @ weights
        shortest = min(shortest, time.perf_counter() - before)
    return MATMUL_SHARE * 2 * inputs.size * 1536 / shortest
