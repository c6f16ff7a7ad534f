"""What is known of a model before it is built or downloaded."""

from dataclasses import dataclass
from pathlib import Path

WEIGHTS = "model.safetensors"
"""The file of a model's weights."""


@dataclass(frozen=True)
class ModelSpec:
    """What a step gets, as far as the manifest tells.

    Attributes:
        format: the artifact format; '' for no model, None if it is unknown (after a fault, or
            before a download).
        name: for messages.
        layers: the number of layers; None if it is unknown, as the numbers that follow.
        width: the size of a hidden state.
        heads: attention heads of a layer.
        ffn: feed-forward neurons of a layer.
        max_length: the longest input in tokens.
        dtype: `fp32`, `int8`, `fp16` or `bf16`.
        becomes: of a checkpoint: the format that the step `adopt` gives it; None if it is unknown.
        has_bias: whether attention scores have a bias by the distance between tokens (MPNet).
        pads: of a checkpoint: whether it has a padding token.
        shape: of an ONNX graph: the only number of inputs and of tokens that it takes; 0 for any.
        unfit: of a checkpoint: why it cannot be adopted, or ''.
        base: the folder that a relative path in the manifest is relative to.
        finetuned: whether a step has trained its weights.
        exits: the layers that have an exit, without the last one.
        keep: the shares of tokens that token pruning keeps.
        vocabulary_floor: the parameter of the step `vocabulary`; 0 without that step.
        teacher: the model that the recipe starts from and may learn from.
    """

    format: str | None = ""
    name: str = "the model"
    layers: int | None = None
    width: int | None = None
    heads: int | None = None
    ffn: int | None = None
    max_length: int | None = None
    dtype: str = "fp32"
    becomes: str | None = "safetensors"
    has_bias: bool = False
    pads: bool = True
    shape: tuple[int, int] = (0, 0)
    unfit: str = ""
    base: Path | None = None
    finetuned: bool = False
    exits: tuple[int, ...] = ()
    keep: tuple[float, ...] = ()
    vocabulary_floor: int = 0
    teacher: "ModelSpec | None" = None


UNKNOWN = ModelSpec(format=None)
"""After a fault: nothing that depends on it is checked."""
