"""Token pruning: after some layers the tokens with the least attention are dropped, so that the
following layers have less to compute (PoWER-BERT: Goyal et al. 2020; LTP: Kim et al. 2022).

The attention of a token is the sum of what it gets from all tokens. The shares are fixed, so that
the graph has no branches and can be exported. A `distill` step after this one adapts the model to
the remaining tokens.
"""

from dataclasses import replace
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from harness.errors import BuildError
from harness.models.model_spec import ModelSpec
from harness.optimize.base import (
    Inputs,
    Step,
    StepContext,
    StepParams,
    find_dtype_faults,
    find_layer_faults,
)
from harness.schema import Integers, Number, to_tuple
from harness.tasks.task import Task

BATCH = 32

NO_DISTANCES = (
    "the model's attention depends on the distance between tokens (MPNet), which pruning changes. "
    "Start from a BERT, such as all-MiniLM-L6-v2"
)

Shares = Annotated[tuple[Annotated[Number, Field(gt=0, lt=1)], ...], BeforeValidator(to_tuple)]


class PruneTokens(StepParams):
    """Keep a share of the tokens after some layers."""

    after: Integers = Field(description="the layers, counted from 0, without the last one")
    keep: Shares = Field(
        description="for each of them the share of its tokens to keep; the first one is always kept"
    )


def validate(params: PruneTokens, spec: ModelSpec) -> list[str]:
    """Return what does not fit the model, as sentences."""
    faults = find_layer_faults(params.after, spec)
    if len(params.keep) != len(params.after):
        faults.append(
            f"keep names {len(params.keep)} shares, but after {len(params.after)} layers: give one "
            "for each"
        )
    if spec.has_bias:
        faults.append(NO_DISTANCES)
    return faults + find_dtype_faults(spec)


def run(inputs: Inputs, task: Task, params: PruneTokens, context: StepContext) -> dict[str, Any]:
    """Write the same weights with the shares; the metadata has the selection accuracy before and
    after, None if the slice is empty.

    Raises:
        BuildError: the model's attention depends on the distance between tokens.
    """
    from harness.models import classifier
    from harness.optimize.training import encoders, loop

    assert inputs.artifact is not None
    loop.fix_seed_and_threads(context.seed, context.threads)
    model, tokenizer = encoders.load_model(inputs.artifact, task)
    if model.spec.buckets:
        raise BuildError(f"{NO_DISTANCES}.")
    shares = dict(zip(params.after, params.keep, strict=True))
    keep = tuple(shares.get(layer, 1.0) for layer in range(model.spec.layers))
    pruned = classifier.Classifier(replace(model.spec, keep=keep))
    classifier.assign_weights(pruned, model.state_dict())
    selection = encoders.tokenize_examples(tokenizer, task.examples("selection"))
    accuracies = {
        name: encoders.compute_accuracy(variant, selection, BATCH) if len(selection) else None
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
    output_spec=lambda params, spec: replace(spec, keep=params.keep),
    trains=True,  # no weights; but it changes the answers, as a closed submission must not
)
