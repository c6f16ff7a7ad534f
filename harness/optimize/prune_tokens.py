"""Token pruning: after some layers the tokens with the least attention are dropped, so that the
following layers have less to compute (PoWER-BERT: Goyal et al. 2020; LTP: Kim et al. 2022).

The attention of a token is the sum of what it gets from all tokens. The shares are fixed, so that
the graph has no branches and can be exported. A `distill` step after this one adapts the model to
the remaining tokens.
"""

from dataclasses import dataclass, replace
from typing import Any

from harness.optimize.base import Inputs, Step, StepContext, find_dtype_faults, find_layer_faults
from harness.tasks.task import Task

BATCH = 32


@dataclass(frozen=True)
class PruneTokens:
    """Keep a share of the tokens after some layers.

    after: the layers, counted from 0, without the last one.
    keep: for each of them the share of its tokens to keep, above 0, below 1; the first token is
        always kept.
    """

    after: tuple[int, ...]
    keep: tuple[float, ...]


def validate(params: PruneTokens, spec: dict[str, Any]) -> list[str]:
    """Return the errors of the parameters, as sentences."""
    faults = find_layer_faults(params.after, spec)
    if len(params.keep) != len(params.after):
        faults.append(
            f"keep names {len(params.keep)} shares, but after {len(params.after)} layers: give one "
            "for each"
        )
    if any(not 0 < share < 1 for share in params.keep):
        faults.append(f"keep = {list(params.keep)}: choose shares above 0 and below 1")
    return faults + find_dtype_faults(spec)


def run(inputs: Inputs, task: Task, params: PruneTokens, context: StepContext) -> dict[str, Any]:
    """Write the same weights with the shares; the metadata has the selection accuracy before and
    after.
    """
    from harness.models import classifier
    from harness.optimize.training import encoders, loop

    assert inputs.artifact is not None
    loop.fix_seed_and_threads(context.seed, context.threads)
    model, tokenizer = encoders.load_model(inputs.artifact, task)
    shares = dict(zip(params.after, params.keep, strict=True))
    keep = tuple(shares.get(layer, 1.0) for layer in range(model.spec.layers))
    pruned = classifier.Classifier(replace(model.spec, keep=keep))
    classifier.assign_weights(pruned, model.state_dict())
    selection = encoders.tokenize_examples(tokenizer, task.examples("selection"))
    accuracies = {
        name: encoders.compute_accuracy(variant, selection, BATCH)
        for name, variant in (("before", model), ("after", pruned))
    }
    return {**encoders.save_model(pruned.eval(), tokenizer, context.out), "selection": accuracies}


STEP = Step(
    "prune-tokens",
    1,
    PruneTokens,
    ("safetensors",),
    run,
    validate,
    output_spec=lambda params, spec: {"keep": params.keep},
    trains=True,  # no weights; but it changes the answers, as a closed submission must not
)
