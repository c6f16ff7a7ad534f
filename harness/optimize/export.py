"""Export to ONNX, and graph optimization by onnxruntime's transformers optimizer (fused attention,
GELU, layer norm, embeddings).
"""

import logging
import warnings
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from harness.errors import BuildError
from harness.optimize.base import Artifact, Inputs, Step, StepContext, StepParams, find_dtype_faults
from harness.tasks.task import Task

if TYPE_CHECKING:
    from torch import nn

LOGGERS = ("onnxruntime.transformers.fusion_attention",)
TOLERANCE = 1e-3
"""Largest allowed difference of a logit between PyTorch and the exported graph, in fp32."""

SAMPLE_SIZE = 16
"""Texts that the graph is traced and compared with."""


class Export(StepParams):
    """Write the model as an ONNX graph with dynamic batch and sequence."""

    optimize: bool = Field(
        True, description="fuse attention, GELU and layer norm into one node each"
    )
    norm: Literal["layer", "skip"] = Field(
        "layer",
        description="`layer` keeps the residual addition before the layer norm and the embedding "
        "look-ups as separate nodes; `skip` fuses those too (SkipLayerNormalization and "
        "EmbedLayerNormalization), whose CPU kernels are several times slower than the separate "
        "nodes",
    )
    first_only: bool = Field(
        True,
        description="let the last layer compute only the first token; the logits are the same",
    )


def run(inputs: Inputs, task: Task, params: Export, context: StepContext) -> dict[str, Any]:
    """Write `model.onnx`, or one graph per stage of a model with exits (`stage-0.onnx`, ...).

    Raises:
        BuildError: the number of fused nodes is not that of the layers, or the logits differ from
            PyTorch's.
    """
    import torch

    from harness.models import tokenization

    assert inputs.artifact is not None
    torch.set_num_threads(context.threads)
    model, names = _load_model(inputs.artifact, task, params)
    path = inputs.artifact.folder / "tokenizer.json"
    tokenizer = tokenization.load_tokenizer(path, inputs.artifact.metadata.max_length)
    padding: Any = inputs.artifact.metadata.model.get("padding", {})
    selection = task.examples("selection")
    texts = chain(*(example.candidates for example in selection), task.texts(False))
    rows = list(islice(texts, SAMPLE_SIZE if padding is not None else 1))
    batch = tokenization.pad(
        tokenization.tokenize(tokenizer, rows), None, tokenization.Padding(**(padding or {}))
    )
    feeds = {name: values for name, values in batch.feeds.items() if name in names}
    tokenization.save_tokenizer(tokenizer, context.out / "tokenizer.json")
    spec = inputs.artifact.metadata.model
    metadata: dict[str, Any] = {"dtype": "fp32", "model": spec}
    if inputs.artifact.format == "transformers":
        return metadata | _export_other(model, feeds, params, context.out, spec["architecture"])
    if spec.get("exits"):
        differences = _export_stages(model, feeds, spec, params, context.out)
        return {"format": "stages", **metadata, "logit_differences": differences}
    path = context.out / "model.onnx"
    expected = _trace(model, feeds, STAGE_OUTPUTS[:1], path)
    if params.optimize:
        counts = _expected_node_counts(int(spec["layers"]), params, bool(spec.get("buckets")))
        metadata["fused"] = _optimize_graph(path, spec, params, counts)
    difference = _check_logits(path, feeds, expected[0])
    return {"format": "onnx", **metadata, "logit_difference": difference}


def _export_other(
    model: Any, feeds: dict[str, Any], params: Export, out: Path, architecture: str
) -> dict[str, Any]:
    """Export another architecture than BERT, which tracer or optimizer may not support."""
    path = out / "model.onnx"
    try:
        expected = _trace(model, feeds, STAGE_OUTPUTS[:1], path)
        if params.optimize:
            _optimize_graph(path, {}, params, {})
        difference = _check_logits(path, feeds, expected[0])
    except Exception as error:  # of the tracer, the optimizer or the runtime
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise BuildError(f"{architecture} cannot be exported to ONNX ({reason}).") from None
    return {"format": "onnx", "fused": {}, "logit_difference": difference}


STAGE_OUTPUTS = ("logits", "hidden", "mask")
"""Outputs of a stage; the last one has only the logits."""


def _export_stages(
    model: Any,
    feeds: dict[str, Any],
    spec: dict[str, Any],
    params: Export,
    out: Path,
) -> list[float]:
    """Export one graph per stage.

    Returns:
        The largest difference of each stage's logits from PyTorch's.
    """
    from harness.models.classifier import Stage

    differences, layers = [], int(spec["layers"])
    ends = [layer + 1 for layer in spec["exits"]]
    for number, start, stop in zip(range(layers), [0, *ends], [*ends, layers], strict=False):
        path, is_last = out / f"stage-{number}.onnx", stop == layers
        outputs = STAGE_OUTPUTS[:1] if is_last else STAGE_OUTPUTS
        expected = _trace(Stage(model, number).eval(), feeds, outputs, path)
        if params.optimize:
            counts = _expected_node_counts(
                stop - start, params, bool(spec.get("buckets")), number == 0, is_last
            )
            _optimize_graph(path, {**spec, "layers": stop - start}, params, counts)
        differences.append(_check_logits(path, feeds, expected[0]))
        if not is_last:  # every second input goes on to the next stage
            rows = np.arange(0, len(expected[1]), 2)
            feeds = {"hidden": expected[1], "mask": expected[2], "rows": rows}
    return differences


def _trace(model: Any, feeds: dict[str, Any], outputs: Sequence[str], path: Path) -> list[Any]:
    """Export a module, and return its outputs for these inputs."""
    import torch

    inputs = tuple(torch.from_numpy(values) for values in feeds.values())
    axes = {name: {0: "inputs", 1: "length"} for name in feeds if name != "rows"}
    axes |= {name: {0: "inputs"} for name in ("logits", "rows")}
    # the outputs of a stage are named after the inputs of the next one, with a prefix
    names = [name if name == "logits" else f"next_{name}" for name in outputs]
    axes |= {name: {0: "staying", 1: "kept"} for name in names[1:]}
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # of the tracer; the logits are compared below
        torch.onnx.export(
            model,
            inputs,
            path,
            input_names=list(feeds),
            output_names=names,
            dynamic_axes={name: axes[name] for name in (*feeds, *names)},
            opset_version=17,
            dynamo=False,
        )
        results = model(*inputs)
    tensors = results if isinstance(results, tuple) else (results,)
    return [tensor.numpy() for tensor in tensors]


def _check_logits(path: Path, feeds: dict[str, Any], expected: Any) -> float:
    """Return the largest difference of a logit.

    Raises:
        BuildError: it is too large.
    """
    difference = float(np.abs(_run_graph(path, feeds) - expected).max())
    if difference > TOLERANCE:
        raise BuildError(
            f"the logits of the exported graph differ from PyTorch's by {difference:.2g}; the "
            f"limit is {TOLERANCE}."
        )
    return difference


def _expected_node_counts(
    layers: int,
    params: Export,
    has_bias: bool,
    has_embeddings: bool = True,
    has_last_layer: bool = True,
) -> dict[str, int]:
    """Return how many nodes of each fused kind some layers of a BERT must have.

    Args:
        layers: the number of layers.
        params: the parameters of the step.
        has_bias: whether attention scores have a bias by distance, with which no node is fused.
        has_embeddings: whether the embeddings are part of the graph.
        has_last_layer: whether the last layer is among the layers.
    """
    attention = 0 if has_bias else layers - (params.first_only and has_last_layer)
    counts = {"Attention": attention}
    if params.norm == "skip":
        embeddings = "LayerNormalization" if has_bias else "EmbedLayerNormalization"
        return counts | {"SkipLayerNormalization": 2 * layers, embeddings: int(has_embeddings)}
    return counts | {"LayerNormalization": 2 * layers + has_embeddings}


def _load_model(
    artifact: Artifact, task: Task, params: Export
) -> "tuple[nn.Module, Collection[str]]":
    """Return the model to trace, and the names of its inputs, in order."""
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
        trust_remote_code=False,
        use_safetensors=True,
        attn_implementation="eager",
        dtype=torch.float32,
    )
    inner.eval()
    names = artifact.metadata.model["inputs"]

    class Logits(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, *feeds: Any) -> Any:
            return self.inner(**dict(zip(names, feeds, strict=True))).logits

    return Logits().eval(), names


def _optimize_graph(
    path: Path, spec: dict[str, Any], params: Export, expected: dict[str, int]
) -> dict[str, int]:
    """Optimize a graph in place, and return the number of nodes of each fused kind.

    Args:
        path: the graph.
        spec: the model specification of what it computes.
        params: the parameters of the step.
        expected: how many nodes of each kind it must have; empty to check none.

    Raises:
        BuildError: a number is not as expected.
    """
    import onnx
    from onnxruntime.transformers import optimizer
    from onnxruntime.transformers.fusion_options import FusionOptions

    skip = params.norm == "skip"
    options = FusionOptions("bert")
    options.enable_skip_layer_norm = options.enable_bias_skip_layer_norm = skip
    # EmbedLayerNormalization numbers positions from 0, which is wrong for MPNet
    options.enable_embed_layer_norm = skip and not spec.get("buckets")
    loggers = [logging.getLogger(name) for name in LOGGERS]
    for logger in loggers:  # no remarks on pruned heads, whose columns are not the width
        logger.setLevel(logging.ERROR)
    optimized = optimizer.optimize_model(
        str(path),
        model_type="bert",
        num_heads=0,  # taken from the graph, where layers may differ
        hidden_size=0,
        opt_level=1,
        optimization_options=options,
    )
    onnx.save(optimized.model, str(path))
    counts = Counter(node.op_type for node in optimized.model.graph.node)
    if expected and spec.get("activation", "gelu") == "gelu":
        expected = expected | {"BiasGelu": int(spec["layers"])}
    for kind, number in expected.items():
        if counts[kind] != number:
            raise BuildError(
                f"graph optimization fused {counts[kind]} {kind} nodes, but {spec['layers']} "
                f"layers need {number}. Set optimize = false, or use the onnxruntime version of "
                "constraints.txt."
            )
    return {kind: counts[kind] for kind in expected}


def _run_graph(path: Any, feeds: dict[str, Any]) -> Any:
    import onnxruntime

    from harness.engines.onnxruntime import DISABLED_FUSIONS, INPUT_TYPES

    session = onnxruntime.InferenceSession(
        path, providers=["CPUExecutionProvider"], disabled_optimizers=list(DISABLED_FUSIONS)
    )
    kinds = {tensor.name: INPUT_TYPES[tensor.type] for tensor in session.get_inputs()}
    return session.run(None, {name: feeds[name].astype(kind) for name, kind in kinds.items()})[0]


STEP = Step(
    "export",
    2,
    Export,
    ("safetensors", "transformers"),
    run,
    lambda params, spec: find_dtype_faults(spec),
    output_spec=lambda params, spec: replace(spec, format="stages" if spec.exits else "onnx"),
)
