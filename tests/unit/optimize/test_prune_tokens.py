"""Token pruning: the tokens that remain, and the graphs made from it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import BuildError
from harness.models import bert, classifier
from harness.models.classifier import Classifier, EncoderSpec
from harness.models.pretrained import SPECS, Encoder
from harness.optimize import distill, export, finetune, prune_tokens, quantize
from harness.optimize.base import Artifact, Inputs, StepContext
from harness.optimize.prune_tokens import PruneTokens
from tests.support.faults import step_faults
from tests.support.words import TASK, keep, run_step, scores

ARCHITECTURES = ("bert",)
"""Of MPNet the step is refused."""

WIDE = EncoderSpec(32, (4, 4, 4), 8, (64,) * 3, 60, 64, 2, 2, keep=(0.5, 0.4, 1.0))


def make_model(spec: EncoderSpec = WIDE) -> Classifier:
    torch.manual_seed(0)
    model = Classifier(spec)
    classifier.assign_weights(
        model, {name: 3 * value for name, value in model.state_dict().items()}
    )
    return model.eval()


def make_inputs(lengths: list[int], padded: int) -> tuple[torch.Tensor, ...]:
    draw = np.random.default_rng(1)
    ids, mask = np.zeros((len(lengths), padded), int), np.zeros((len(lengths), padded), int)
    for row, length in enumerate(lengths):
        ids[row, :length] = draw.integers(5, 60, length)
        mask[row, :length] = 1
    return torch.from_numpy(ids), torch.from_numpy(mask), torch.zeros(ids.shape, dtype=torch.long)


def test_attention_mass_is_the_mean_column_of_the_attention_matrix() -> None:
    """Against the softmax of queries times keys, written out."""
    model = make_model()
    layer = model.bert.encoder.layer[0]
    assert isinstance(layer, bert.Layer)
    ids, mask, segments = make_inputs([9, 5], 9)
    with torch.inference_mode():
        hidden = model.bert.embeddings(ids, segments)
        result = layer.attention_mass(hidden, mask)
        attention = layer.get_submodule("attention.self")
        query, key = (
            part(hidden).view(2, 9, 4, 8).transpose(1, 2)
            for part in (attention.query, attention.key)
        )
        scores = query @ key.transpose(-1, -2) / 8**0.5
        scores = scores.masked_fill(~mask[:, None, None, :].bool(), -torch.inf)
        rows = scores.softmax(-1).mean(1)
        expected = torch.stack([rows[0].mean(0), rows[1, :5].mean(0)])
    torch.testing.assert_close(result, expected, atol=1e-6, rtol=1e-5)


def test_strongest_tokens_and_the_first_are_kept() -> None:
    hidden = torch.arange(8.0).view(1, 4, 2)
    tokens, mask = bert.keep_strongest(
        hidden, torch.ones(1, 4, dtype=torch.long), torch.tensor([[0.0, 0.1, 0.6, 0.3]]), 0.5
    )
    assert tokens.tolist() == [[[0, 1], [4, 5]]], "the first, though it has no mass, and the third"
    assert mask.tolist() == [[1, 1]]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=5), st.integers(0, 9))
def test_padding_and_batch_mates_change_nothing(lengths: list[int], more: int) -> None:
    model = make_model()
    ids, mask, segments = make_inputs(lengths, max(lengths) + more)
    with torch.inference_mode():
        together = model(ids, mask, segments)
        for row, length in enumerate(lengths):
            alone = model(*(tensor[row : row + 1, :length] for tensor in (ids, mask, segments)))
            torch.testing.assert_close(together[row], alone[0], atol=1e-4, rtol=1e-4)


def test_following_layers_see_fewer_tokens() -> None:
    model, seen = make_model(), []
    for layer in model.bert.encoder.layer:
        layer.register_forward_hook(lambda module, inputs, out: seen.append(out.shape[1]))
    with torch.inference_mode():
        model(*make_inputs([20, 10], 20))
    assert seen == [20, 10, 4]


def pruned(artifact: Artifact, out: Path, share: float = 0.5) -> Artifact:
    params = PruneTokens(after=(0,), keep=(share,))
    return keep(out, prune_tokens.run(Inputs(artifact), TASK, params, StepContext(out, 0, 1)))


def test_graph_prunes_as_pytorch_does(finetuned: Artifact, tmp_path: Path) -> None:
    model = pruned(finetuned, tmp_path)
    assert list(model.metadata.model["keep"]) == [0.5, 1.0]
    out = tmp_path / "graph"
    out.mkdir()
    graph = keep(out, export.run(Inputs(model), TASK, export.Export(), StepContext(out, 0, 1)))
    for batch in (1, 8):
        expected, result = scores(model), scores(graph, batch=batch)
        np.testing.assert_allclose(result, expected, atol=1e-3)


def test_pruned_model_can_be_distilled(finetuned: Artifact, tmp_path: Path) -> None:
    model = pruned(finetuned, tmp_path, 0.2)
    out = tmp_path / "again"
    out.mkdir()
    params = distill.Distill(epochs=1, batch=16, learning_rate=1e-3)
    distilled = keep(
        out, distill.run(Inputs(model, teacher=finetuned), TASK, params, StepContext(out, 0, 1))
    )
    assert list(distilled.metadata.model["keep"]) == [0.2, 1.0]
    right = {
        name: float(np.mean(scores(artifact).argmax(1) == scores(finetuned).argmax(1)))
        for name, artifact in (("before", model), ("after", distilled))
    }
    assert right["after"] >= max(0.95, right["before"])


@pytest.mark.parametrize(
    ("after", "keep", "fault"),
    [
        ([], [], "name layers"),
        ([1], [0.5], "2 layers. Choose from 0..0"),
        ([0], [0.5, 0.4], "give one for each"),
        ([0], [1.0], "keep = [1.0]: choose a number above 0, below 1 for each."),
    ],
)
def test_faults_are_reported(after: list[int], keep: list[float], fault: str) -> None:
    faults = step_faults(prune_tokens.STEP, {"after": after, "keep": keep})
    assert any(fault in sentence for sentence in faults), faults


def test_pruned_graph_can_be_quantized(finetuned: Artifact, tmp_path: Path) -> None:
    for name in ("pruned", "graph", "int8"):
        (tmp_path / name).mkdir()
    model = pruned(finetuned, tmp_path / "pruned")
    out = tmp_path / "graph"
    graph = keep(out, export.run(Inputs(model), TASK, export.Export(), StepContext(out, 0, 1)))
    out = tmp_path / "int8"
    result = keep(
        out, quantize.run(Inputs(graph), TASK, quantize.Quantize(), StepContext(out, 0, 1))
    )
    same = scores(result).argmax(1) == scores(model).argmax(1)
    assert float(np.mean(same)) >= 0.95


def test_model_with_a_bias_by_distance_is_refused(tiny_mpnet: Path, tmp_path: Path) -> None:
    values = {"after": [0], "keep": [0.5]}
    faults = step_faults(prune_tokens.STEP, values, SPECS["all-mpnet-base-v2"])
    assert any("depends on the distance" in fault for fault in faults)
    assert not step_faults(prune_tokens.STEP, values, SPECS["all-MiniLM-L6-v2"])
    inputs = Inputs(encoder=Encoder(tiny_mpnet, "mpnet"))
    model = run_step(tmp_path, finetune, inputs, finetune.Finetune(epochs=1))
    with pytest.raises(BuildError, match=r"depends on the distance.*all-MiniLM-L6-v2"):
        run_step(tmp_path, prune_tokens, Inputs(model), PruneTokens(**values))
