from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

from harness.errors import BuildError
from harness.models import classifier, tokenization
from harness.models.classifier import Classifier, EncoderSpec
from harness.optimize.base import Artifact, StepContext
from harness.optimize.distill import Distill
from harness.optimize.training import encoders
from tests.support.words import TASK, distilled, keep


@pytest.fixture(autouse=True)
def _own_cache(cache: Path) -> None:
    """Teacher logits are cached."""


def test_first_token_alone_gives_the_same_logits_and_gradients(finetuned: Artifact) -> None:
    model = classifier.load(finetuned.folder, EncoderSpec.from_dict(finetuned.metadata.model))
    ids = torch.tensor([[2, 7, 9, 3], [2, 8, 3, 0]])
    inputs = (ids, (ids > 0).long(), torch.zeros_like(ids))
    results = []
    for first_only in (False, True):
        model.first_only = first_only
        model.zero_grad()
        logits = model(*inputs)
        functional.cross_entropy(logits, torch.tensor([0, 1])).backward()
        gradients = [
            weight.grad.clone() for weight in model.parameters() if weight.grad is not None
        ]
        results.append((logits.detach(), gradients))
    (all_logits, all_gradients), (first_logits, first_gradients) = results
    assert torch.allclose(all_logits, first_logits, atol=1e-6)
    for expected, gradient in zip(all_gradients, first_gradients, strict=True):
        assert torch.allclose(expected, gradient, atol=1e-6)


@pytest.mark.parametrize("has_bf16", [True, False])
def test_bf16_is_computed_only_where_the_processor_has_it(
    finetuned: Artifact, monkeypatch: pytest.MonkeyPatch, has_bf16: bool
) -> None:
    """Elsewhere it takes several times as long as fp32."""
    monkeypatch.setattr(encoders, "has_bf16_products", lambda: has_bf16)
    model = classifier.load(finetuned.folder, EncoderSpec.from_dict(finetuned.metadata.model))
    tokenizer = tokenization.load_tokenizer(finetuned.folder / "tokenizer.json", 64)
    data = encoders.tokenize_examples(tokenizer, TASK.examples("selection"))
    dtypes = []
    model.classifier.register_forward_hook(lambda *arguments: dtypes.append(arguments[-1].dtype))
    logits = encoders.compute_logits(model, data, [0, 1])
    assert dtypes == [torch.bfloat16 if has_bf16 else torch.float32]
    assert encoders.get_plain_attention("cpu") == (256 if has_bf16 else 128)
    assert logits.dtype == torch.float32


def test_a_gpu_has_bf16_and_needs_no_plain_attention() -> None:
    assert encoders.has_bf16("cuda")
    assert encoders.get_plain_attention("cuda") == 0


@pytest.mark.parametrize("length", [3, 4])
def test_plain_attention_gives_the_same_gradients_up_to_its_length(
    finetuned: Artifact, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = classifier.load(finetuned.folder, EncoderSpec.from_dict(finetuned.metadata.model))
    ids = torch.tensor([[2, 7, 9, 3], [2, 8, 3, 0]])
    fused_calls, results = [], []
    fused = functional.scaled_dot_product_attention
    monkeypatch.setattr(
        functional,
        "scaled_dot_product_attention",
        lambda *args, **kwargs: fused_calls.append(1) or fused(*args, **kwargs),
    )
    for model.plain_attention in (0, length):
        model.zero_grad()
        fused_calls.clear()
        logits = model(ids, (ids > 0).long(), torch.zeros_like(ids))
        functional.cross_entropy(logits, torch.tensor([0, 1])).backward()
        results.append([weight.grad.clone() for weight in model.bert.encoder.parameters()])
    assert len(fused_calls) == (0 if length == 4 else model.spec.layers)
    for expected, gradient in zip(*results, strict=True):
        assert torch.allclose(expected, gradient, atol=1e-6)


@pytest.mark.parametrize("dropout", [True, False])
def test_without_dropout_training_and_evaluation_compute_the_same(
    finetuned: Artifact, tmp_path: Path, dropout: bool
) -> None:
    model = classifier.load(finetuned.folder, EncoderSpec.from_dict(finetuned.metadata.model))
    tokenizer = tokenization.load_tokenizer(finetuned.folder / "tokenizer.json", 64)
    data = encoders.tokenize_examples(tokenizer, TASK.examples("selection"))
    differences = []

    def loss(rows: list[int]) -> torch.Tensor:
        assert model.training
        logits = encoders.compute_logits(model, data, rows, bf16=False)
        with torch.no_grad():
            evaluated = encoders.compute_logits(model.eval(), data, rows, bf16=False)
        model.train()
        differences.append(float((logits - evaluated).detach().abs().max()))
        return logits.square().mean()

    params = Distill(epochs=1, batch=50, dropout=dropout)
    encoders.train(model, data.lengths, loss, data, params, StepContext(tmp_path, 0, 1))
    assert (max(differences) < 1e-6) == (not dropout)


def test_gradients_of_several_passes_equal_those_of_the_whole_batch(finetuned: Artifact) -> None:
    spec = EncoderSpec.from_dict(finetuned.metadata.model)
    generator = torch.Generator().manual_seed(0)
    ids, labels = torch.randint(4, 30, (8, 6), generator=generator), torch.arange(8) % 2
    weights, losses = [], []
    for parts in ([list(range(8))], [[0, 1, 2], [3, 4, 5], [6, 7]]):
        model = classifier.load(finetuned.folder, spec)

        def loss(rows: list[int], model: Classifier = model) -> torch.Tensor:
            batch = ids[rows]
            logits = model(batch, torch.ones_like(batch), torch.zeros_like(batch))
            return functional.cross_entropy(logits, labels[rows])

        trained = nn.ModuleList([model])
        optimizer = torch.optim.SGD(trained.parameters(), lr=0.1)
        losses.append(encoders._update(trained, optimizer, loss, parts, 0.1))
        weights.append(model.state_dict())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for name, value in weights[0].items():
        assert torch.allclose(value, weights[1][name], atol=1e-6), name


@given(
    lengths=st.lists(st.integers(1, 600), min_size=1, max_size=70),
    parts=st.integers(1, 70),
)
def test_batch_is_divided_into_parts_that_fit(lengths: list[int], parts: int) -> None:
    rows = list(range(len(lengths)))
    divided = encoders.split_by_tokens(rows, np.array(lengths), parts)
    assert [row for part in divided for row in part] == rows
    most = max(map(len, divided))
    assert most * max(lengths) <= encoders.MOST_TOKENS
    assert most <= -(-len(rows) // min(parts, len(rows))), "at least so many parts"
    if len(rows) * max(lengths) <= encoders.MOST_TOKENS and parts == 1:
        assert divided == [rows], "what fits is one pass"


def test_long_batch_is_trained_in_several_passes(
    finetuned: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = encoders.load_model(finetuned, TASK)
    data = encoders.tokenize_examples(tokenizer, TASK.examples("train")[:64])
    passes = []

    def loss(rows: list[int]) -> torch.Tensor:
        passes.append(len(rows))
        return encoders.compute_logits(model, data, rows).square().mean()

    monkeypatch.setattr(encoders, "MOST_TOKENS", 8 * int(data.lengths.max()))
    params = Distill(epochs=1, batch=32)
    encoders.train(model, data.lengths, loss, data, params, StepContext(tmp_path, 0, 1))
    assert max(passes) < 32
    assert sum(passes) == 64 * params.count_updates(64)[1], "no row is left out"


def test_weights_that_are_not_finite_are_refused_before_training(
    finetuned: Artifact, tmp_path: Path
) -> None:
    weights = load_file(finetuned.folder / classifier.WEIGHTS)
    weights["classifier.bias"][0] = float("nan")
    broken = tmp_path / "broken"
    broken.mkdir()
    save_file(weights, broken / classifier.WEIGHTS)
    (broken / "tokenizer.json").write_bytes((finetuned.folder / "tokenizer.json").read_bytes())
    artifact = keep(broken, finetuned.metadata.to_dict() | {"key": "broken"})
    with pytest.raises(BuildError, match=r"classifier\.bias is not finite"):
        distilled(artifact, tmp_path, layers=1)
