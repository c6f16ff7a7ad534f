"""The encoder classifier: BERT (Devlin et al. 2019) with a classification layer, each layer with heads and neurons of its own number.

Module names are those of transformers' BertForSequenceClassification, so weights pass both ways; the forward pass is checked against its. It is written
out here because transformers' BERT cannot hold pruned heads, and because a worker that needs nothing but torch is ready two seconds sooner.
"""

import dataclasses
import json
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


@dataclass(frozen=True)
class Shape:
    """What an artifact says of its model.

    heads, ffn: attention heads and feed-forward neurons of each layer; head_size: columns of one head; width: of the hidden states.
    vocabulary, positions, segments: rows of the three embeddings.
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

    @property
    def layers(self) -> int:
        """Number of layers."""
        return len(self.heads)

    @staticmethod
    def read(described: dict[str, Any]) -> "Shape":
        """From an artifact's `model`; other keys are left aside."""
        names = {each.name for each in dataclasses.fields(Shape)}
        known = {key: tuple(value) if isinstance(value, list) else value for key, value in described.items() if key in names}
        return Shape(**known)

    @staticmethod
    def of_config(config: dict[str, Any], labels: int) -> "Shape":
        """From the `config.json` of a pretrained BERT. Raises: BuildError if it is of another architecture."""
        if config.get("model_type") != "bert" or config.get("hidden_act") != "gelu":
            kind = f"{config.get('model_type')} with {config.get('hidden_act')}"
            raise BuildError(f"the encoder is {kind}; only bert with gelu is known.")
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
        )


class Embeddings(nn.Module):
    """Token, position and segment embeddings: int64 ids and segments [inputs, length] to [inputs, length, width]."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(shape.vocabulary, shape.width, padding_idx=0)
        self.position_embeddings = nn.Embedding(shape.positions, shape.width)
        self.token_type_embeddings = nn.Embedding(shape.segments, shape.width)
        self.LayerNorm = nn.LayerNorm(shape.width, shape.norm_eps)
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, ids: Tensor, segments: Tensor) -> Tensor:
        positions = torch.arange(ids.shape[1]).unsqueeze(0)
        words = self.word_embeddings(ids) + self.token_type_embeddings(segments)
        embedded: Tensor = self.dropout(self.LayerNorm(words + self.position_embeddings(positions)))
        return embedded


class Layer(nn.Module):
    """Self-attention and feed-forward network, each with its residual and layer norm."""

    def __init__(self, shape: Shape, index: int) -> None:
        super().__init__()
        heads, ffn, width = shape.heads[index], shape.ffn[index], shape.width
        self.heads, self.head_size = heads, shape.head_size
        projections = {name: nn.Linear(width, heads * shape.head_size) for name in ("query", "key", "value")}
        self.attention = nn.ModuleDict({"self": nn.ModuleDict(projections), "output": _output(heads * shape.head_size, shape)})
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(width, ffn)})
        self.output = _output(ffn, shape)
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, hidden: Tensor, mask: Tensor | None, fused: bool) -> Tensor:
        """hidden: [inputs, length, width]; mask: bool [inputs, 1, 1, length], True for a token; None where nothing is padded."""
        attended = self._attend(hidden, mask, fused)
        hidden = self._add(self.attention["output"], attended, hidden)
        inner = functional.gelu(self.intermediate["dense"](hidden))
        return self._add(self.output, inner, hidden)

    def _attend(self, hidden: Tensor, mask: Tensor | None, fused: bool) -> Tensor:
        by_head = (hidden.shape[0], hidden.shape[1], self.heads, self.head_size)
        parts = self.attention["self"]
        query, key, value = (parts[name](hidden).view(by_head).transpose(1, 2) for name in ("query", "key", "value"))
        if fused:
            mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        else:  # the form that onnxruntime's optimizer knows
            scores = torch.matmul(query, key.transpose(-1, -2)) / self.head_size**0.5
            if mask is not None:
                scores = scores + (1.0 - mask.to(scores.dtype)) * torch.finfo(scores.dtype).min
            mixed = torch.matmul(scores.softmax(-1), value)
        return mixed.transpose(1, 2).reshape(*by_head[:2], self.heads * self.head_size)

    def _add(self, part: nn.Module, new: Tensor, old: Tensor) -> Tensor:
        assert isinstance(part, nn.ModuleDict)
        added: Tensor = part["LayerNorm"](self.dropout(part["dense"](new)) + old)
        return added


class Classifier(nn.Module):
    """The whole model: token ids to logits."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.fused_attention = True
        layers = nn.ModuleList(Layer(shape, index) for index in range(shape.layers))
        self.bert = nn.ModuleDict(
            {
                "embeddings": Embeddings(shape),
                "encoder": nn.ModuleDict({"layer": layers}),
                "pooler": nn.ModuleDict({"dense": nn.Linear(shape.width, shape.width)}),
            }
        )
        self.dropout = nn.Dropout(shape.dropout)
        self.classifier = nn.Linear(shape.width, shape.labels)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        """Int64 [inputs, length] each to float32 logits [inputs, labels]. attention_mask: 1 for a token, 0 for padding."""
        keep: Tensor | None = attention_mask[:, None, None, :].bool()
        if self.fused_attention and bool(attention_mask.all()):
            keep = None
        hidden = self.bert["embeddings"](input_ids, token_type_ids)
        encoder = self.bert["encoder"]
        assert isinstance(encoder, nn.ModuleDict)
        for layer in encoder["layer"]:  # type: ignore[union-attr]
            hidden = layer(hidden, keep, self.fused_attention)
        pooler = self.bert["pooler"]
        assert isinstance(pooler, nn.ModuleDict)
        logits: Tensor = self.classifier(self.dropout(torch.tanh(pooler["dense"](hidden[:, 0]))))
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
    weights = {name if name.startswith("bert.") else f"bert.{name}": value for name, value in weights.items()}
    weights.pop("bert.embeddings.position_ids", None)
    new = {f"classifier.{name}": value for name, value in model.classifier.state_dict().items()}
    _fill(model, {**weights, **new}, folder)
    return model


def load(folder: Path, shape: Shape) -> Classifier:
    """The classifier of an artifact, in evaluation mode. Raises: BuildError if the weights do not fit the shape."""
    with torch.device("meta"):
        model = Classifier(shape)
    try:
        weights = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise BuildError(f"{folder / WEIGHTS}: {error}. Remove the folder and build again.") from None
    _fill(model, weights, folder)
    return model.eval()


def save(model: Classifier, folder: Path) -> None:
    """Write the weights. Raises: BuildError if one of them is not finite."""
    weights = {name: value.detach().contiguous() for name, value in model.state_dict().items()}
    for name, value in weights.items():
        if not torch.isfinite(value).all():
            raise BuildError(f"weight {name} is not finite: training diverged. Lower the learning rate.")
    save_file(weights, folder / WEIGHTS)


def describe(model: Classifier) -> dict[str, Any]:
    """The shape and the number of parameters, as `artifact.json` holds them."""
    return {**dataclasses.asdict(model.shape), "layers": model.shape.layers, "parameters": sum(each.numel() for each in model.parameters())}


def _output(inner: int, shape: Shape) -> nn.ModuleDict:
    return nn.ModuleDict({"dense": nn.Linear(inner, shape.width), "LayerNorm": nn.LayerNorm(shape.width, shape.norm_eps)})


def _fill(model: Classifier, weights: dict[str, Tensor], folder: Path) -> None:
    try:
        model.load_state_dict(weights, assign=True)
    except RuntimeError as error:
        raise BuildError(f"{folder / WEIGHTS}: {' '.join(str(error).split())[:400]}") from None
    for parameter in model.parameters():
        parameter.requires_grad_(True)
