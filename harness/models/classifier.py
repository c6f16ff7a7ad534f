"""The encoder classifier: BERT with a classification layer, and optionally early exits.

Module names are those of transformers' BertForSequenceClassification.
"""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from harness.errors import BuildError
from harness.models.bert import ACTIVATIONS, Bert, Dense
from harness.models.encoder_spec import EncoderSpec as EncoderSpec
from harness.models.model_spec import WEIGHTS as WEIGHTS


class Exit(nn.Module):
    """Pooler and classification layer after an inner layer (DeeBERT: Xin et al. 2020)."""

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.pooler = Dense(spec.width, spec.width, torch.tanh)
        self.dropout = nn.Dropout(spec.dropout)
        self.classifier = nn.Linear(spec.width, spec.labels)

    def forward(self, hidden: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.dropout(self.pooler(hidden[:, 0])))
        return logits


class Classifier(nn.Module):
    """The whole model, from token ids to logits.

    Attributes:
        spec: the architecture.
        fused_attention: whether to use PyTorch's attention kernel; off for export, because graph
            optimizers recognize only the plain form.
        plain_attention: number of tokens up to which the kernel is not used all the same. For short
            inputs its backward pass on a CPU takes several times as long as that of the plain form.
        first_only: whether the last layer computes the first token alone, the only one that the
            pooler reads; the logits are the same. Off by default, so that the PyTorch baseline is
            what users normally run.
    """

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.spec = spec
        self.fused_attention, self.plain_attention, self.first_only = True, 0, False
        self.bert = Bert(spec)
        self.dropout = nn.Dropout(spec.dropout)
        self.classifier = nn.Linear(spec.width, spec.labels)
        self.exits = nn.ModuleList(Exit(spec) for _ in spec.exits)

    def replace_head(self, labels: int) -> None:
        """Replace the classification layer by a new one, with random weights.

        Args:
            labels: its number of labels.
        """
        self.spec = dataclasses.replace(self.spec, labels=labels)
        self.classifier = nn.Linear(self.spec.width, labels)
        self.initialize_head()

    def initialize_head(self) -> None:
        """Draw the weights of the classification layer, as BERT does."""
        nn.init.normal_(self.classifier.weight, std=0.02)
        nn.init.zeros_(self.classifier.bias)

    def set_activation(self, activation: str) -> None:
        """Replace the activation of the feed-forward networks: `gelu` or `relu`."""
        self.spec = dataclasses.replace(self.spec, activation=activation)
        for layer in self.bert.encoder.layer:
            intermediate = layer.get_submodule("intermediate")
            assert isinstance(intermediate, Dense)
            intermediate.activation = ACTIVATIONS[activation]

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        """Return logits [inputs, labels].

        Args:
            input_ids: int64 [inputs, length].
            attention_mask: int64 [inputs, length], 1 for a token, 0 for padding.
            token_type_ids: int64 [inputs, length].
        """
        hidden = self.bert.embeddings(input_ids, token_type_ids)
        return self.stage(hidden, attention_mask, 0, None)[0]

    def exit_logits(self, ids: Tensor, mask: Tensor, segments: Tensor) -> list[Tensor]:
        """Return the logits of every exit in order, then those of the last layer."""
        hidden = self.bert.embeddings(ids, segments)
        all_logits = []
        for start, stop in self.stages:
            logits, hidden, mask = self.stage(hidden, mask, start, stop)
            all_logits.append(logits)
        return all_logits

    @property
    def stages(self) -> list[tuple[int, int | None]]:
        """The layers between two exits: the first, and the first of the next stage or None."""
        ends = [layer + 1 for layer in self.spec.exits]
        return list(zip([0, *ends], [*ends, None], strict=True))

    def stage(
        self, hidden: Tensor, mask: Tensor, start: int, stop: int | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Apply the layers start..stop - 1 and their classifier: logits, hidden states, mask."""
        fused = self.fused_attention and hidden.shape[1] > self.plain_attention
        hidden, mask = self.bert.encoder(hidden, mask, fused, self.first_only, start, stop)
        if stop is None:
            return self.classifier(self.dropout(self.bert.pooler(hidden[:, 0]))), hidden, mask
        return self.exits[self.spec.exits.index(stop - 1)](hidden), hidden, mask


class Stage(nn.Module):
    """The layers up to an exit and its classifier: one graph of a chain that is exported.

    The first stage takes token ids, mask and segments. A later one takes the hidden states and the
    mask of the previous stage, and `rows`, int64 [remaining], the inputs that did not exit. All
    stages but the last return logits [remaining, labels], hidden states and mask; the last returns
    the logits alone.
    """

    def __init__(self, model: Classifier, number: int) -> None:
        super().__init__()
        self.model, self.number = model, number

    def forward(self, *feeds: Tensor) -> tuple[Tensor, ...]:
        start, stop = self.model.stages[self.number]
        if self.number == 0:
            ids, mask, segments = feeds
            hidden = self.model.bert.embeddings(ids, segments)
        else:
            hidden, mask, rows = feeds
            hidden, mask = hidden.index_select(0, rows), mask.index_select(0, rows)
        logits, hidden, mask = self.model.stage(hidden, mask, start, stop)
        return (logits,) if stop is None else (logits, hidden, mask)


def load(folder: Path, spec: EncoderSpec) -> Classifier:
    """Load the classifier of an artifact, in evaluation mode.

    Raises:
        BuildError: the weights do not fit the specification.
    """
    with torch.device("meta"):
        model = Classifier(spec)
    try:
        weights = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise BuildError(
            f"{folder / WEIGHTS}: {error}. Remove the folder and build again."
        ) from None
    assign_weights(model, weights, folder)
    return model.eval()


def save(model: Classifier, folder: Path) -> None:
    """Write the weights.

    Raises:
        BuildError: one of them is not finite.
    """
    weights = {name: value.detach().contiguous() for name, value in model.state_dict().items()}
    if name := find_nonfinite(weights):
        raise BuildError(
            f"weight {name} is not finite: training diverged. Lower the learning rate."
        )
    save_file(weights, folder / WEIGHTS)


def find_nonfinite(weights: dict[str, Tensor]) -> str:
    """Return the name of a weight that is infinite or not a number; '' if all are finite."""
    names = (name for name, value in weights.items() if not bool(torch.isfinite(value).all()))
    return next(names, "")


def describe(model: Classifier) -> dict[str, Any]:
    """Return the specification and the number of parameters, as `artifact.json` holds them."""
    return {
        **dataclasses.asdict(model.spec),
        "layers": model.spec.layers,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }


def assign_weights(model: Classifier, weights: dict[str, Tensor], folder: Path = Path()) -> None:
    """Assign weights to a model, without a copy.

    Args:
        model: a classifier, possibly without memory (on the device `meta`).
        weights: all of its weights by name.
        folder: where they come from, for error messages.

    Raises:
        BuildError: a weight is missing, has another shape, or is not finite.
    """
    if name := find_nonfinite(weights):  # before hours are spent on it
        raise BuildError(
            f"{folder / WEIGHTS}: weight {name} is not finite. Use another checkpoint, or train "
            "again with a lower learning rate."
        )
    try:
        model.load_state_dict(weights, assign=True)
    except RuntimeError as error:
        raise BuildError(f"{folder / WEIGHTS}: {' '.join(str(error).split())[:400]}") from None
    model.bert.fill_tables(model.spec)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
