"""The encoder classifier:

BERT (Devlin et al. 2019) with a classification layer, each layer with heads and neurons of its own
number.

Module names are those of transformers' BertForSequenceClassification, so weights pass both ways;
the forward pass is checked against its. It is written out here because transformers' BERT cannot
hold pruned heads, and because a worker that needs nothing but torch is ready a second sooner.
"""

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from harness.errors import BuildError

WEIGHTS = "model.safetensors"

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": functional.gelu,
    "relu": functional.relu,
}


@dataclass(frozen=True)
class Shape:
    """What an artifact says of its model.

    heads, ffn: attention heads and feed-forward neurons of each layer; head_size: columns of one
    head; width: of the hidden states.
    vocabulary, positions, segments: rows of the three embeddings.
    activation: of the feed-forward network, `gelu` or `relu`.
    """

    width: int
    heads: tuple[int, ...]
    head_size: int
    ffn: tuple[int, ...]
    vocabulary: int
    positions: int
    segments: int
    labels: int
    dropout: float = 0.1
    norm_eps: float = 1e-12
    activation: str = "gelu"

    @property
    def layers(self) -> int:
        """Number of layers."""
        return len(self.heads)

    @staticmethod
    def read(described: dict[str, Any]) -> "Shape":
        """From an artifact's `model`; other keys are left aside."""
        names = {each.name for each in dataclasses.fields(Shape)}
        known: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value
            for key, value in described.items()
            if key in names
        }
        return Shape(**known)

    @staticmethod
    def of_config(config: dict[str, Any], labels: int) -> "Shape":
        """From the `config.json` of a pretrained BERT.

        Raises: BuildError if it is of another architecture.
        """
        if config.get("model_type") != "bert" or config.get("hidden_act") not in ACTIVATIONS:
            kind = f"{config.get('model_type')} with {config.get('hidden_act')}"
            raise BuildError(f"the encoder is {kind}; only bert with gelu or relu is known.")
        layers = config["num_hidden_layers"]
        return Shape(
            width=config["hidden_size"],
            heads=(config["num_attention_heads"],) * layers,
            head_size=config["hidden_size"] // config["num_attention_heads"],
            ffn=(config["intermediate_size"],) * layers,
            vocabulary=config["vocab_size"],
            positions=config["max_position_embeddings"],
            segments=config["type_vocab_size"],
            labels=labels,
            dropout=config["hidden_dropout_prob"],
            norm_eps=config["layer_norm_eps"],
            activation=config["hidden_act"],
        )


class Embeddings(nn.Module):
    """Token, position and segment embeddings: int64 ids and segments [inputs, length] to [inputs,
    length, width].
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(shape.vocabulary, shape.width, padding_idx=0)
        self.position_embeddings = nn.Embedding(shape.positions, shape.width)
        self.token_type_embeddings = nn.Embedding(shape.segments, shape.width)
        self.LayerNorm = nn.LayerNorm(shape.width, shape.norm_eps)
        self.dropout = nn.Dropout(shape.dropout)
        self.position_ids: Tensor
        self.register_buffer("position_ids", torch.empty(0), persistent=False)  # fill counts

    def forward(self, ids: Tensor, segments: Tensor) -> Tensor:
        positions = self.position_ids[:, : ids.shape[1]]
        words = self.word_embeddings(ids) + self.token_type_embeddings(segments)
        embedded: Tensor = self.dropout(self.LayerNorm(words + self.position_embeddings(positions)))
        return embedded


class SelfAttention(nn.Module):
    """Multi-head attention over [inputs, length, width], without the output projection.

    mask: [inputs, 1, 1, length], True for a token, or, not fused, added to the scores.
    asking: the hidden states that ask, all of them or only the first token's.
    """

    def __init__(self, shape: Shape, heads: int) -> None:
        super().__init__()
        self.heads, self.head_size = heads, shape.head_size
        self.query = nn.Linear(shape.width, heads * shape.head_size)
        self.key = nn.Linear(shape.width, heads * shape.head_size)
        self.value = nn.Linear(shape.width, heads * shape.head_size)

    def forward(self, hidden: Tensor, asking: Tensor, mask: Tensor | None, fused: bool) -> Tensor:
        query, key, value = (
            part.view(*part.shape[:2], self.heads, self.head_size).transpose(1, 2)
            for part in (self.query(asking), self.key(hidden), self.value(hidden))
        )
        if fused:
            mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        else:  # the form that onnxruntime's optimizer knows
            scores = torch.matmul(query, key.transpose(-1, -2)) / self.head_size**0.5
            mixed = torch.matmul((scores + mask).softmax(-1), value)
        by_token = (asking.shape[0], asking.shape[1], self.heads * self.head_size)
        return mixed.transpose(1, 2).reshape(by_token)


class AddNorm(nn.Module):
    """Projection to the width, dropout, residual, layer norm."""

    def __init__(self, shape: Shape, inner: int) -> None:
        super().__init__()
        self.dense = nn.Linear(inner, shape.width)
        self.LayerNorm = nn.LayerNorm(shape.width, shape.norm_eps)
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, new: Tensor, old: Tensor) -> Tensor:
        added: Tensor = self.LayerNorm(self.dropout(self.dense(new)) + old)
        return added


class Attention(nn.Module):
    """Self-attention with its output projection and residual."""

    def __init__(self, shape: Shape, heads: int) -> None:
        super().__init__()
        self.add_module("self", SelfAttention(shape, heads))
        self.output = AddNorm(shape, heads * shape.head_size)

    def forward(self, hidden: Tensor, asking: Tensor, mask: Tensor | None, fused: bool) -> Tensor:
        added: Tensor = self.output(self.get_submodule("self")(hidden, asking, mask, fused), asking)
        return added


class Dense(nn.Module):
    """A projection and its activation."""

    def __init__(self, width: int, out: int, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.dense = nn.Linear(width, out)
        self.activation = activation

    def forward(self, hidden: Tensor) -> Tensor:
        return self.activation(self.dense(hidden))


class Layer(nn.Module):
    """Attention and feed-forward network."""

    def __init__(self, shape: Shape, index: int) -> None:
        super().__init__()
        self.attention = Attention(shape, shape.heads[index])
        self.intermediate = Dense(shape.width, shape.ffn[index], ACTIVATIONS[shape.activation])
        self.output = AddNorm(shape, shape.ffn[index])

    def forward(self, hidden: Tensor, asking: Tensor, mask: Tensor | None, fused: bool) -> Tensor:
        hidden = self.attention(hidden, asking, mask, fused)
        out: Tensor = self.output(self.intermediate(hidden), hidden)
        return out


class Encoder(nn.Module):
    """The layers, one after the other."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.layer = nn.ModuleList(Layer(shape, index) for index in range(shape.layers))

    def forward(self, hidden: Tensor, mask: Tensor | None, fused: bool, first_only: bool) -> Tensor:
        last = len(self.layer) - 1
        for index, layer in enumerate(self.layer):
            asking = hidden[:, :1] if first_only and index == last else hidden
            hidden = layer(hidden, asking, mask, fused)
        return hidden


class Bert(nn.Module):
    """Embeddings, layers, and the pooler over the first token."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embeddings = Embeddings(shape)
        self.encoder = Encoder(shape)
        self.pooler = Dense(shape.width, shape.width, torch.tanh)

    def forward(
        self, ids: Tensor, mask: Tensor | None, segments: Tensor, fused: bool, first_only: bool
    ) -> Tensor:
        hidden = self.encoder(self.embeddings(ids, segments), mask, fused, first_only)
        pooled: Tensor = self.pooler(hidden[:, 0])
        return pooled


class Classifier(nn.Module):
    """The whole model: token ids to logits.

    fused_attention: PyTorch's own attention kernel; off for export, whose optimizer knows the
    plain form.
    first_only: the last layer computes the first token alone, since the pooler reads no other; the
    logits are the same. Off unless set, so that plain PyTorch is what everybody has.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.fused_attention, self.first_only = True, False
        self.bert = Bert(shape)
        self.dropout = nn.Dropout(shape.dropout)
        self.classifier = nn.Linear(shape.width, shape.labels)

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
        mask: Tensor | None = None  # where nothing is padded
        if not self.fused_attention:
            keep = attention_mask[:, None, None, :].to(self.classifier.weight.dtype)
            mask = (1.0 - keep) * torch.finfo(keep.dtype).min
        elif not bool(attention_mask.all()):
            mask = attention_mask[:, None, None, :].bool()
        pooled = self.bert(input_ids, mask, token_type_ids, self.fused_attention, self.first_only)
        logits: Tensor = self.classifier(self.dropout(pooled))
        return logits


def from_pretrained(folder: Path, labels: int) -> Classifier:
    """A classifier on top of a pretrained encoder; the classification layer is new.

    Raises: BuildError if the folder holds no encoder of a known architecture.
    """
    try:
        shape = Shape.of_config(json.loads((folder / "config.json").read_text()), labels)
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
        model = Classifier(Shape.of_config(config, len(order)))
        weights = load_file(folder / WEIGHTS)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise BuildError(f"{folder}: not a fine-tuned classifier ({error}).") from None
    weights.pop("bert.embeddings.position_ids", None)
    for name in ("classifier.weight", "classifier.bias"):
        if name in weights and len(weights[name]) == len(order):
            weights[name] = weights[name][order].clone()
    fill(model, {name: value.float() for name, value in weights.items()}, folder)
    return model.eval()


def load(folder: Path, shape: Shape) -> Classifier:
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
