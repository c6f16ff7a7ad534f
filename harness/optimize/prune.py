"""Structured pruning of attention heads, feed-forward neurons and the width of hidden states.

Importance is first-order: the mean over batches of |dL/d mask|, with a mask of ones on the output
of every head and neuron (Michel et al. 2019; Molchanov et al. 2017), as in FastFormers (Kim &
Hassan 2020, section 3.2). Hidden states are projected onto their principal
components, as in SliceGPT (Ashkboos et al. 2024). Both are computed on training data.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from harness.errors import BuildError
from harness.models.model_spec import ModelSpec
from harness.optimize.base import Inputs, Step, StepContext, StepParams, find_dtype_faults
from harness.progress import Log, track
from harness.tasks.task import Task

if TYPE_CHECKING:
    from torch import Tensor, nn

    from harness.models.classifier import Classifier
    from harness.optimize.training.tokens import Tokens


class Prune(StepParams):
    """Keep the most important heads and neurons, and the first components of hidden states."""

    heads: int = Field(ge=1, description="attention heads to keep in each layer")
    ffn: int = Field(ge=1, description="feed-forward neurons to keep in each layer")
    scope: Literal["layer", "global"] = Field(
        "layer",
        description="`layer` keeps that many in every layer; `global` keeps that many on average, "
        "the most important ones wherever they are, and at least one in each layer",
    )
    width: int = Field(
        0,
        ge=0,
        description="principal components of the hidden states to keep; 0 for the whole width",
        json_schema_extra={"added": True},
    )
    examples: int = Field(
        2048, ge=1, description="training examples that importance and components are computed on"
    )


BATCH = 32


def validate(params: Prune, spec: ModelSpec) -> list[str]:
    """Return what does not fit the model, as sentences."""
    faults = []
    for key, keep, available in (
        ("heads", params.heads, spec.heads),
        ("neurons", params.ffn, spec.ffn),
        ("columns", params.width, spec.width),
    ):
        if available and keep > available:
            name = {"neurons": "ffn", "columns": "width"}.get(key, key)
            faults.append(
                f"{name} = {keep}, but {spec.name} has {available} {key}. Choose 1..{available}"
            )
    return faults + find_dtype_faults(spec)


def run(inputs: Inputs, task: Task, params: Prune, context: StepContext) -> dict[str, Any]:
    """Write the smaller model.

    Raises:
        BuildError: the model has fewer heads, neurons or columns than are to be kept.
    """
    from harness.optimize.training import encoders, loop

    assert inputs.artifact is not None
    loop.fix_seed_and_threads(context.seed, context.threads)
    model, tokenizer = encoders.load_model(inputs.artifact, task)
    rows = task.examples("train")[: params.examples]
    if not rows:
        raise BuildError(
            f"{task.name} has no training examples to compute importance on. Add rows to its "
            "training split."
        )
    data = encoders.tokenize_examples(tokenizer, rows)
    heads, ffn = compute_importance(model, data, context.log)
    select = select_per_layer if params.scope == "layer" else select_globally
    pruned = keep_heads_and_neurons(model, select(heads, params.heads), select(ffn, params.ffn))
    if params.width:
        if params.width > pruned.spec.width:
            raise BuildError(f"a hidden state cannot keep {params.width} of {pruned.spec.width}.")
        pruned = project(pruned, find_components(pruned, data, params.width))
    return encoders.save_model(pruned, tokenizer, context.out)


def compute_importance(
    model: "Classifier", data: "Tokens", log: Log = print
) -> "tuple[list[Tensor], list[Tensor]]":
    """Compute the mean |dL/d mask| of every head and neuron, each layer scaled to unit L2 norm.

    Args:
        model: a fine-tuned classifier.
        data: labelled training data.
        log: receives lines of progress.

    Returns:
        For each layer float32 [heads], and for each layer float32 [neurons].

    Raises:
        BuildError: a gradient is not finite.
    """
    import torch

    from harness.optimize.training import encoders

    attentions = [layer.get_submodule("attention.self") for layer in model.bert.encoder.layer]
    intermediates = [layer.get_submodule("intermediate") for layer in model.bert.encoder.layer]
    spec = model.spec
    head_masks = [torch.ones(count, requires_grad=True) for count in spec.heads]
    ffn_masks = [torch.ones(count, requires_grad=True) for count in spec.ffn]
    column_masks = [mask.repeat_interleave(spec.head_size) for mask in head_masks]
    modules = [*attentions, *intermediates]
    hooks = [
        _multiply_output(module, mask)
        for module, mask in zip(modules, [*column_masks, *ffn_masks], strict=True)
    ]
    masks = [*head_masks, *ffn_masks]
    sums = [torch.zeros(len(mask)) for mask in masks]
    model.plain_attention = encoders.PLAIN_ATTENTION_FP32
    model.requires_grad_(False)  # a graph of the weights would need several times the memory
    try:
        batches = encoders.group_by_length(data, BATCH)[::-1]  # shorter ones fit into freed memory
        for rows in track(batches, log, "importance"):
            gradients = [torch.zeros(len(mask)) for mask in masks]
            for part in encoders.split_by_tokens(rows, data.lengths):
                labels = torch.from_numpy(data.labels[part])
                logits = encoders.compute_logits(model, data, part, bf16=False)
                loss = torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
                # the graph of repeat_interleave is needed again for the next part
                parts = torch.autograd.grad(loss, masks, retain_graph=True)
                for gradient, summand in zip(gradients, parts, strict=True):
                    gradient += summand
            for total, gradient in zip(sums, gradients, strict=True):
                total += gradient.abs()
    finally:
        model.plain_attention = 0
        model.requires_grad_(True)
        for hook in hooks:
            hook.remove()
    if not all(bool(torch.isfinite(total).all()) for total in sums):
        raise BuildError("a gradient is not finite. Train with a lower learning_rate first.")
    scaled = [total / total.norm().clamp_min(1e-12) for total in sums]
    return scaled[: spec.layers], scaled[spec.layers :]


def select_per_layer(layers: "Sequence[Tensor]", keep: int) -> list[list[int]]:
    """Select the highest scores of each layer.

    Args:
        layers: for each layer float32 [scores].
        keep: how many to select in each.

    Returns:
        For each layer the positions, in ascending order.

    Raises:
        BuildError: a layer has fewer scores.
    """
    smallest = min(len(scores) for scores in layers)
    if keep > smallest:
        raise BuildError(f"a layer cannot keep {keep} of {smallest}.")
    return [
        sorted(scores.argsort(descending=True, stable=True)[:keep].tolist()) for scores in layers
    ]


def select_globally(layers: "Sequence[Tensor]", keep: int) -> list[list[int]]:
    """Select the highest scores of all layers together, and at least one in each layer.

    Args:
        layers: for each layer float32 [scores].
        keep: how many to select per layer on average.

    Returns:
        For each layer the positions, in ascending order.

    Raises:
        BuildError: the layers have fewer scores.
    """
    count = keep * len(layers)
    if count > sum(len(scores) for scores in layers):
        raise BuildError(f"{len(layers)} layers cannot keep {keep} each on average.")
    ranked = sorted(
        (-float(score), layer, position)
        for layer, scores in enumerate(layers)
        for position, score in enumerate(scores)
    )
    selected = {(layer, select_per_layer([scores], 1)[0][0]) for layer, scores in enumerate(layers)}
    for _, layer, position in ranked:
        if len(selected) < count:
            selected.add((layer, position))
    positions: list[list[int]] = [[] for _ in layers]
    for layer, position in sorted(selected):
        positions[layer].append(position)
    return positions


def keep_heads_and_neurons(
    model: "Classifier", heads: list[list[int]], ffn: list[list[int]]
) -> "Classifier":
    """Return a smaller model that has only some heads and neurons.

    Its logits are those of the complete model with the other heads and neurons masked.

    Args:
        model: the complete model.
        heads: for each layer the positions of the heads to keep.
        ffn: for each layer the positions of the neurons to keep.
    """
    import torch

    from harness.models.classifier import Classifier, assign_weights

    spec = replace(
        model.spec,
        heads=tuple(len(positions) for positions in heads),
        ffn=tuple(len(positions) for positions in ffn),
    )
    weights = {name: value.detach() for name, value in model.state_dict().items()}
    size = spec.head_size
    for index, (kept_heads, neurons) in enumerate(zip(heads, ffn, strict=True)):
        layer = f"bert.encoder.layer.{index}"
        columns = [head * size + offset for head in kept_heads for offset in range(size)]
        for part in ("query", "key", "value"):
            for kind in ("weight", "bias"):
                name = f"{layer}.attention.self.{part}.{kind}"
                weights[name] = weights[name][columns]
        if len(kept_heads) < spec.bias_heads:
            name = f"{layer}.attention.self.bias_heads"
            weights[name] = weights.get(name, torch.arange(spec.bias_heads))[kept_heads]
        for name, positions in (
            (f"{layer}.attention.output.dense.weight", columns),
            (f"{layer}.output.dense.weight", neurons),
        ):
            weights[name] = weights[name][:, positions]
        for kind in ("weight", "bias"):
            name = f"{layer}.intermediate.dense.{kind}"
            weights[name] = weights[name][neurons]
    pruned = Classifier(spec)
    assign_weights(pruned, {name: value.clone() for name, value in weights.items()})
    return pruned.eval()


def find_components(model: "Classifier", data: "Tokens", width: int) -> "Tensor":
    """Return the principal components of the hidden states of all layers, not centered.

    Args:
        model: a fine-tuned classifier.
        data: training data; padding does not count.
        width: number of components.

    Returns:
        float32 [width of the model, components], orthonormal.
    """
    import torch

    from harness.optimize.training import encoders

    moments = torch.zeros(model.spec.width, model.spec.width, dtype=torch.float64)
    is_token = torch.empty(0)

    def add(module: "nn.Module", inputs: Any, output: "Tensor") -> None:
        states = output[is_token].double()
        moments.add_(states.T @ states)

    layers = model.bert.encoder.layer
    names = ("attention.output", "output")
    modules = [layer.get_submodule(name) for layer in layers for name in names]
    hooks = [module.register_forward_hook(add) for module in (model.bert.embeddings, *modules)]
    try:
        with torch.inference_mode():
            for rows in encoders.group_by_length(data, BATCH):
                for part in encoders.split_by_tokens(rows, data.lengths):
                    ids, mask, segments = encoders.make_feeds(model, data, part)
                    is_token = mask.bool()
                    model(ids, mask, segments)
    finally:
        for hook in hooks:
            hook.remove()
    _, vectors = torch.linalg.eigh(moments)  # in ascending order
    components: Tensor = vectors[:, -width:].float()
    return components


READ = re.compile(r"(_embeddings|query|key|value|intermediate\.dense)\.weight$")
"""Names of the weights that have a row for each output, and a column for each of the width."""

WRITTEN = re.compile(r"(output\.dense\.(weight|bias)|LayerNorm\.bias)$")
"""Names of the weights that have a row for each of the width."""


def project(model: "Classifier", components: "Tensor") -> "Classifier":
    """Return a narrower model whose hidden states are those of the model in other coordinates.

    The layer norms in between are approximated: they have one weight for each new coordinate, and
    see the dropped ones no more. So the model has to be trained again.

    Args:
        model: the wide model.
        components: float32 [width, new width], orthonormal.
    """
    from harness.models.classifier import Classifier, assign_weights

    weights = {name: value.detach() for name, value in model.state_dict().items()}
    for name, value in weights.items():
        if READ.search(name):
            weights[name] = value @ components
        elif WRITTEN.search(name):
            weights[name] = components.T @ value
        elif name.endswith("LayerNorm.weight"):
            weights[name] = (components**2).T @ value
    width = components.shape[1]
    exits = [f"exits.{number}." for number in range(len(model.spec.exits))]
    for pooler, head in (("bert.", ""), *zip(exits, exits, strict=True)):
        # a pooler keeps those outputs that the classification layer weighs most
        weight = weights[f"{head}classifier.weight"]
        outputs = weight.norm(dim=0).argsort(descending=True, stable=True)[:width]
        weights[f"{head}classifier.weight"] = weight[:, outputs]
        dense = f"{pooler}pooler.dense"
        weights[f"{dense}.weight"] = weights[f"{dense}.weight"][outputs] @ components
        weights[f"{dense}.bias"] = weights[f"{dense}.bias"][outputs]
    narrow = Classifier(replace(model.spec, width=width))
    assign_weights(narrow, {name: value.clone() for name, value in weights.items()})
    return narrow.eval()


def _multiply_output(module: "nn.Module", mask: "Tensor") -> Any:
    return module.register_forward_hook(lambda module, inputs, output: output * mask)


STEP = Step(
    "prune",
    3,
    Prune,
    ("safetensors",),
    run,
    validate,
    output_spec=lambda params, spec: replace(
        spec, heads=params.heads, ffn=params.ffn, width=params.width or spec.width
    ),
    trains=True,
)
