"""Token pruning: after chosen layers the tokens with little attention mass leave, so that the
layers behind have less to do (PoWER-BERT: Goyal et al. 2020; LTP: Kim et al. 2022).

The mass of a token is the attention that it gets from all tokens. The shares are fixed, so that the
graph has no branches and can be exported. A `distill` step after it lets the model get used to what
is left.
"""

from dataclasses import dataclass, replace
from typing import Any

from harness.optimize.base import Inputs, Step, StepContext, fp32_fault, inner_faults
from harness.tasks.task import Task


@dataclass(frozen=True)
class PruneTokens:
    """Keep a share of the tokens after some layers.

    after: the layers, counted from 0, the last one left out.
    keep: for each of them the share of the tokens there that go on, above 0, below 1; the first
        token always does.
    """

    after: tuple[int, ...]
    keep: tuple[float, ...]


def validate(params: PruneTokens, shape: dict[str, Any]) -> list[str]:
    """Faults of the parameters, as sentences."""
    faults = inner_faults(params.after, shape)
    if len(params.keep) != len(params.after):
        faults.append(
            f"keep names {len(params.keep)} shares, but after {len(params.after)} layers: give one "
            "for each"
        )
    if any(not 0 < share < 1 for share in params.keep):
        faults.append(f"keep = {list(params.keep)}: choose shares above 0 and below 1")
    return faults + fp32_fault(shape)


def run(inputs: Inputs, task: Task, params: PruneTokens, context: StepContext) -> dict[str, Any]:
    """Write the same weights with the shares; what that costs on the selection slice goes into the
    artifact.
    """
    from harness.models import classifier
    from harness.optimize.training import encoders, loop

    assert inputs.artifact is not None
    loop.fix_seed_and_threads(context.seed, context.threads)
    model, tokenizer = encoders.load_model(inputs.artifact, task)
    share = dict(zip(params.after, params.keep, strict=True))
    keep = tuple(share.get(layer, 1.0) for layer in range(model.spec.layers))
    pruned = classifier.Classifier(replace(model.spec, keep=keep))
    classifier.assign_weights(pruned, model.state_dict())
    selection = encoders.tokenize_examples(tokenizer, task.examples("selection"))
    scores = {
        name: encoders.compute_accuracy(each, selection, 32)
        for name, each in (("before", model), ("after", pruned))
    }
    return {**encoders.save_model(pruned.eval(), tokenizer, context.out), "selection": scores}


STEP = Step(
    "prune-tokens",
    1,
    PruneTokens,
    ("safetensors",),
    run,
    validate,
    output_spec=lambda params, shape: {"keep": params.keep},
    trains=True,  # not the weights; but other answers than theirs are no other execution of them
)
