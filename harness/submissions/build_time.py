"""Estimates how long a build takes before it starts, within about a factor of two.

Training costs 6 floating-point operations per parameter and token, and a teacher's logits cost 2
(Kaplan et al. 2020, section 2.1). A training step in bf16 runs at nearly the rate of an fp32 matrix
product, one in fp32 at half of it. Steps that do not train take seconds.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from harness.errors import HarnessError
from harness.models import pretrained
from harness.models.model_spec import ModelSpec
from harness.optimize.base import StepParams, get_step
from harness.optimize.training.schedule import Schedule
from harness.submissions.plan import PlannedStep
from harness.tasks.task import Task
from harness.telemetry.kernel import has_bf16_products

MATMUL_SHARE_BF16, MATMUL_SHARE_FP32 = 0.9, 0.55
"""The measured rate of a training step, as a share of the rate of an fp32 matrix product."""

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
        candidates: number of texts of an example, more than one for a choice.
        transfer: number of texts of the transfer text.
        tokens: mean number of tokens of a text.
    """

    examples: int
    candidates: float
    transfer: int
    tokens: float

    def count_texts(self, params: StepParams) -> float:
        """Return the number of texts that a step trains on in each epoch."""
        examples = min(getattr(params, "examples", 0) or self.examples, self.examples)
        texts = examples * self.candidates
        texts += self.transfer if getattr(params, "transfer", False) else 0
        return texts * (1 + getattr(params, "augment", 0) + getattr(params, "pairs", 0))


@dataclass(frozen=True)
class _Model:
    """A model that a step takes or writes.

    Attributes:
        spec: what is known of it.
        head_size: number of columns of a head, which pruning keeps.
    """

    spec: ModelSpec
    head_size: float

    def count_parameters(self) -> float:
        """Return the number of parameters of the layers, without embeddings.

        Sizes that are not known are those of MiniLM-L6.
        """
        layers, width = self.spec.layers or 6, self.spec.width or 384
        attention = 4 * width * (self.spec.heads or 12) * self.head_size
        return float(layers * (attention + 2 * width * (self.spec.ffn or 1536)))


def estimate_build_seconds(steps: Iterable[PlannedStep]) -> dict[str, float]:
    """Estimate the time of each step that the cache does not hold.

    The rate of this machine is measured once, for 0.3 seconds.

    Args:
        steps: steps of a plan, each after its inputs; the training splits of those that are missing
            must be available locally.

    Returns:
        Seconds by the key of the step.
    """
    planned = {step.key: step for step in steps}
    if all(step.is_built for step in planned.values()):
        return {}
    rate = _measure_flops_per_second()
    sizes: dict[str, _TextSize] = {}
    models: dict[str, _Model] = {}
    seconds = {}
    for key, planned_step in planned.items():
        step = get_step(planned_step.use)
        params = step.params(**planned_step.values)
        before = _get_input(planned_step, models)
        models[key] = _Model(step.output_spec(params, before.spec), before.head_size)
        if planned_step.is_built:
            continue
        seconds[key] = STEP_SECONDS
        epochs = getattr(params, "epochs", 0)
        if not epochs:
            continue
        task = planned_step.task
        if task.name not in sizes:
            sizes[task.name] = _measure_texts(task)
        texts = sizes[task.name].count_texts(params)
        flops_per_token = 0.0
        if planned_step.teacher:
            flops_per_token += 2 * models[planned_step.teacher].count_parameters()
        max_length = task.max_length
        if isinstance(params, Schedule):
            epochs = params.count_updates(round(texts))[1]
            flops_per_token += 6 * models[key].count_parameters() * epochs
            max_length = params.max_length or max_length
        else:
            seconds[key] += STATIC_SECONDS * texts * epochs
        seconds[key] += texts * min(sizes[task.name].tokens, max_length) * flops_per_token / rate
    return seconds


def _get_input(step: PlannedStep, models: dict[str, _Model]) -> _Model:
    """Return the model that a step starts from."""
    if step.encoder:
        try:
            spec = pretrained.get_encoder_spec(step.encoder.name, step.encoder.base)
        except HarnessError:  # a checkpoint of another architecture, or weights to download
            spec = ModelSpec()
        before = _Model(spec, (spec.width or 384) / (spec.heads or 12))
    else:
        before = models.get(step.parent, _Model(ModelSpec(), 32))
    if step.teacher:
        teacher = replace(models[step.teacher].spec, teacher=None)
        before = replace(before, spec=replace(before.spec, teacher=teacher))
    return before


def _measure_texts(task: Task) -> _TextSize:
    examples = task.examples("train")
    candidates = words = 0
    for example in examples:
        candidates += len(example.candidates)
        words += sum(len(text.split()) for candidate in example.candidates for text in candidate)
    return _TextSize(
        len(examples),
        candidates / max(1, len(examples)),
        len(task.transfer.load()) if task.transfer else 0,
        min(TOKENS_PER_WORD * words / max(1, candidates) + 3, task.max_length),
    )


@cache
def _measure_flops_per_second() -> float:
    """Return the estimated rate of a training step on this machine."""
    inputs, weights = np.ones((1024, 384), np.float32), np.ones((384, 1536), np.float32)
    shortest, started = float("inf"), time.perf_counter()
    while time.perf_counter() - started < 0.3:
        before = time.perf_counter()
        inputs @ weights
        shortest = min(shortest, time.perf_counter() - before)
    share = MATMUL_SHARE_BF16 if has_bf16_products() else MATMUL_SHARE_FP32
    return share * 2 * inputs.size * 1536 / shortest


def format_duration(seconds: float) -> str:
    """Return an estimated time, rounded, with its unit."""
    if seconds < 90:
        return f"{max(10, round(seconds, -1)):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
