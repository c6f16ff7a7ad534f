"""The architecture of an encoder classifier: what artifacts state, and what config.json says."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from harness.errors import BuildError

ARCHITECTURES = ("bert", "mpnet")
"""What config.json calls the architectures that `harness.models.bert` implements."""

ACTIVATION_NAMES = ("gelu", "relu")
"""The activations that it implements."""

MPNET_PADDING = 1
"""Token id and position of padding in MPNet; tokens have the positions after it."""


@dataclass(frozen=True)
class EncoderSpec:
    """The architecture of an encoder classifier; `model` in `artifact.json`.

    Attributes:
        width: of the hidden states.
        heads: number of attention heads of each layer.
        head_size: number of columns of one head.
        ffn: number of feed-forward neurons of each layer.
        vocabulary: number of token embeddings.
        positions: number of positions, the longest input in tokens.
        segments: number of segment embeddings; 0 for none.
        labels: number of labels.
        dropout: share of the hidden states that training drops.
        norm_eps: epsilon of the layer norms.
        activation: of the feed-forward network, `gelu` or `relu`.
        exits: layers, counted from 0, that have a classifier of their own (early exit).
        keep: for each layer the share of its tokens that the next layer gets (token pruning); empty
            if no token is pruned.
        first_position: the position of the first token; MPNet's lower ones belong to padding.
        buckets: number of distances between tokens that attention tells apart; 0 for BERT.
        bias_heads: number of heads that the biases of these distances were learned for.
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
    first_position: int = 0
    buckets: int = 0
    bias_heads: int = 0

    @property
    def layers(self) -> int:
        """Number of layers."""
        return len(self.heads)

    @staticmethod
    def from_dict(model: dict[str, Any]) -> "EncoderSpec":
        """Return the specification of an artifact's `model`; unknown keys are ignored."""
        names = {field.name for field in dataclasses.fields(EncoderSpec)}
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value
            for key, value in model.items()
            if key in names
        }
        return EncoderSpec(**values)

    @staticmethod
    def from_config(config: dict[str, Any], labels: int) -> "EncoderSpec":
        """Return the specification of a pretrained BERT or MPNet.

        Args:
            config: the content of its `config.json`.
            labels: number of labels of the classifier.

        Raises:
            BuildError: it is another architecture.
        """
        kind, activation = config.get("model_type"), config.get("hidden_act")
        if kind not in ARCHITECTURES or activation not in ACTIVATION_NAMES:
            raise BuildError(
                f"the encoder is {kind} with {activation}, but must be bert or mpnet, with gelu or "
                "relu."
            )
        layers, heads = config["num_hidden_layers"], config["num_attention_heads"]
        is_mpnet = kind == "mpnet"
        first_position = MPNET_PADDING + 1 if is_mpnet else 0
        return EncoderSpec(
            first_position=first_position,
            buckets=config["relative_attention_num_buckets"] if is_mpnet else 0,
            bias_heads=heads if is_mpnet else 0,
            width=config["hidden_size"],
            heads=(heads,) * layers,
            head_size=config["hidden_size"] // heads,
            ffn=(config["intermediate_size"],) * layers,
            vocabulary=config["vocab_size"],
            positions=config["max_position_embeddings"] - first_position,
            segments=0 if is_mpnet else config["type_vocab_size"],
            labels=labels,
            dropout=config["hidden_dropout_prob"],
            norm_eps=config["layer_norm_eps"],
            activation=config["hidden_act"],
        )
