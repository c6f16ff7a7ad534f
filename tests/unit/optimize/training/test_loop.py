from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from harness.errors import BuildError
from harness.models import classifier
from harness.models.classifier import Classifier, EncoderShape
from harness.optimize import distill
from harness.optimize.base import Artifact, Inputs, StepContext
from harness.optimize.distill import Distill
from harness.optimize.training import loop, losses
from tests.support.words import QUICK, TASK, distilled, keep


@pytest.fixture(autouse=True)
def _own_cache(cache: Path) -> None:
    """Teachers' answers are kept in the store."""


def test_first_only_gives_the_same_logits_and_gradients(finetuned: Artifact) -> None:
    model = classifier.load(finetuned.folder, EncoderShape.read(finetuned.about["model"]))
    ids = torch.tensor([[2, 7, 9, 3], [2, 8, 3, 0]])
    given = (ids, (ids > 0).long(), torch.zeros_like(ids))
    found = []
    for first_only in (False, True):
        model.first_only = first_only
        model.zero_grad()
        logits = model(*given)
        functional.cross_entropy(logits, torch.tensor([0, 1])).backward()
        gradients = [each.grad.clone() for each in model.parameters() if each.grad is not None]
        found.append((logits.detach(), gradients))
    assert torch.allclose(found[0][0], found[1][0], atol=1e-6)
    for one, other in zip(found[0][1], found[1][1], strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_interrupted_training_ends_as_if_nothing_had_happened(
    finetuned: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    whole, cut, kept = (tmp_path / name for name in ("whole", "cut", "kept"))
    whole.mkdir()
    cut.mkdir()
    expected = distilled(finetuned, whole, layers=1, hidden=0.5)
    params = Distill(**QUICK, layers=1, hidden=0.5)  # type: ignore[arg-type]
    inputs = Inputs(finetuned, teacher=finetuned)

    class StopError(Exception):
        pass

    updates = 0
    real = losses.soft_cross_entropy

    def failing(*given: object) -> torch.Tensor:
        nonlocal updates
        updates += 1
        if updates == 35:  # in the second of two epochs of 25 updates
            raise StopError
        return real(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(losses, "soft_cross_entropy", failing)
    with pytest.raises(StopError):
        distill.run(inputs, TASK, params, StepContext(cut, 0, 1, kept=kept))
    said: list[str] = []
    about = distill.run(inputs, TASK, params, StepContext(cut, 0, 1, said.append, kept))
    assert any("goes on in epoch 2/2, update 34/50" in line for line in said)
    assert updates == 35 + 16
    for one, other in zip(about["training"], expected.about["training"], strict=True):
        assert one["loss"] == other["loss"]
        assert one["selection"] == other["selection"]
    first, again = ((folder / classifier.WEIGHTS).read_bytes() for folder in (whole, cut))
    assert first == again


def test_damaged_checkpoint_is_left_aside(finetuned: Artifact, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "checkpoint.safetensors").write_bytes(b"half a checkpoint")
    params = Distill(**{**QUICK, "epochs": 1}, layers=1)  # type: ignore[arg-type]
    out = tmp_path / "out"
    out.mkdir()
    inputs = Inputs(finetuned, teacher=finetuned)
    about = distill.run(inputs, TASK, params, StepContext(out, 0, 1, kept=kept))
    assert len(about["training"]) == 1


def test_accumulated_gradients_equal_those_of_the_whole_batch(finetuned: Artifact) -> None:
    shape = EncoderShape.read(finetuned.about["model"])
    draw = torch.Generator().manual_seed(0)
    rows, labels = torch.randint(4, 30, (8, 6), generator=draw), torch.arange(8) % 2
    after = []
    for accumulate in (1, 4):
        model = classifier.load(finetuned.folder, shape)

        def loss(asked: list[int], model: Classifier = model) -> torch.Tensor:
            ids = rows[asked]
            logits = model(ids, torch.ones_like(ids), torch.zeros_like(ids))
            return functional.cross_entropy(logits, labels[asked])

        trained = nn.ModuleList([model])
        params = Distill(batch=8, accumulate=accumulate)
        optimizer = torch.optim.SGD(trained.parameters(), lr=0.1)
        loop._update(trained, optimizer, loss, list(range(8)), params, 0.1)
        after.append(model.state_dict())
    for name, value in after[0].items():
        assert torch.allclose(value, after[1][name], atol=1e-6), name


def test_weights_that_are_not_finite_are_refused_before_training(
    finetuned: Artifact, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(finetuned.folder / classifier.WEIGHTS)
    weights["classifier.bias"][0] = float("nan")
    broken = tmp_path / "broken"
    broken.mkdir()
    save_file(weights, broken / classifier.WEIGHTS)
    (broken / "tokenizer.json").write_bytes((finetuned.folder / "tokenizer.json").read_bytes())
    artifact = keep(broken, {**finetuned.about, "key": "broken"})
    with pytest.raises(BuildError, match=r"classifier\.bias is not finite"):
        distilled(artifact, tmp_path, layers=1)
