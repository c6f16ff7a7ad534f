"""The layers of BERT (Devlin et al. 2019), each with heads and neurons of its own number, and with
tokens that leave on the way.

Module names are those of transformers' BertModel, so weights pass both ways; the forward pass is
checked against its. It is written out here because transformers' BERT cannot hold pruned heads, and
because a worker that needs nothing but torch is ready a second sooner.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.errors import BuildError

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": functional.gelu,
    "relu": functional.relu,
}


@dataclass(frozen=True)
class EncoderShape:
    """What an artifact says of its model.

    heads, ffn: attention heads and feed-forward neurons of each layer; head_size: columns of one
    head; width: of the hidden states.
    vocabulary, positions, segments: rows of the three embeddings.
    activation: of the feed-forward network, `gelu` or `relu`.
    exits: layers, counted from 0, after which a classifier of its own stands.
    keep: of each layer the share of its tokens that go on to the next; empty: all do.
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
    exits: tuple[int, ...] = ()
    keep: tuple[float, ...] = ()

    @property
    def layers(self) -> int:
        """Number of layers."""
        return len(self.heads)

    @staticmethod
    def read(described: dict[str, Any]) -> "EncoderShape":
        """From an artifact's `model`; other keys are left aside."""
        names = {each.name for each in dataclasses.fields(EncoderShape)}
        known: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value
            for key, value in described.items()
            if key in names
        }
        return EncoderShape(**known)

    @staticmethod
    def of_config(config: dict[str, Any], labels: int) -> "EncoderShape":
        """From the `config.json` of a pretrained BERT.

        Raises: BuildError if it is of another architecture.
        """
        if config.get("model_type") != "bert" or config.get("hidden_act") not in ACTIVATIONS:
            kind = f"{config.get('model_type')} with {config.get('hidden_act')}"
            raise BuildError(f"the encoder is {kind}; only bert with gelu or relu is known.")
        layers = config["num_hidden_layers"]
        return EncoderShape(
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

    def __init__(self, shape: EncoderShape) -> None:
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

    def __init__(self, shape: EncoderShape, heads: int) -> None:
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

    def __init__(self, shape: EncoderShape, inner: int) -> None:
        super().__init__()
        self.dense = nn.Linear(inner, shape.width)
        self.LayerNorm = nn.LayerNorm(shape.width, shape.norm_eps)
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, new: Tensor, old: Tensor) -> Tensor:
        added: Tensor = self.LayerNorm(self.dropout(self.dense(new)) + old)
        return added


class Attention(nn.Module):
    """Self-attention with its output projection and residual."""

    def __init__(self, shape: EncoderShape, heads: int) -> None:
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

    def __init__(self, shape: EncoderShape, index: int) -> None:
        super().__init__()
        self.attention = Attention(shape, shape.heads[index])
        self.intermediate = Dense(shape.width, shape.ffn[index], ACTIVATIONS[shape.activation])
        self.output = AddNorm(shape, shape.ffn[index])

    def forward(self, hidden: Tensor, asking: Tensor, mask: Tensor | None, fused: bool) -> Tensor:
        hidden = self.attention(hidden, asking, mask, fused)
        out: Tensor = self.output(self.intermediate(hidden), hidden)
        return out

    @torch.no_grad()
    def mass(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """The attention that each token gets, the mean over heads and asking tokens: [inputs,
        length], 0 for padding (PoWER-BERT's significance: Goyal et al. 2020, section 3.2).

        Computed apart from attention itself, of other shapes and with weights scaled beforehand, so
        that no optimizer takes parts of the two for one, and attention stays one fused node.
        """
        attention = self.attention.get_submodule("self")
        assert isinstance(attention, SelfAttention)
        scale, flat = attention.head_size**-0.25, hidden.reshape(-1, hidden.shape[-1])
        query, key = (
            (torch.matmul(flat, (part.weight * scale).T) + part.bias * scale).view(
                *hidden.shape[:2], attention.heads, attention.head_size
            )
            for part in (attention.query, attention.key)
        )
        scores = torch.matmul(query.transpose(1, 2), key.permute(0, 2, 3, 1))
        scores = scores + added(mask, scores.dtype)
        asking = mask[:, :, None].to(scores.dtype)
        mass: Tensor = (scores.softmax(-1).mean(1) * asking).sum(1) / asking.sum(1)
        return mass


class Encoder(nn.Module):
    """The layers, one after the other."""

    def __init__(self, shape: EncoderShape) -> None:
        super().__init__()
        self.layer = nn.ModuleList(Layer(shape, index) for index in range(shape.layers))
        self.keep = shape.keep or (1.0,) * shape.layers

    def forward(
        self,
        hidden: Tensor,
        mask: Tensor,
        fused: bool,
        first_only: bool,
        start: int = 0,
        stop: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The layers start..stop - 1: hidden states and mask (1 for a token) to the same."""
        last = len(self.layer) - 1
        given = usable(mask) if fused else added(mask, hidden.dtype)
        for index in range(start, last + 1 if stop is None else stop):
            layer = self.layer[index]
            asking = hidden[:, :1] if first_only and index == last else hidden
            before, hidden = hidden, layer(hidden, asking, given, fused)
            if self.keep[index] < 1 and index < last:
                assert isinstance(layer, Layer)
                hidden, mask = strongest(hidden, mask, layer.mass(before, mask), self.keep[index])
                given = usable(mask) if fused else added(mask, hidden.dtype)
        return hidden, mask


def usable(mask: Tensor) -> Tensor | None:
    """For PyTorch's fused attention: bool [inputs, 1, 1, length]; None where nothing is padded."""
    return None if bool(mask.all()) else mask[:, None, None, :].bool()


def added(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """What is added to attention scores: [inputs, 1, 1, length], 0 for a token, else the lowest
    number.
    """
    keep = mask[:, None, None, :].to(dtype)
    return (1.0 - keep) * torch.finfo(dtype).min


def strongest(hidden: Tensor, mask: Tensor, mass: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """The tokens with the most attention mass: of each input ceil(share x its tokens), the first
    token always, and first (PoWER-BERT: Goyal et al. 2020).

    hidden: [inputs, length, width]; mask: [inputs, length]; mass: the same. Padding leaves before
    any token, so what stays of an input does not depend on what it is padded to.
    """
    inputs, length, width = hidden.shape
    kept = (mask.sum(1) * share).ceil().long()
    ranked = torch.cat([torch.ones_like(mass[:, :1]) * 3, mass[:, 1:] + mask[:, 1:]], 1)
    places = ranked.topk(kept.max(), dim=1).indices  # type: ignore[arg-type]
    rows = places + torch.arange(inputs)[:, None] * length
    stays = torch.arange(places.shape[1])[None, :] < kept[:, None]
    flat = hidden.reshape(-1, width).index_select(0, rows.reshape(-1))
    return flat.view(inputs, -1, width), stays.to(mask.dtype)


class Bert(nn.Module):
    """Embeddings, layers, and the pooler over the first token."""

    def __init__(self, shape: EncoderShape) -> None:
        super().__init__()
        self.embeddings = Embeddings(shape)
        self.encoder = Encoder(shape)
        self.pooler = Dense(shape.width, shape.width, torch.tanh)
