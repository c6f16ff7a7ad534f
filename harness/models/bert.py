"""BERT (Devlin et al. 2019) and MPNet (Song et al. 2020), with a number of heads and neurons per
layer; BERT also with token pruning.

MPNet is a BERT without segments whose attention scores have a bias by the distance between query
and key (T5: Raffel et al. 2020, section 2.1). Module names are those of transformers' BertModel, so
weights are interchangeable; tests compare the forward passes. It is implemented here because the
models of transformers cannot represent pruned heads, and because a worker that needs torch alone is
ready a second sooner.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.models.encoder_spec import ACTIVATION_NAMES, MPNET_PADDING, EncoderSpec

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    name: getattr(functional, name) for name in ACTIVATION_NAMES
}

FARTHEST = 128
"""Distance in tokens from which on all distances share a bucket (T5 and MPNet)."""


class Embeddings(nn.Module):
    """The sum of token, position and segment embeddings, normalized.

    From ids and segments, int64 [inputs, length], to hidden states [inputs, length, width].
    """

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        padding = MPNET_PADDING if spec.buckets else 0
        self.word_embeddings = nn.Embedding(spec.vocabulary, spec.width, padding_idx=padding)
        self.position_embeddings = nn.Embedding(spec.first_position + spec.positions, spec.width)
        if spec.segments:
            self.token_type_embeddings = nn.Embedding(spec.segments, spec.width)
        self.LayerNorm = nn.LayerNorm(spec.width, spec.norm_eps)
        self.dropout = nn.Dropout(spec.dropout)
        self.position_ids: Tensor
        self.register_buffer("position_ids", torch.empty(0), persistent=False)

    def forward(self, ids: Tensor, segments: Tensor) -> Tensor:
        positions = self.position_ids[:, : ids.shape[1]]
        words = self.word_embeddings(ids)
        if "token_type_embeddings" in self._modules:
            words = words + self.token_type_embeddings(segments)
        embedded: Tensor = self.dropout(self.LayerNorm(words + self.position_embeddings(positions)))
        return embedded


class SelfAttention(nn.Module):
    """Multi-head attention, without the output projection.

    From hidden states [inputs, length, width] and the hidden states of the queries (all of them, or
    the first token's only) to [inputs, queries, heads x head size]. The mask is the one that
    `boolean_mask` returns if `fused`, else the one of `additive_mask`. With a bias by distance it
    is the sum of the latter and the bias, [inputs, bias heads, queries, length].
    """

    def __init__(self, spec: EncoderSpec, heads: int) -> None:
        super().__init__()
        self.heads, self.head_size = heads, spec.head_size
        self.query = nn.Linear(spec.width, heads * spec.head_size)
        self.key = nn.Linear(spec.width, heads * spec.head_size)
        self.value = nn.Linear(spec.width, heads * spec.head_size)
        if heads < spec.bias_heads:  # which of the bias heads belong to the heads that are left
            self.register_buffer("bias_heads", torch.arange(heads))

    def forward(self, hidden: Tensor, queries: Tensor, mask: Tensor | None, fused: bool) -> Tensor:
        query, key, value = (
            part.view(*part.shape[:2], self.heads, self.head_size).transpose(1, 2)
            for part in (self.query(queries), self.key(hidden), self.value(hidden))
        )
        if mask is not None and "bias_heads" in self._buffers:
            mask = mask.index_select(1, self.get_buffer("bias_heads"))
        if fused:
            mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        else:  # the form that onnxruntime's optimizer recognizes
            scores = torch.matmul(query, key.transpose(-1, -2)) / self.head_size**0.5
            mixed = torch.matmul((scores + mask).softmax(-1), value)
        by_token = (queries.shape[0], queries.shape[1], self.heads * self.head_size)
        return mixed.transpose(1, 2).reshape(by_token)


class AddNorm(nn.Module):
    """Projection to the width, dropout, residual, layer norm."""

    def __init__(self, spec: EncoderSpec, inner: int) -> None:
        super().__init__()
        self.dense = nn.Linear(inner, spec.width)
        self.LayerNorm = nn.LayerNorm(spec.width, spec.norm_eps)
        self.dropout = nn.Dropout(spec.dropout)

    def forward(self, hidden: Tensor, residual: Tensor) -> Tensor:
        normalized: Tensor = self.LayerNorm(self.dropout(self.dense(hidden)) + residual)
        return normalized


class Attention(nn.Module):
    """Self-attention with its output projection and residual."""

    def __init__(self, spec: EncoderSpec, heads: int) -> None:
        super().__init__()
        self.add_module("self", SelfAttention(spec, heads))
        self.output = AddNorm(spec, heads * spec.head_size)

    def forward(self, hidden: Tensor, queries: Tensor, mask: Tensor | None, fused: bool) -> Tensor:
        mixed = self.get_submodule("self")(hidden, queries, mask, fused)
        normalized: Tensor = self.output(mixed, queries)
        return normalized


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

    def __init__(self, spec: EncoderSpec, index: int) -> None:
        super().__init__()
        self.attention = Attention(spec, spec.heads[index])
        self.intermediate = Dense(spec.width, spec.ffn[index], ACTIVATIONS[spec.activation])
        self.output = AddNorm(spec, spec.ffn[index])

    def forward(self, hidden: Tensor, queries: Tensor, mask: Tensor | None, fused: bool) -> Tensor:
        hidden = self.attention(hidden, queries, mask, fused)
        out: Tensor = self.output(self.intermediate(hidden), hidden)
        return out

    @torch.no_grad()
    def attention_mass(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Return the attention that each token receives, averaged over heads and queries.

        This is PoWER-BERT's significance score (Goyal et al. 2020, section 3.2). It is computed
        separately from attention, with other tensor shapes and with weights scaled beforehand, so
        that no graph optimizer merges parts of the two and attention stays one fused node.

        Args:
            hidden: [inputs, length, width], the layer's input.
            mask: [inputs, length], 1 for a token.

        Returns:
            [inputs, length], 0 for padding.
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
        scores = scores + additive_mask(mask, scores.dtype)
        queries = mask[:, :, None].to(scores.dtype)
        mass: Tensor = (scores.softmax(-1).mean(1) * queries).sum(1) / queries.sum(1)
        return mass


class Encoder(nn.Module):
    """The layers in order.

    Attributes:
        always_masked: whether fused attention gets a mask even for inputs without padding. Checking
            for padding makes the host wait for a GPU, and cannot be part of a CUDA graph.
    """

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.layer = nn.ModuleList(Layer(spec, index) for index in range(spec.layers))
        if spec.buckets:
            self.relative_attention_bias = nn.Embedding(spec.buckets, spec.bias_heads)
            self.distance_buckets: Tensor
            self.register_buffer("distance_buckets", torch.empty(0), persistent=False)
        self.keep = spec.keep or (1.0,) * spec.layers
        self.always_masked = False

    def forward(
        self,
        hidden: Tensor,
        mask: Tensor,
        fused: bool,
        first_only: bool,
        start: int = 0,
        stop: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Apply the layers start..stop - 1, by default up to the last.

        Args:
            hidden: [inputs, length, width].
            mask: [inputs, length], 1 for a token.
            fused: whether to use PyTorch's fused attention kernel.
            first_only: whether the last layer computes the first token alone.
            start: the first layer.
            stop: the layer after the last; None for all.

        Returns:
            Hidden states and mask of the tokens that are not pruned.
        """
        last = len(self.layer) - 1
        attention_mask = self._make_mask(mask, hidden, fused)
        for index in range(start, last + 1 if stop is None else stop):
            layer = self.layer[index]
            queries = hidden[:, :1] if first_only and index == last else hidden
            biased = attention_mask
            if self.has_bias and biased is not None:
                biased = biased[:, :, : queries.shape[1]]
            before, hidden = hidden, layer(hidden, queries, biased, fused)
            if self.keep[index] < 1 and index < last:
                assert isinstance(layer, Layer)
                mass = layer.attention_mass(before, mask)
                hidden, mask = keep_strongest(hidden, mask, mass, self.keep[index])
                attention_mask = self._make_mask(mask, hidden, fused)
        return hidden, mask

    @property
    def has_bias(self) -> bool:
        """Whether attention scores have a bias by distance."""
        return "relative_attention_bias" in self._modules

    def _make_mask(self, mask: Tensor, hidden: Tensor, fused: bool) -> Tensor | None:
        if self.has_bias:
            bias = self._compute_bias(hidden.shape[1]).to(hidden.dtype)
            return bias + additive_mask(mask, hidden.dtype)
        if fused:
            return boolean_mask(mask, self.always_masked)
        return additive_mask(mask, hidden.dtype)

    def _compute_bias(self, length: int) -> Tensor:
        """Return what is added to attention scores: [1, bias heads, queries, length]."""
        positions = torch.arange(length, device=self.distance_buckets.device)
        center = len(self.distance_buckets) // 2
        buckets = self.distance_buckets[positions[None, :] - positions[:, None] + center]
        bias: Tensor = self.relative_attention_bias(buckets).permute(2, 0, 1)[None]
        return bias


def compute_distance_buckets(positions: int, buckets: int) -> Tensor:
    """Return the bucket of each distance of a key from a query (Raffel et al. 2020).

    Half of the buckets are for keys before the query. Of each half, the first half are for one
    distance each, the others for ranges that grow with the logarithm, up to `FARTHEST`.

    Args:
        positions: the longest input.
        buckets: their number.

    Returns:
        int64 [2 x positions - 1], for the distances 1 - positions to positions - 1.
    """
    distances = torch.arange(1 - positions, positions)
    half, exact = buckets // 2, buckets // 4
    sizes = distances.abs()
    # in the order of transformers, since a rounding error at a power of two is another bucket
    share = (sizes.clamp_min(1).float() / exact).log() / math.log(FARTHEST / exact)
    far = exact + (share * (half - exact)).long()
    return (distances > 0) * half + torch.where(sizes < exact, sizes, far.clamp_max(half - 1))


def boolean_mask(mask: Tensor, always: bool = False) -> Tensor | None:
    """Return the mask of fused attention: bool [inputs, 1, 1, length].

    Args:
        mask: [inputs, length], 1 for a token.
        always: return a mask even if there is no padding; otherwise None is returned then.
    """
    return mask[:, None, None, :].bool() if always or not bool(mask.all()) else None


def additive_mask(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the mask to add to attention scores: [inputs, 1, 1, length].

    It is 0 for a token, and the lowest number of `dtype` for padding.
    """
    keep = mask[:, None, None, :].to(dtype)
    return (1.0 - keep) * torch.finfo(dtype).min


def keep_strongest(
    hidden: Tensor, mask: Tensor, mass: Tensor, share: float
) -> tuple[Tensor, Tensor]:
    """Keep the tokens with the largest attention mass (PoWER-BERT: Goyal et al. 2020).

    ceil(share x tokens) of each input are kept, ordered by mass; the first token always is, and
    stays first. Padding ranks below every token, so the result does not depend on the padded
    length.

    Args:
        hidden: [inputs, length, width].
        mask: [inputs, length], 1 for a token.
        mass: [inputs, length].
        share: of the tokens to keep, above 0.

    Returns:
        Hidden states and mask of the kept tokens.
    """
    inputs, length, width = hidden.shape
    counts = (mask.sum(1) * share).ceil().long()
    ranked = torch.cat([torch.ones_like(mass[:, :1]) * 3, mass[:, 1:] + mask[:, 1:]], 1)
    tokens = ranked.topk(counts.max(), dim=1).indices  # type: ignore[arg-type]
    rows = tokens + torch.arange(inputs, device=tokens.device)[:, None] * length
    kept = torch.arange(tokens.shape[1], device=tokens.device)[None, :] < counts[:, None]
    flat = hidden.reshape(-1, width).index_select(0, rows.reshape(-1))
    return flat.view(inputs, -1, width), kept.to(mask.dtype)


class Bert(nn.Module):
    """Embeddings, layers, and the pooler over the first token."""

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.embeddings = Embeddings(spec)
        self.encoder = Encoder(spec)
        self.pooler = Dense(spec.width, spec.width, torch.tanh)

    def fill_tables(self, spec: EncoderSpec) -> None:
        """Compute the tables that are not weights; modules on the device `meta` have none."""
        positions = torch.arange(spec.first_position, spec.first_position + spec.positions)
        self.embeddings.position_ids = positions.unsqueeze(0)
        if spec.buckets:
            self.encoder.distance_buckets = compute_distance_buckets(spec.positions, spec.buckets)
