import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from harness.errors import BuildError
from harness.models import classifier
from harness.optimize import distill
from harness.optimize.base import Artifact, Inputs, StepContext
from harness.optimize.distill import Distill
from harness.optimize.training import loop, losses
from harness.optimize.training.loop import Training, run_epochs
from tests.support.words import QUICK, TASK, distilled


@pytest.fixture(autouse=True)
def _own_cache(cache: Path) -> None:
    """Teacher logits are cached."""


def counting_training(scores: list[float], update: Callable[[int], float]) -> Training:
    """A training with two updates per epoch, whose only weight counts the updates."""
    model = nn.Linear(1, 1)
    remaining = iter(scores)

    def count(rows: list[int], number: int) -> float:
        model.weight.data.fill_(number + 1)
        return update(number)

    return Training(
        model,
        epochs=len(scores),
        updates=2 * len(scores),
        learning_rate=0.1,
        draw_batches=lambda: [[0, 1], [2]],
        update=count,
        score=lambda: next(remaining),
    )


def test_weights_end_as_those_of_the_first_of_the_best_epochs() -> None:
    training = counting_training([0.5, 0.9, 0.9], lambda number: float(number))
    history = run_epochs(training, lambda line: None)
    assert training.model.weight.item() == 4, "after the two updates of each of two epochs"
    assert [epoch["selection"] for epoch in history] == [0.5, 0.9, 0.9]
    assert [epoch["loss"] for epoch in history] == [1 / 3, 5 / 3, 9 / 3], "the mean over 3 rows"


def test_student_ends_as_in_the_epoch_that_is_closest_to_its_teacher() -> None:
    """The accuracy of a small selection slice is mostly noise; the divergence is not."""
    divergences = iter([0.3, 0.1, 0.2])
    training = replace(
        counting_training([0.5, 0.6, 0.9], lambda number: float(number)),
        divergence=lambda: next(divergences),
    )
    history = run_epochs(training, lambda line: None)
    assert training.model.weight.item() == 4, "after the two updates of each of two epochs"
    assert [epoch["divergence"] for epoch in history] == [0.3, 0.1, 0.2]
    assert [epoch["selection"] for epoch in history] == [0.5, 0.6, 0.9]


def test_loss_that_is_not_finite_ends_the_training() -> None:
    training = counting_training([0.5, 0.9], lambda number: math.nan if number == 2 else 1.0)
    with pytest.raises(BuildError, match=r"not finite in epoch 2. Lower learning_rate \(it is 0.1"):
        run_epochs(training, lambda line: None)


def test_resumed_training_ends_with_the_same_weights(
    finetuned: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    uninterrupted, resumed = tmp_path / "uninterrupted", tmp_path / "resumed"
    uninterrupted.mkdir()
    resumed.mkdir()
    expected = distilled(finetuned, uninterrupted, layers=1, hidden=0.5)
    params = Distill(**QUICK, layers=1, hidden=0.5)  # type: ignore[arg-type]
    inputs = Inputs(finetuned, teacher=finetuned)

    class StopError(Exception):
        pass

    updates = 0
    soft_cross_entropy = losses.soft_cross_entropy

    def stop_once(*arguments: object) -> torch.Tensor:
        nonlocal updates
        updates += 1
        if updates == 35:  # in the second of two epochs of 25 updates
            raise StopError
        return soft_cross_entropy(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(losses, "soft_cross_entropy", stop_once)
    lines: list[str] = []
    context = StepContext(resumed, 0, 1, lines.append, tmp_path / "checkpoints")
    with pytest.raises(StopError):
        distill.run(inputs, TASK, params, context)
    metadata = distill.run(inputs, TASK, params, context)
    assert any("resuming in epoch 2/2, update 34/50" in line for line in lines)
    assert updates == 35 + 16
    for epoch, expected_epoch in zip(
        metadata["training"], expected.metadata.details["training"], strict=True
    ):
        assert epoch["loss"] == expected_epoch["loss"]
        assert epoch["selection"] == expected_epoch["selection"]
    expected_weights = (uninterrupted / classifier.WEIGHTS).read_bytes()
    assert (resumed / classifier.WEIGHTS).read_bytes() == expected_weights


def test_damaged_checkpoint_is_ignored(finetuned: Artifact, tmp_path: Path) -> None:
    checkpoints = tmp_path / "checkpoints"
    checkpoints.mkdir()
    (checkpoints / "checkpoint.safetensors").write_bytes(b"half a checkpoint")
    params = Distill(**{**QUICK, "epochs": 1}, layers=1)  # type: ignore[arg-type]
    out = tmp_path / "out"
    out.mkdir()
    inputs = Inputs(finetuned, teacher=finetuned)
    context = StepContext(out, 0, 1, lambda line: None, checkpoints)
    metadata = distill.run(inputs, TASK, params, context)
    assert len(metadata["training"]) == 1
