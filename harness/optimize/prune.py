"""Structured pruning: whole attention heads and feed-forward neurons are removed.

Importance is first-order: the mean over batches of |dL/d mask|, with a mask of ones behind every
head and neuron (Michel et al. 2019; Molchanov et al. 2017), as FastFormers uses it (Kim & Hassan
2020, section 3.2). It is computed on training data.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from harness.errors import BuildError
from harness.optimize.base import Inputs, Step, StepContext, fp32_fault
from harness.tasks.task import Task

if TYPE_CHECKING:
    from torch import Tensor, nn

    from harness.models.classifier import Classifier
    from harness.optimize.training.tokens import Tokens


@dataclass(frozen=True)
class Prune:
    """Keep the most important heads and neurons.

    heads: attention heads to keep in each layer, 1..the model's.
    ffn: feed-forward neurons to keep in each layer, 1..the model's.
    scope: `layer` keeps that many in every layer; `global` keeps that many on average, the most
        important ones wherever they are, and at least one in each layer.
    examples: training examples that importance is computed on, 1 or above.
    """

    heads: int
    ffn: int
    scope: str = "layer"
    examples: int = 2048


BATCH = 32


def validate(params: Prune, shape: dict[str, Any]) -> list[str]:
    """Faults of the parameters, as sentences."""
    faults = [] if params.examples >= 1 else [f"examples = {params.examples}: choose 1 or above"]
    if params.scope not in ("layer", "global"):
        faults.append(f"scope = {params.scope!r}: choose 'layer' or 'global'")
    for name, what in (("heads", "heads"), ("ffn", "neurons")):
        wanted, most = getattr(params, name), shape.get(name)
        if most and wanted > most:
            faults.append(
                f"{name} = {wanted}, but {shape['name']} has {most} {what}. Choose 1..{most}"
            )
        elif wanted < 1:
            faults.append(f"{name} = {wanted}: choose 1..{most or 'the number of the model'}")
    return faults + fp32_fault(shape)


def run(inputs: Inputs, task: Task, params: Prune, context: StepContext) -> dict[str, Any]:
    """Write the smaller model. Raises: BuildError if the model has fewer heads or neurons."""
    from harness.optimize.training import encoders, loop

    assert inputs.artifact is not None
    loop.fix_seed_and_threads(context.seed, context.threads)
    model, tokenizer = encoders.load_model(inputs.artifact, task)
    rows = task.examples("train")[: params.examples]
    if not rows:
        raise BuildError(f"{task.name} has no training examples to compute importance on.")
    heads, ffn = importance(model, encoders.tokenize_examples(tokenizer, rows))
    share = best if params.scope == "layer" else best_of_all
    pruned = remove(model, share(heads, params.heads), share(ffn, params.ffn))
    return encoders.save_model(pruned, tokenizer, context.out)


def importance(model: "Classifier", data: "Tokens") -> "tuple[list[Tensor], list[Tensor]]":
    """Mean |dL/d mask| of every head and every neuron, each layer scaled to unit L2 norm.

    Returns: for each layer float32 [heads], and for each layer float32 [neurons].
    Raises: BuildError if a gradient is not finite.
    """
    import torch

    from harness.optimize.training import encoders

    layers = [layer.get_submodule("attention.self") for layer in model.bert.encoder.layer]
    inner = [layer.get_submodule("intermediate") for layer in model.bert.encoder.layer]
    shape = model.spec
    head_masks = [torch.ones(count, requires_grad=True) for count in shape.heads]
    ffn_masks = [torch.ones(count, requires_grad=True) for count in shape.ffn]
    wide = [mask.repeat_interleave(shape.head_size) for mask in head_masks]
    hooks = [_scale(module, mask) for module, mask in zip(layers, wide, strict=True)]
    hooks += [_scale(module, mask) for module, mask in zip(inner, ffn_masks, strict=True)]
    masks = [*head_masks, *ffn_masks]
    sums = [torch.zeros(len(mask)) for mask in masks]
    try:
        for start in range(0, len(data), BATCH):
            rows = list(range(start, min(start + BATCH, len(data))))
            labels = torch.from_numpy(data.labels[rows])
            found = encoders.compute_logits(model, data, rows, bf16=False)
            loss = torch.nn.functional.cross_entropy(found, labels)
            # gradients of this batch alone; heads share one graph, which the next batch needs again
            for total, gradient in zip(
                sums, torch.autograd.grad(loss, masks, retain_graph=True), strict=True
            ):
                total += gradient.abs() * len(rows)
    finally:
        for hook in hooks:
            hook.remove()
    if not all(bool(torch.isfinite(each).all()) for each in sums):
        raise BuildError("a gradient is not finite. Train with a lower learning_rate first.")
    scaled = [each / each.norm().clamp_min(1e-12) for each in sums]
    return scaled[: shape.layers], scaled[shape.layers :]


def best(layers: "Sequence[Tensor]", keep: int) -> list[list[int]]:
    """For each layer the positions of its `keep` highest scores, in rising order.

    Raises: BuildError if a layer has fewer.
    """
    if keep > min(len(scores) for scores in layers):
        raise BuildError(f"a layer cannot keep {keep} of {min(len(each) for each in layers)}.")
    return [
        sorted(scores.argsort(descending=True, stable=True)[:keep].tolist()) for scores in layers
    ]


def best_of_all(layers: "Sequence[Tensor]", keep: int) -> list[list[int]]:
    """For each layer positions in rising order: its best one, and the highest scores of all layers
    until `keep` times the number of layers are kept.

    Raises: BuildError if there are fewer in all.
    """
    wanted = keep * len(layers)
    if wanted > sum(len(scores) for scores in layers):
        raise BuildError(f"{len(layers)} layers cannot keep {keep} each on average.")
    ranked = sorted(
        (-float(score), layer, position)
        for layer, scores in enumerate(layers)
        for position, score in enumerate(scores)
    )
    kept = {(layer, best([scores], 1)[0][0]) for layer, scores in enumerate(layers)}
    for _, layer, position in ranked:
        if len(kept) < wanted:
            kept.add((layer, position))
    return [
        sorted(position for at, position in kept if at == layer) for layer in range(len(layers))
    ]


def remove(model: "Classifier", heads: list[list[int]], ffn: list[list[int]]) -> "Classifier":
    """A smaller model that holds only these heads and neurons of each layer.

    heads, ffn: for each layer the positions to keep. Agrees with the whole model in which the
    other heads and neurons are masked.
    """
    from harness.models.classifier import Classifier, assign_weights

    shape = replace(
        model.spec,
        heads=tuple(len(each) for each in heads),
        ffn=tuple(len(each) for each in ffn),
    )
    weights = {name: value.detach() for name, value in model.state_dict().items()}
    size = shape.head_size
    for index, (kept, neurons) in enumerate(zip(heads, ffn, strict=True)):
        layer = f"bert.encoder.layer.{index}"
        columns = [head * size + offset for head in kept for offset in range(size)]
        for part in ("query", "key", "value"):
            for kind in ("weight", "bias"):
                name = f"{layer}.attention.self.{part}.{kind}"
                weights[name] = weights[name][columns]
        for name, kept_columns in (
            (f"{layer}.attention.output.dense.weight", columns),
            (f"{layer}.output.dense.weight", neurons),
        ):
            weights[name] = weights[name][:, kept_columns]
        for kind in ("weight", "bias"):
            name = f"{layer}.intermediate.dense.{kind}"
            weights[name] = weights[name][neurons]
    pruned = Classifier(shape)
    assign_weights(pruned, {name: value.clone() for name, value in weights.items()})
    return pruned.eval()


def _scale(module: "nn.Module", mask: "Tensor") -> Any:
    return module.register_forward_hook(lambda module, given, output: output * mask)


STEP = Step(
    "prune",
    2,
    Prune,
    ("safetensors",),
    run,
    validate,
    output_spec=lambda params, shape: {"heads": params.heads, "ffn": params.ffn},
    trains=True,
)
