"""Export to ONNX, and graph optimization by onnxruntime's transformers optimizer (fused attention,
GELU, layer norm, embeddings).
"""

import inspect
import logging
import warnings
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import BuildError
from harness.optimize.step import Artifact, Context, Inputs, Step, fp32_fault
from harness.tasks.task import Task

if TYPE_CHECKING:
    from torch import nn

LOGGERS = ("onnxruntime.transformers.fusion_attention",)
TOLERANCE = 1e-3
"""Largest difference of a logit between PyTorch and the exported graph, in fp32."""


@dataclass(frozen=True)
class Export:
    """Write the model as an ONNX graph with dynamic batch and sequence.

    optimize: fuse attention, GELU and layer norm into one node each.
    norm: `layer` leaves the residual addition in front of the layer norm and the embeddings'
        look-ups as they are; `skip` fuses those too (SkipLayerNormalization and
        EmbedLayerNormalization), whose CPU kernels are several times slower than the parts.
    first_only: let the last layer compute the first token alone; the logits are the same.
    """

    optimize: bool = True
    norm: str = "layer"
    first_only: bool = True


def validate(params: Export, shape: dict[str, Any]) -> list[str]:
    """Faults of the parameters, as sentences."""
    faults = []
    if params.norm not in ("layer", "skip"):
        faults.append(f"norm = {params.norm!r}: choose 'layer' or 'skip'")
    return faults + fp32_fault(shape)


def run(inputs: Inputs, task: Task, params: Export, context: Context) -> dict[str, Any]:
    """Write `model.onnx`.

    Raises: BuildError if the fused nodes are not one a layer, or the logits differ from PyTorch's.
    """
    import torch

    from harness import text

    assert inputs.artifact is not None
    torch.set_num_threads(context.threads)
    model, takes = _model(inputs.artifact, task, params)
    path = inputs.artifact.folder / "tokenizer.json"
    tokenizer = text.load_tokenizer(path, int(inputs.artifact.about["max_length"]))
    rows = [each.candidates[0] for each in task.examples("selection")[:16]]
    feeds = text.pad(text.tokenize(tokenizer, rows)).feeds
    feeds = {name: each for name, each in feeds.items() if name in takes}
    path = context.out / "model.onnx"
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # the tracer's remarks; the logits are compared below
        torch.onnx.export(
            model,
            tuple(torch.from_numpy(each) for each in feeds.values()),
            path,
            input_names=list(feeds),
            output_names=["logits"],
            dynamic_axes={name: {0: "inputs", 1: "length"} for name in feeds}
            | {"logits": {0: "inputs"}},
            opset_version=17,
            dynamo=False,
        )
        expected = model(*(torch.from_numpy(each) for each in feeds.values())).numpy()
    about: dict[str, Any] = {
        "format": "onnx",
        "dtype": "fp32",
        "model": inputs.artifact.about["model"],
    }
    if params.optimize:
        about["fused"] = _optimize(path, about["model"], params)
    difference = float(np.abs(_logits(path, feeds) - expected).max())
    if difference > TOLERANCE:
        raise BuildError(
            f"the exported graph's logits differ from PyTorch's by {difference:.2g} (at most "
            f"{TOLERANCE})."
        )
    text.save_tokenizer(tokenizer, context.out / "tokenizer.json")
    return about | {"logit_difference": difference}


def _model(artifact: Artifact, task: Task, params: Export) -> "tuple[nn.Module, Collection[str]]":
    """The model to trace, and the names of what it takes, in order."""
    from torch import nn

    from harness.optimize import training

    if artifact.format == "safetensors":
        model, _ = training.opened(artifact, task)
        model.fused_attention, model.first_only = False, params.first_only
        return model, ("input_ids", "attention_mask", "token_type_ids")
    from transformers import AutoModelForSequenceClassification

    inner = AutoModelForSequenceClassification.from_pretrained(
        artifact.folder, local_files_only=True, use_safetensors=True, attn_implementation="eager"
    )
    inner.eval()
    known = inspect.signature(inner.forward).parameters
    names = [name for name in ("input_ids", "attention_mask", "token_type_ids") if name in known]

    class Logits(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, *feeds: Any) -> Any:
            return self.inner(**dict(zip(names, feeds, strict=True))).logits

    return Logits().eval(), names


def _optimize(path: Any, model: dict[str, Any], params: Export) -> dict[str, int]:
    """Optimize the graph in place. Returns: the count of each fused kind of node."""
    import onnx
    from onnxruntime.transformers import optimizer
    from onnxruntime.transformers.fusion_options import FusionOptions

    layers, skip = int(model.get("layers", 0)), params.norm == "skip"
    options = FusionOptions("bert")
    options.enable_skip_layer_norm = options.enable_bias_skip_layer_norm = skip
    options.enable_embed_layer_norm = skip
    loggers = [logging.getLogger(name) for name in LOGGERS]
    for each in loggers:  # remarks on pruned heads, whose columns are not the width
        each.setLevel(logging.ERROR)
    optimized = optimizer.optimize_model(
        str(path),
        model_type="bert",
        num_heads=0,  # read off the graph, where each layer may have its own
        hidden_size=0,
        opt_level=1,
        optimization_options=options,
    )
    onnx.save(optimized.model, str(path))
    counts = Counter(node.op_type for node in optimized.model.graph.node)
    wanted = {"Attention": layers - params.first_only}
    if skip:
        wanted |= {"SkipLayerNormalization": 2 * layers, "EmbedLayerNormalization": 1}
    else:
        wanted |= {"LayerNormalization": 2 * layers + 1}
    if model.get("activation", "gelu") == "gelu":
        wanted |= {"BiasGelu": layers}
    for kind, number in wanted.items() if layers else ():  # of BERT it is known what to expect
        if counts[kind] != number:
            raise BuildError(
                f"graph optimization fused {counts[kind]} {kind} nodes, but {layers} layers need "
                f"{number}. Set optimize = false, or use the onnxruntime version of "
                "constraints.txt."
            )
    return {kind: counts[kind] for kind in wanted}


def _logits(path: Any, feeds: dict[str, Any]) -> Any:
    import onnxruntime

    from harness.engines.ort import UNFUSED

    session = onnxruntime.InferenceSession(
        path, providers=["CPUExecutionProvider"], disabled_optimizers=list(UNFUSED)
    )
    kinds = {
        each.name: np.int32 if "int32" in each.type else np.int64 for each in session.get_inputs()
    }
    return session.run(None, {name: feeds[name].astype(kind) for name, kind in kinds.items()})[0]


STEP = Step(
    "export",
    2,
    Export,
    ("safetensors", "transformers"),
    run,
    validate,
    reshape=lambda params, shape: {"format": "onnx"},
)
