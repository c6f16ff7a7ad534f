"""What a student is taught by: distillation losses, each a scalar, averaged over the batch."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.models.classifier import Classifier


def soft_cross_entropy(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of the softened distributions, times T^2 (Hinton et al. 2015, section 2).

    student, teacher: logits [inputs, labels].
    """
    soft = (teacher / temperature).softmax(-1)
    return -(soft * (student / temperature).log_softmax(-1)).sum(-1).mean() * temperature**2


def hidden_mse(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Mean squared difference of hidden states over real tokens (Jiao et al. 2020, eq. 8).

    student, teacher: [inputs, length, width]; mask: bool [inputs, length], True for a token.
    """
    return functional.mse_loss(student[mask], teacher[mask])


def relation(
    student: Sequence[Tensor], teacher: Sequence[Tensor], mask: Tensor, heads: int
) -> Tensor:
    """KL divergence of the query-query, key-key and value-value relations, the mean over the three,
    relation heads and real tokens (MiniLMv2: Wang et al. 2021).

    student, teacher: queries, keys, values, each [inputs, length, columns], the columns of both
    divisible by `heads`; mask: bool [inputs, length], True for a token.
    """
    total = torch.zeros(())
    for ours, theirs in zip(student, teacher, strict=True):
        log_ours, log_theirs = (_relation(each, mask, heads) for each in (ours, theirs))
        apart = log_theirs.exp() * (log_theirs - log_ours)
        apart = apart.masked_fill(~mask[:, None, None, :], 0.0).sum(-1).mean(1)
        total = total + apart[mask].mean()
    return total / len(student)


def _relation(states: Tensor, mask: Tensor, heads: int) -> Tensor:
    """Log-softmax of the scaled self-products: [inputs, heads, length, length]."""
    split = states.float().view(*states.shape[:2], heads, -1).transpose(1, 2)
    products = split @ split.transpose(-1, -2) / split.shape[-1] ** 0.5
    lowest = torch.finfo(products.dtype).min
    masked: Tensor = products.masked_fill(~mask[:, None, None, :], lowest)
    return masked.log_softmax(-1)


@dataclass
class Taps:
    """What was seen inside a model during its last forward pass.

    embedding: [inputs, length, width]; hidden: the same after each layer;
    attention: queries, keys, values of each layer, each [inputs, length, heads x head size].
    """

    embedding: Tensor = field(default_factory=lambda: torch.empty(0))
    hidden: dict[int, Tensor] = field(default_factory=dict)
    attention: dict[int, dict[str, Tensor]] = field(default_factory=dict)


@contextmanager
def tapped(model: Classifier) -> Iterator[Taps]:
    """Taps that are filled by each forward pass inside the block."""
    taps, hooks = Taps(), []

    def keep_embedding(module: nn.Module, given: object, output: Tensor) -> None:
        taps.embedding = output

    hooks.append(model.bert.embeddings.register_forward_hook(keep_embedding))
    for index, layer in enumerate(model.bert.encoder.layer):

        def keep_hidden(
            module: nn.Module, given: object, output: Tensor, index: int = index
        ) -> None:
            taps.hidden[index] = output

        hooks.append(layer.register_forward_hook(keep_hidden))
        for part in ("query", "key", "value"):

            def keep_part(
                module: nn.Module,
                given: object,
                output: Tensor,
                index: int = index,
                part: str = part,
            ) -> None:
                taps.attention.setdefault(index, {})[part] = output

            hooks.append(
                layer.get_submodule(f"attention.self.{part}").register_forward_hook(keep_part)
            )
    try:
        yield taps
    finally:
        for hook in hooks:
            hook.remove()
