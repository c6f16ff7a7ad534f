"""Classifiers from the files of pretrained encoders and of fine-tuned checkpoints.

Exported models do not need it: they load the weights of an artifact.
"""

import re
from pathlib import Path

from safetensors import SafetensorError
from torch import Tensor

from harness.errors import BuildError
from harness.models.checkpoint_files import load_weights, read_config
from harness.models.classifier import Classifier, assign_weights
from harness.models.encoder_spec import EncoderSpec
from harness.models.model_spec import WEIGHTS

RENAMED = (
    (r"(?<=LayerNorm\.)gamma$", "weight"),
    (r"(?<=LayerNorm\.)beta$", "bias"),
)
"""What TensorFlow calls the weights of a layer norm, and what PyTorch calls them."""

RENAMED_MPNET = (
    (r"^mpnet\.", "bert."),
    (r"\.attention\.attn\.q\.", ".attention.self.query."),
    (r"\.attention\.attn\.k\.", ".attention.self.key."),
    (r"\.attention\.attn\.v\.", ".attention.self.value."),
    (r"\.attention\.attn\.o\.", ".attention.output.dense."),
    (r"\.attention\.LayerNorm\.", ".attention.output.LayerNorm."),
    (r"^classifier\.dense\.", "bert.pooler.dense."),
    (r"^classifier\.out_proj\.", "classifier."),
)
"""What transformers calls the weights of an MPNet, and how they are called here."""


def from_pretrained(folder: Path, labels: int) -> Classifier:
    """Return a classifier on top of a pretrained encoder, with a new classification layer, in fp32.

    Raises:
        BuildError: the folder holds no encoder, or one of an unsupported architecture.
    """
    try:
        spec = EncoderSpec.from_config(read_config(folder), labels)
        weights = load_weights(folder)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise BuildError(f"{folder}: not a pretrained encoder ({error}).") from None
    model = Classifier(spec)
    model.initialize_head()
    prefix = "mpnet." if spec.buckets else "bert."
    weights = {
        name if name.startswith(prefix) else f"{prefix}{name}": value.float()
        if value.is_floating_point()
        else value
        for name, value in weights.items()
    }
    new = {f"classifier.{name}": value for name, value in model.classifier.state_dict().items()}
    assign_weights(model, _select_weights(model, {**weights, **new}, folder), folder)
    return model


def from_checkpoint(folder: Path, order: list[int]) -> Classifier:
    """Load a fine-tuned classifier.

    Args:
        folder: `config.json` and `model.safetensors`, as transformers saves them.
        order: for each label of the task the model's number of it.

    Raises:
        BuildError: the folder holds no classifier, or one of an unsupported architecture.
    """
    try:
        model = Classifier(EncoderSpec.from_config(read_config(folder), len(order)))
        weights = load_weights(folder)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise BuildError(f"{folder}: not a fine-tuned classifier ({error}).") from None
    weights = _select_weights(model, weights, folder)
    for name in ("classifier.weight", "classifier.bias"):
        if name in weights and len(weights[name]) == len(order):
            weights[name] = weights[name][order].clone()
    assign_weights(model, {name: value.float() for name, value in weights.items()}, folder)
    return model.eval()


def _select_weights(
    model: Classifier, weights: dict[str, Tensor], folder: Path
) -> dict[str, Tensor]:
    """Return the weights that the model has, under its names; as transformers, drop all others.

    Raises:
        BuildError: the model has weights that are not there.
    """
    rules = [*RENAMED, *(RENAMED_MPNET if model.spec.buckets else ())]
    renamed = {}
    for name, value in weights.items():
        new_name = name
        for pattern, replacement in rules:
            new_name = re.sub(pattern, replacement, new_name)
        renamed[new_name] = value
    known = model.state_dict()
    if missing := [name for name in known if name not in renamed]:
        others = [name for name in weights if name not in known]
        instead = f" It has others, such as {others[0]}." if others else ""
        raise BuildError(
            f"{folder / WEIGHTS}: {len(missing)} weights are missing, such as {missing[0]}."
            f"{instead} Save the model with transformers' save_pretrained(...)."
        )
    return {name: renamed[name] for name in known}
