"""The encoder classifier: BERT with a classification layer, and with others after inner layers,
where easy inputs leave (early exit). What artifacts hold, loaded and saved.

Module names are those of transformers' BertForSequenceClassification.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from harness.errors import BuildError
from harness.models.bert import ACTIVATIONS, Bert, Dense
from harness.models.bert import EncoderShape as EncoderShape

WEIGHTS = "model.safetensors"


class Exit(nn.Module):
    """Pooler and classification layer after an inner layer (DeeBERT: Xin et al. 2020)."""

    def __init__(self, shape: EncoderShape) -> None:
        super().__init__()
        self.pooler = Dense(shape.width, shape.width, torch.tanh)
        self.dropout = nn.Dropout(shape.dropout)
        self.classifier = nn.Linear(shape.width, shape.labels)

    def forward(self, hidden: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.dropout(self.pooler(hidden[:, 0])))
        return logits


class Classifier(nn.Module):
    """The whole model: token ids to logits.

    fused_attention: PyTorch's own attention kernel; off for export, whose optimizer knows the
    plain form.
    first_only: the last layer computes the first token alone, since the pooler reads no other; the
    logits are the same. Off unless set, so that plain PyTorch is what everybody has.
    """

    def __init__(self, shape: EncoderShape) -> None:
        super().__init__()
        self.shape = shape
        self.fused_attention, self.first_only = True, False
        self.bert = Bert(shape)
        self.dropout = nn.Dropout(shape.dropout)
        self.classifier = nn.Linear(shape.width, shape.labels)
        self.exits = nn.ModuleList(Exit(shape) for _ in shape.exits)

    def activate(self, activation: str) -> None:
        """Take another activation in the feed-forward networks."""
        self.shape = dataclasses.replace(self.shape, activation=activation)
        for layer in self.bert.encoder.layer:
            inner = layer.get_submodule("intermediate")
            assert isinstance(inner, Dense)
            inner.activation = ACTIVATIONS[activation]

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        """Int64 [inputs, length] each to logits [inputs, labels].

        attention_mask: 1 for a token, 0 for padding.
        """
        hidden = self.bert.embeddings(input_ids, token_type_ids)
        return self.stage(hidden, attention_mask, 0, None)[0]

    def exit_logits(self, ids: Tensor, mask: Tensor, segments: Tensor) -> list[Tensor]:
        """The logits of every exit in order, then those of the last layer."""
        hidden = self.bert.embeddings(ids, segments)
        found = []
        for start, stop in self.stages:
            logits, hidden, mask = self.stage(hidden, mask, start, stop)
            found.append(logits)
        return found

    @property
    def stages(self) -> list[tuple[int, int | None]]:
        """The layers between two exits, as (first, first of the next stage or None)."""
        ends = [layer + 1 for layer in self.shape.exits]
        return list(zip([0, *ends], [*ends, None], strict=True))

    def stage(
        self, hidden: Tensor, mask: Tensor, start: int, stop: int | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The layers start..stop - 1 and the classifier behind: logits, hidden states, mask."""
        hidden, mask = self.bert.encoder(
            hidden, mask, self.fused_attention, self.first_only, start, stop
        )
        if stop is None:
            return self.classifier(self.dropout(self.bert.pooler(hidden[:, 0]))), hidden, mask
        return self.exits[self.shape.exits.index(stop - 1)](hidden), hidden, mask


class Stage(nn.Module):
    """What is exported as one graph of a chain: the layers up to an exit, and its classifier.

    The first takes token ids, mask and segments; a later one hidden states and mask of the stage
    before, and `rows` int64 [n], the inputs that did not leave. All but the last give logits,
    hidden states and mask.
    """

    def __init__(self, model: Classifier, number: int) -> None:
        super().__init__()
        self.model, self.number = model, number

    def forward(self, *feeds: Tensor) -> tuple[Tensor, ...]:
        """What it takes and gives, as said above; logits [inputs that stay, labels]."""
        start, stop = self.model.stages[self.number]
        if self.number == 0:
            ids, mask, segments = feeds
            hidden = self.model.bert.embeddings(ids, segments)
        else:
            hidden, mask, rows = feeds
            hidden, mask = hidden.index_select(0, rows), mask.index_select(0, rows)
        found = self.model.stage(hidden, mask, start, stop)
        return found[:1] if stop is None else found


def from_pretrained(folder: Path, labels: int) -> Classifier:
    """A classifier on top of a pretrained encoder; the classification layer is new.

    Raises: BuildError if the folder holds no encoder of a known architecture.
    """
    try:
        shape = EncoderShape.of_config(json.loads((folder / "config.json").read_text()), labels)
        weights = load_file(folder / WEIGHTS)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise BuildError(f"{folder}: not a pretrained encoder ({error}).") from None
    model = Classifier(shape)
    nn.init.normal_(model.classifier.weight, std=0.02)
    nn.init.zeros_(model.classifier.bias)
    weights = {
        name if name.startswith("bert.") else f"bert.{name}": value
        for name, value in weights.items()
    }
    weights.pop("bert.embeddings.position_ids", None)
    new = {f"classifier.{name}": value for name, value in model.classifier.state_dict().items()}
    fill(model, {**weights, **new}, folder)
    return model


def from_checkpoint(folder: Path, order: list[int]) -> Classifier:
    """A fine-tuned classifier, its labels in this order.

    Raises: BuildError if the folder holds none of a known architecture.
    """
    try:
        config = json.loads((folder / "config.json").read_text())
        model = Classifier(EncoderShape.of_config(config, len(order)))
        weights = load_file(folder / WEIGHTS)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise BuildError(f"{folder}: not a fine-tuned classifier ({error}).") from None
    weights.pop("bert.embeddings.position_ids", None)
    for name in ("classifier.weight", "classifier.bias"):
        if name in weights and len(weights[name]) == len(order):
            weights[name] = weights[name][order].clone()
    fill(model, {name: value.float() for name, value in weights.items()}, folder)
    return model.eval()


def load(folder: Path, shape: EncoderShape) -> Classifier:
    """The classifier of an artifact, in evaluation mode.

    Raises: BuildError if the weights do not fit the shape.
    """
    with torch.device("meta"):
        model = Classifier(shape)
    try:
        weights = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise BuildError(
            f"{folder / WEIGHTS}: {error}. Remove the folder and build again."
        ) from None
    fill(model, weights, folder)
    return model.eval()


def save(model: Classifier, folder: Path) -> None:
    """Write the weights. Raises: BuildError if one of them is not finite."""
    weights = {name: value.detach().contiguous() for name, value in model.state_dict().items()}
    if name := not_finite(weights):
        raise BuildError(
            f"weight {name} is not finite: training diverged. Lower the learning rate."
        )
    save_file(weights, folder / WEIGHTS)


def not_finite(weights: dict[str, Tensor]) -> str:
    """The name of a weight that is infinite or not a number; '' where all are finite."""
    found = (name for name, value in weights.items() if not bool(torch.isfinite(value).all()))
    return next(found, "")


def describe(model: Classifier) -> dict[str, Any]:
    """The shape and the number of parameters, as `artifact.json` holds them."""
    return {
        **dataclasses.asdict(model.shape),
        "layers": model.shape.layers,
        "parameters": sum(each.numel() for each in model.parameters()),
    }


def fill(model: Classifier, weights: dict[str, Tensor], folder: Path = Path()) -> None:
    """Give a model its weights.

    Raises: BuildError, with the file in `folder`, if one misfits or is not finite.
    """
    if name := not_finite(weights):  # before hours are spent on it
        raise BuildError(
            f"{folder / WEIGHTS}: weight {name} is not finite. Take another checkpoint, or train "
            "again with a lower learning rate."
        )
    try:
        model.load_state_dict(weights, assign=True)
    except RuntimeError as error:
        raise BuildError(f"{folder / WEIGHTS}: {' '.join(str(error).split())[:400]}") from None
    model.bert.embeddings.position_ids = torch.arange(model.shape.positions).unsqueeze(0)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
