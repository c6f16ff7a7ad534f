import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from harness import progress
from harness.errors import BuildError
from harness.models import classifier, tokenization
from harness.models.classifier import Classifier, EncoderSpec
from harness.optimize import prune
from harness.optimize.base import Artifact, Inputs, StepContext
from harness.optimize.prune import Prune
from harness.optimize.training import encoders
from tests.support.faults import step_faults
from tests.support.words import TASK, keep

KEEP = ([[0, 2], [1, 3]], [[1, 5, 9], [0, 2, 63]])


def load_classifier(artifact: Artifact) -> Classifier:
    return classifier.load(artifact.folder, EncoderSpec.from_dict(artifact.metadata.model))


def batch(artifact: Artifact) -> tuple[torch.Tensor, ...]:
    tokenizer = tokenization.load_tokenizer(artifact.folder / "tokenizer.json", 64)
    rows = [example.candidates[0] for example in TASK.examples("validation")[:16]]
    padded = tokenization.pad(tokenization.tokenize(tokenizer, rows))
    return tuple(torch.from_numpy(values) for values in (padded.ids, padded.mask, padded.segments))


def mask(model: Classifier, heads: list[list[int]], ffn: list[list[int]]) -> None:
    """Zero what the output projections read from heads and neurons that are not kept."""
    size = model.spec.head_size
    for layer, kept_heads, neurons in zip(model.bert.encoder.layer, heads, ffn, strict=True):
        attention = layer.get_submodule("attention.output.dense")
        inner = layer.get_submodule("output.dense")
        for head in set(range(4)) - set(kept_heads):
            attention.weight.data[:, head * size : (head + 1) * size] = 0
        removed = sorted(set(range(64)) - set(neurons))
        inner.weight.data[:, removed] = 0


def test_pruned_model_agrees_with_the_masked_one(finetuned: Artifact) -> None:
    model = load_classifier(finetuned)
    pruned = prune.keep_heads_and_neurons(model, *KEEP)
    mask(model, *KEEP)
    with torch.inference_mode():
        expected = model(*batch(finetuned))
        torch.testing.assert_close(pruned(*batch(finetuned)), expected, atol=1e-5, rtol=0)
    assert pruned.spec.heads == (2, 2)
    assert pruned.spec.ffn == (3, 3)
    weight = pruned.bert.encoder.layer[0].get_submodule("attention.self.query").weight
    assert weight.shape == (16, 32), "weights are really removed"


def test_keeping_everything_changes_nothing(finetuned: Artifact) -> None:
    model = load_classifier(finetuned)
    same = prune.keep_heads_and_neurons(model, [list(range(4))] * 2, [list(range(64))] * 2)
    with torch.inference_mode():
        assert torch.equal(model(*batch(finetuned)), same(*batch(finetuned)))


def test_importance_is_the_mean_absolute_gradient_of_the_mask(finetuned: Artifact) -> None:
    """Against finite differences of the loss, one mask entry at a time, on one batch."""
    model = load_classifier(finetuned).double()
    tokenizer = tokenization.load_tokenizer(finetuned.folder / "tokenizer.json", 64)
    data = encoders.tokenize_examples(tokenizer, TASK.examples("train")[: prune.BATCH])
    heads, ffn = prune.compute_importance(model, data)

    batch = data.batch(range(len(data)))
    tensors = [torch.from_numpy(values) for values in (batch.ids, batch.mask, batch.segments)]

    def loss() -> float:
        with torch.inference_mode():
            result = model(*tensors)  # in float64: the differences are small
        return float(torch.nn.functional.cross_entropy(result, torch.tensor(data.labels)))

    def slope(weight: torch.Tensor, columns: slice) -> float:
        """A mask before the projection is a factor on the columns that read from it."""
        original, step = weight[:, columns].clone(), 1e-3
        weight[:, columns] = original * (1 + step)
        above = loss()
        weight[:, columns] = original * (1 - step)
        below = loss()
        weight[:, columns] = original
        return abs(above - below) / (2 * step)

    for index, layer in enumerate(model.bert.encoder.layer):
        read = layer.get_submodule("attention.output.dense").weight.data
        slopes = [slope(read, slice(8 * head, 8 * head + 8)) for head in range(4)]
        expected = torch.tensor(slopes) / torch.tensor(slopes).norm()
        torch.testing.assert_close(heads[index], expected, atol=1e-3, rtol=0)
        inner = layer.get_submodule("output.dense").weight.data
        slopes = [slope(inner, slice(n, n + 1)) for n in range(64)]
        expected = torch.tensor(slopes) / torch.tensor(slopes).norm()
        torch.testing.assert_close(ffn[index], expected, atol=1e-3, rtol=0)


def test_components_keep_more_of_the_hidden_states_than_any_columns(finetuned: Artifact) -> None:
    model, tokenizer = encoders.load_model(finetuned, TASK)
    data = encoders.tokenize_examples(tokenizer, TASK.examples("train")[:80])
    components = prune.find_components(model, data, 8)
    torch.testing.assert_close(components.T @ components, torch.eye(8), atol=1e-5, rtol=0)
    states: list[torch.Tensor] = []
    layers = model.bert.encoder.layer
    modules = [model.bert.embeddings]
    modules += [
        layer.get_submodule(name) for layer in layers for name in ("attention.output", "output")
    ]
    for module in modules:
        module.register_forward_hook(lambda module, inputs, output: states.append(output[0]))
    for row in range(len(data)):  # one by one, so without padding
        encoders.compute_logits(model, data, [row], bf16=False)
    hidden = torch.cat(states).detach()
    assert ((hidden @ components) ** 2).sum() > (hidden**2).sum(0).topk(8).values.sum()
    whole = prune.find_components(model, data, 32)
    torch.testing.assert_close(((hidden @ whole) ** 2).sum(), (hidden**2).sum())


def test_narrow_model_reads_and_writes_projected_hidden_states(finetuned: Artifact) -> None:
    model = load_classifier(finetuned)
    torch.manual_seed(0)
    components = torch.linalg.qr(torch.randn(32, 12)).Q
    narrow = prune.project(model, components)
    assert narrow.spec.width == 12
    hidden = torch.randn(5, 12)
    layer, narrow_layer = (part.bert.encoder.layer[1] for part in (model, narrow))
    for name in ("attention.self.query", "attention.self.value", "intermediate.dense"):
        read, narrow_read = (part.get_submodule(name) for part in (layer, narrow_layer))
        torch.testing.assert_close(narrow_read(hidden), read(hidden @ components.T))
    for name, size in (("attention.output.dense", 32), ("output.dense", 64)):
        inner = torch.randn(5, size)
        write, narrow_write = (part.get_submodule(name) for part in (layer, narrow_layer))
        torch.testing.assert_close(narrow_write(inner), write(inner) @ components)
    ids = torch.tensor([[1, 2, 3]])
    words, narrow_words = (part.bert.embeddings.word_embeddings(ids) for part in (model, narrow))
    torch.testing.assert_close(narrow_words, words @ components)
    weight = model.classifier.weight
    outputs = weight.norm(dim=0).argsort(descending=True, stable=True)[:12]
    pooled = model.bert.pooler(hidden @ components.T)[:, outputs]
    torch.testing.assert_close(narrow.bert.pooler(hidden), pooled)
    torch.testing.assert_close(narrow.classifier.weight, weight[:, outputs])


def test_early_exits_become_narrow_too(finetuned: Artifact) -> None:
    model = Classifier(replace(load_classifier(finetuned).spec, exits=(0,))).eval()
    torch.manual_seed(0)
    components = torch.linalg.qr(torch.randn(32, 12)).Q
    narrow = prune.project(model, components)
    hidden = torch.randn(5, 3, 12)
    pooled = model.exits[0].get_submodule("pooler")(hidden[:, 0] @ components.T)
    weight = model.exits[0].get_submodule("classifier").weight
    outputs = weight.norm(dim=0).argsort(descending=True, stable=True)[:12]
    expected = pooled[:, outputs] @ weight[:, outputs].T
    bias = model.exits[0].get_submodule("classifier").bias
    torch.testing.assert_close(narrow.exits[0](hidden), expected + bias)


def test_importance_of_several_passes_equals_that_of_one(
    finetuned: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The absolute value is of the whole batch's gradient, not of those of its parts."""
    model, tokenizer = encoders.load_model(finetuned, TASK)
    data = encoders.tokenize_examples(tokenizer, TASK.examples("train")[:80])
    expected = prune.compute_importance(model, data)
    passes = []
    compute_logits = encoders.compute_logits

    def count(*args: Any, **kwargs: Any) -> torch.Tensor:
        passes.append(len(args[2]))
        return compute_logits(*args, **kwargs)

    monkeypatch.setattr(encoders, "compute_logits", count)
    monkeypatch.setattr(encoders, "MOST_TOKENS", 4 * int(data.lengths.max()))
    computed = prune.compute_importance(model, data)
    assert max(passes) < prune.BATCH
    assert sum(passes) == 80
    for kind, other in zip(expected, computed, strict=True):
        torch.testing.assert_close(kind, other, atol=1e-5, rtol=1e-4)


def test_progress_of_importance_is_logged(
    finetuned: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "INTERVAL", 0.0)
    model, tokenizer = encoders.load_model(finetuned, TASK)
    data = encoders.tokenize_examples(tokenizer, TASK.examples("train")[: 3 * prune.BATCH])
    lines: list[str] = []
    prune.compute_importance(model, data, lines.append)
    assert [line.split(",")[0] for line in lines[-2:]] == ["importance (33%", "importance (67%"]


def test_importance_keeps_no_graph_of_the_weights(
    finetuned: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = encoders.load_model(finetuned, TASK)
    data = encoders.tokenize_examples(tokenizer, TASK.examples("train")[:40])
    trainable = []
    compute_logits = encoders.compute_logits

    def watch(*args: Any, **kwargs: Any) -> torch.Tensor:
        trainable.append(any(parameter.requires_grad for parameter in model.parameters()))
        return compute_logits(*args, **kwargs)

    monkeypatch.setattr(encoders, "compute_logits", watch)
    prune.compute_importance(model, data)
    assert trainable
    assert not any(trainable)
    assert all(parameter.requires_grad for parameter in model.parameters()), "as before"


def test_importance_is_computed_without_the_slow_backward_pass_of_the_fused_kernel(
    finetuned: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("the fused kernel was called")

    model = load_classifier(finetuned)
    tokenizer = tokenization.load_tokenizer(finetuned.folder / "tokenizer.json", 64)
    data = encoders.tokenize_examples(tokenizer, TASK.examples("train")[:40])
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", refuse)
    prune.compute_importance(model, data)
    with pytest.raises(AssertionError, match="fused kernel"):  # as before, it serves with it
        encoders.compute_logits(model, data, [0])


def test_masked_head_is_pruned_first(finetuned: Artifact) -> None:
    model = load_classifier(finetuned)
    mask(model, [[0, 1, 3], [0, 1, 2, 3]], [list(range(64)), list(range(63))])
    tokenizer = tokenization.load_tokenizer(finetuned.folder / "tokenizer.json", 64)
    data = encoders.tokenize_examples(tokenizer, TASK.examples("train")[:100])
    heads, ffn = prune.compute_importance(model, data)
    assert prune.select_per_layer(heads, 3)[0] == [0, 1, 3]
    assert prune.select_per_layer(ffn, 63)[1] == list(range(63))


def test_step_writes_a_smaller_model_that_can_be_loaded(
    finetuned: Artifact, tmp_path: Path
) -> None:
    metadata = prune.run(
        Inputs(finetuned), TASK, Prune(heads=2, ffn=16, width=24), StepContext(tmp_path, 0, 1)
    )
    artifact = keep(tmp_path, json.loads(json.dumps(metadata)))
    model = load_classifier(artifact)
    assert (model.spec.heads, model.spec.ffn, model.spec.width) == ((2, 2), (16, 16), 24)
    assert metadata["model"]["parameters"] < finetuned.metadata.model["parameters"]
    with torch.inference_mode():
        assert model(*batch(artifact)).shape == (16, 2)


def test_more_heads_than_the_model_has_is_refused(finetuned: Artifact, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="cannot keep 5 of 4"):
        prune.run(Inputs(finetuned), TASK, Prune(heads=5, ffn=16), StepContext(tmp_path, 0, 1))
    with pytest.raises(BuildError, match="cannot keep 40 of 32"):
        params = Prune(heads=4, ffn=16, width=40)
        prune.run(Inputs(finetuned), TASK, params, StepContext(tmp_path, 0, 1))
    assert step_faults(prune.STEP, {"heads": 4, "ffn": 64, "width": 33}) == [
        "width = 33, but tiny has 32 columns. Choose 1..32"
    ]
    assert step_faults(prune.STEP, {"heads": 5, "ffn": 64}) == [
        "heads = 5, but tiny has 4 heads. Choose 1..4"
    ]
    assert step_faults(prune.STEP, {"heads": 0, "ffn": 65, "examples": 0}) == [
        "heads = 0: choose 1 or above.",
        "examples = 0: choose 1 or above.",
        "ffn = 65, but tiny has 64 neurons. Choose 1..64",
    ]
    assert step_faults(prune.STEP, {"ffn": 64}) == ["heads is missing; it must be an integer."]
