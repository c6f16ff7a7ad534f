"""Steps on a training split of one example, whose selection slice is empty."""

from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from harness.errors import BuildError
from harness.models.pretrained import Encoder
from harness.optimize import (
    cascade,
    distill,
    exits,
    export,
    finetune,
    prune,
    prune_tokens,
    quantize,
    static,
)
from harness.optimize.base import Artifact, Inputs, Member, get_selection
from tests.support.words import TASK, run_step, scores


def load_one(split: str) -> Any:
    return () if split == "selection" else TASK.examples(split)[:1]


ONE = replace(TASK, name="one", load=load_one)


@pytest.mark.parametrize(
    ("step", "params"),
    [
        (finetune, finetune.Finetune()),
        (distill, distill.Distill(layers=(0,))),
        (exits, exits.Exits(after=(0,))),
        (static, static.Static()),
        (cascade, cascade.Cascade()),
    ],
    ids=["finetune", "distill", "exits", "static", "cascade"],
)
def test_steps_that_select_are_refused(
    finetuned: Artifact, tiny_encoder: Path, tmp_path: Path, step: ModuleType, params: Any
) -> None:
    inputs = Inputs(
        None if step is finetune else finetuned,
        encoder=Encoder(tiny_encoder, "tiny"),
        teacher=finetuned,
        members=(Member("first", finetuned, "pytorch"),) * 2,
    )
    with pytest.raises(BuildError, match=r"selection slice of one is empty, since .* Add others"):
        run_step(tmp_path, step, inputs, params, ONE)


def test_steps_that_train_nothing_need_no_selection_slice(
    finetuned: Artifact, tmp_path: Path
) -> None:
    folders = {name: tmp_path / name for name in ("heads", "tokens", "graph", "int8")}
    for folder in folders.values():
        folder.mkdir()
    smaller = prune.Prune(heads=1, ffn=8)
    model = run_step(folders["heads"], prune, Inputs(finetuned), smaller, ONE)
    unknown = {"before": None, "after": None}
    if not model.metadata.model["buckets"]:
        shares = prune_tokens.PruneTokens(after=(0,), keep=(0.5,))
        model = run_step(folders["tokens"], prune_tokens, Inputs(model), shares, ONE)
        assert model.metadata.details["selection"] == unknown
    model = run_step(folders["graph"], export, Inputs(model), export.Export(), ONE)
    model = run_step(folders["int8"], quantize, Inputs(model), quantize.Quantize(), ONE)
    assert model.metadata.details["selection"] == unknown
    assert len(scores(model)) == 100


def test_selection_slice_is_that_of_the_task() -> None:
    assert get_selection(TASK) == TASK.examples("selection")
