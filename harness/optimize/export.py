"""Export to ONNX, and graph optimization by onnxruntime's transformers optimizer (fused attention,
GELU, layer norm, embeddings).
"""

import logging
import warnings
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import BuildError
from harness.optimize.base import Artifact, Inputs, Step, StepContext, fp32_fault
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


def run(inputs: Inputs, task: Task, params: Export, context: StepContext) -> dict[str, Any]:
    """Write `model.onnx`, or of a model with exits a graph for each stage, `stage-0.onnx`, ...

    Raises: BuildError if the fused nodes are not one a layer, or the logits differ from PyTorch's.
    """
    import torch

    from harness.models import tokenization

    assert inputs.artifact is not None
    torch.set_num_threads(context.threads)
    model, takes = _model(inputs.artifact, task, params)
    path = inputs.artifact.folder / "tokenizer.json"
    tokenizer = tokenization.load_tokenizer(path, int(inputs.artifact.about["max_length"]))
    padding: Any = inputs.artifact.about["model"].get("padding", {})
    texts = chain(*(each.candidates for each in task.examples("selection")), task.texts(False))
    rows = list(islice(texts, 16 if padding is not None else 1))
    feeds = tokenization.pad(
        tokenization.tokenize(tokenizer, rows), None, tokenization.Padding(**(padding or {}))
    ).feeds
    feeds = {name: each for name, each in feeds.items() if name in takes}
    tokenization.save_tokenizer(tokenizer, context.out / "tokenizer.json")
    about: dict[str, Any] = {"dtype": "fp32", "model": inputs.artifact.about["model"]}
    if inputs.artifact.format == "transformers":
        return about | _other(model, feeds, params, context.out, about["model"]["architecture"])
    layers = int(about["model"]["layers"])
    if about["model"].get("exits"):
        found = _chain(model, feeds, about["model"], params, context.out)
        return {"format": "stages", **about, "logit_differences": found}
    path = context.out / "model.onnx"
    expected = _trace(model, feeds, OUTPUTS[:1], path)
    if params.optimize:
        about["fused"] = _optimize(path, about["model"], params, _wanted(layers, params))
    difference = _difference(path, feeds, expected[0])
    return {"format": "onnx", **about, "logit_difference": difference}


def _other(
    model: Any, feeds: dict[str, Any], params: Export, out: Path, architecture: str
) -> dict[str, Any]:
    """A graph of another architecture than BERT, which not all that is in it may survive."""
    path = out / "model.onnx"
    try:
        expected = _trace(model, feeds, OUTPUTS[:1], path)
        if params.optimize:
            _optimize(path, {}, params, {})
        difference = _difference(path, feeds, expected[0])
    except Exception as error:  # of the tracer, the optimizer or the runtime
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise BuildError(f"{architecture} cannot be exported to ONNX ({reason}).") from None
    return {"format": "onnx", "fused": {}, "logit_difference": difference}


OUTPUTS = ("logits", "hidden", "mask")
"""Of a stage; the last one has its logits alone."""


def _chain(
    model: Any,
    feeds: dict[str, Any],
    described: dict[str, Any],
    params: Export,
    out: Path,
) -> list[float]:
    """One graph a stage. Returns: the largest difference of each one's logits from PyTorch's."""
    from harness.models.classifier import Stage

    differences, layers = [], int(described["layers"])
    ends = [each + 1 for each in described["exits"]]
    for number, start, stop in zip(range(layers), [0, *ends], [*ends, layers], strict=False):
        path, last = out / f"stage-{number}.onnx", stop == layers
        outputs = OUTPUTS[:1] if last else OUTPUTS
        found = _trace(Stage(model, number).eval(), feeds, outputs, path)
        if params.optimize:
            wanted = _wanted(stop - start, params, begins=number == 0, ends=last)
            _optimize(path, {**described, "layers": stop - start}, params, wanted)
        differences.append(_difference(path, feeds, found[0]))
        if not last:  # every second input stays
            feeds = {"hidden": found[1], "mask": found[2], "rows": np.arange(0, len(found[1]), 2)}
    return differences


def _trace(model: Any, feeds: dict[str, Any], outputs: Sequence[str], path: Path) -> list[Any]:
    """Export a module. Returns: what it gives for these inputs."""
    import torch

    given = tuple(torch.from_numpy(each) for each in feeds.values())
    axes = {name: {0: "inputs", 1: "length"} for name in feeds if name != "rows"}
    axes |= {name: {0: "inputs"} for name in ("logits", "rows")}
    # a stage's outputs bear the names of the next one's inputs, behind a prefix of their own
    names = [name if name == "logits" else f"next_{name}" for name in outputs]
    axes |= {name: {0: "staying", 1: "kept"} for name in names[1:]}
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # the tracer's remarks; the logits are compared below
        torch.onnx.export(
            model,
            given,
            path,
            input_names=list(feeds),
            output_names=names,
            dynamic_axes={name: axes[name] for name in (*feeds, *names)},
            opset_version=17,
            dynamo=False,
        )
        found = model(*given)
    return [each.numpy() for each in (found if isinstance(found, tuple) else (found,))]


def _difference(path: Path, feeds: dict[str, Any], expected: Any) -> float:
    """The largest difference of a logit. Raises: BuildError if it is too large."""
    difference = float(np.abs(_logits(path, feeds) - expected).max())
    if difference > TOLERANCE:
        raise BuildError(
            f"the exported graph's logits differ from PyTorch's by {difference:.2g} (at most "
            f"{TOLERANCE})."
        )
    return difference


def _wanted(layers: int, params: Export, begins: bool = True, ends: bool = True) -> dict[str, int]:
    """How many nodes of each fused kind so many layers of a BERT must have. begins, ends: whether
    the embeddings and the last layer are among them.
    """
    wanted = {"Attention": layers - (params.first_only and ends)}
    if params.norm == "skip":
        skip = {"SkipLayerNormalization": 2 * layers, "EmbedLayerNormalization": int(begins)}
        return wanted | skip
    return wanted | {"LayerNormalization": 2 * layers + begins}


def _model(artifact: Artifact, task: Task, params: Export) -> "tuple[nn.Module, Collection[str]]":
    """The model to trace, and the names of what it takes, in order."""
    import torch
    from torch import nn

    from harness.optimize.training import encoders

    if artifact.format == "safetensors":
        model, _ = encoders.load_model(artifact, task)
        model.fused_attention, model.first_only = False, params.first_only
        return model, ("input_ids", "attention_mask", "token_type_ids")
    from transformers import AutoModelForSequenceClassification

    inner = AutoModelForSequenceClassification.from_pretrained(
        artifact.folder,
        local_files_only=True,
        use_safetensors=True,
        attn_implementation="eager",
        dtype=torch.float32,
    )
    inner.eval()
    names = artifact.about["model"]["inputs"]

    class Logits(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, *feeds: Any) -> Any:
            return self.inner(**dict(zip(names, feeds, strict=True))).logits

    return Logits().eval(), names


def _optimize(
    path: Path, model: dict[str, Any], params: Export, wanted: dict[str, int]
) -> dict[str, int]:
    """Optimize the graph in place. Returns: the count of each fused kind of node.

    Raises: BuildError if one is not as wanted.
    """
    import onnx
    from onnxruntime.transformers import optimizer
    from onnxruntime.transformers.fusion_options import FusionOptions

    skip = params.norm == "skip"
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
    if wanted and model.get("activation", "gelu") == "gelu":
        wanted = wanted | {"BiasGelu": int(model["layers"])}
    for kind, number in wanted.items():
        if counts[kind] != number:
            raise BuildError(
                f"graph optimization fused {counts[kind]} {kind} nodes, but {model['layers']} "
                f"layers need {number}. Set optimize = false, or use the onnxruntime version of "
                "constraints.txt."
            )
    return {kind: counts[kind] for kind in wanted}


def _logits(path: Any, feeds: dict[str, Any]) -> Any:
    import onnxruntime

    from harness.engines.onnxruntime import DISABLED_FUSIONS, INPUT_TYPES

    session = onnxruntime.InferenceSession(
        path, providers=["CPUExecutionProvider"], disabled_optimizers=list(DISABLED_FUSIONS)
    )
    kinds = {each.name: INPUT_TYPES[each.type] for each in session.get_inputs()}
    return session.run(None, {name: feeds[name].astype(kind) for name, kind in kinds.items()})[0]


STEP = Step(
    "export",
    2,
    Export,
    ("safetensors", "transformers"),
    run,
    validate,
    output_spec=lambda params, shape: {"format": "stages" if shape.get("exits") else "onnx"},
)
