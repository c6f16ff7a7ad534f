"""Distillation losses, each a scalar averaged over the batch."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.models.classifier import Classifier


def soft_cross_entropy(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return the cross-entropy of the softened distributions, times the squared temperature.

    Hinton et al. (2015), section 2.

    Args:
        student: logits [inputs, labels].
        teacher: logits [inputs, labels].
        temperature: divides both, above 0.
    """
    soft = (teacher / temperature).softmax(-1)
    return -(soft * (student / temperature).log_softmax(-1)).sum(-1).mean() * temperature**2


def kl_divergence(student: Tensor, teacher: Tensor) -> float:
    """Return the mean Kullback-Leibler divergence of the student from the teacher, in nats.

    Args:
        student: logits [inputs, labels].
        teacher: logits [inputs, labels].
    """
    return functional.kl_div(
        student.log_softmax(-1), teacher.log_softmax(-1), reduction="batchmean", log_target=True
    ).item()


def hidden_mse(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Return the mean squared difference of hidden states (Jiao et al. 2020, eq. 8).

    Args:
        student: [inputs, length, width].
        teacher: [inputs, length, width].
        mask: bool [inputs, length], True for a token; padding does not count.
    """
    return functional.mse_loss(student[mask], teacher[mask])


def relation_loss(
    student: Sequence[Tensor], teacher: Sequence[Tensor], mask: Tensor, heads: int
) -> Tensor:
    """Return the KL divergence of query-query, key-key and value-value relations.

    It is the mean over the three kinds, the relation heads and the tokens (MiniLMv2: Wang et al.
    2021).

    Args:
        student: queries, keys, values, each [inputs, length, columns].
        teacher: the same, possibly with another number of columns.
        mask: bool [inputs, length], True for a token; padding does not count.
        heads: number of relation heads; divides the columns of both.
    """
    total = torch.zeros(())
    for student_states, teacher_states in zip(student, teacher, strict=True):
        student_log = _log_relation(student_states, mask, heads)
        teacher_log = _log_relation(teacher_states, mask, heads)
        divergence = teacher_log.exp() * (teacher_log - student_log)
        divergence = divergence.masked_fill(~mask[:, None, None, :], 0.0).sum(-1).mean(1)
        total = total + divergence[mask].mean()
    return total / len(student)


def _log_relation(states: Tensor, mask: Tensor, heads: int) -> Tensor:
    """Return the log-softmax of the scaled self-products: [inputs, heads, length, length]."""
    split = states.float().view(*states.shape[:2], heads, -1).transpose(1, 2)
    products = split @ split.transpose(-1, -2) / split.shape[-1] ** 0.5
    lowest = torch.finfo(products.dtype).min
    masked: Tensor = products.masked_fill(~mask[:, None, None, :], lowest)
    return masked.log_softmax(-1)


@dataclass
class Activations:
    """The activations of a model in its latest forward pass.

    Attributes:
        embedding: [inputs, length, width].
        hidden: for each layer its output [inputs, length, width].
        attention: for each layer `query`, `key` and `value`, each [inputs, length, heads x head
            size].
    """

    embedding: Tensor = field(default_factory=lambda: torch.empty(0))
    hidden: dict[int, Tensor] = field(default_factory=dict)
    attention: dict[int, dict[str, Tensor]] = field(default_factory=dict)


@contextmanager
def record_activations(model: Classifier) -> Iterator[Activations]:
    """Record the activations of each forward pass inside the block."""
    activations, hooks = Activations(), []

    def keep_embedding(module: nn.Module, inputs: object, output: Tensor) -> None:
        activations.embedding = output

    hooks.append(model.bert.embeddings.register_forward_hook(keep_embedding))
    for index, layer in enumerate(model.bert.encoder.layer):

        def keep_hidden(
            module: nn.Module, inputs: object, output: Tensor, index: int = index
        ) -> None:
            activations.hidden[index] = output

        hooks.append(layer.register_forward_hook(keep_hidden))
        for part in ("query", "key", "value"):

            def keep_part(
                module: nn.Module,
                inputs: object,
                output: Tensor,
                index: int = index,
                part: str = part,
            ) -> None:
                activations.attention.setdefault(index, {})[part] = output

            hooks.append(
                layer.get_submodule(f"attention.self.{part}").register_forward_hook(keep_part)
            )
    try:
        yield activations
    finally:
        for hook in hooks:
            hook.remove()
