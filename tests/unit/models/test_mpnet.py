from pathlib import Path

import pytest
import torch
from transformers import AutoModel, MPNetConfig, MPNetForSequenceClassification, MPNetModel
from transformers.models.mpnet.modeling_mpnet import MPNetEncoder

from harness.models import bert, classifier, load_checkpoint, tokenization
from harness.models.classifier import Classifier, EncoderSpec
from harness.models.pretrained import ENCODERS
from harness.optimize import distill, prune

CONFIG = MPNetConfig(
    vocab_size=120,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=64,
    max_position_embeddings=302,
    num_labels=3,
    initializer_range=0.3,
)
LENGTH = 200
"""Beyond the distance from which on all share a bucket."""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier with random weights, and biases by distance that change its logits."""
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("mpnet")
    other = MPNetForSequenceClassification(CONFIG)
    torch.nn.init.normal_(other.mpnet.encoder.relative_attention_bias.weight, std=3.0)
    other.save_pretrained(folder)
    return folder


@pytest.fixture
def model(checkpoint: Path) -> Classifier:
    return load_checkpoint.from_checkpoint(checkpoint, [0, 1, 2])


def make_batch(padded: int = 0) -> tuple[torch.Tensor, ...]:
    """Ids, mask and segments of two inputs; padding has MPNet's id."""
    torch.manual_seed(2)
    ids = torch.randint(4, 120, (2, LENGTH))
    mask = torch.ones_like(ids)
    ids = torch.cat([ids, torch.full((2, padded), CONFIG.pad_token_id)], 1)
    mask = torch.cat([mask, torch.zeros(2, padded, dtype=torch.int64)], 1)
    return ids, mask, torch.zeros_like(ids)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("first_only", [True, False])
@pytest.mark.parametrize("padded", [0, 7])
def test_forward_agrees_with_transformers(
    model: Classifier, checkpoint: Path, padded: int, first_only: bool, fused: bool
) -> None:
    other = MPNetForSequenceClassification.from_pretrained(checkpoint).eval()
    ids, mask, segments = make_batch(padded)
    model.fused_attention, model.first_only = fused, first_only
    with torch.inference_mode():
        expected = other(input_ids=ids, attention_mask=mask).logits
        torch.testing.assert_close(model(ids, mask, segments), expected, atol=1e-4, rtol=0)
        model.bert.encoder.relative_attention_bias.weight.zero_()
        assert not torch.allclose(model(ids, mask, segments), expected, atol=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("name", ENCODERS)
def test_pinned_encoder_agrees_with_transformers(name: str) -> None:
    """The real weights on real texts, alone and padded (a download of up to 406 MB)."""
    folder = ENCODERS[name].fetch()
    model = load_checkpoint.from_pretrained(folder, 2).eval()
    other = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    tokenizer = tokenization.load_tokenizer(folder / "tokenizer.json", 512)
    texts = [("a film",), ("is it good", "A long text. " * 80), ("one more", "and its pair")]
    rows = tokenization.tokenize(tokenizer, texts)
    padding = tokenization.Padding(other.config.pad_token_id)
    for some in (rows, rows[:1], rows[1:2]):
        batch = tokenization.pad(some, None, padding)
        ids, mask, segments = map(torch.from_numpy, (batch.ids, batch.mask, batch.segments))
        names = {"token_type_ids": segments} if model.spec.segments else {}
        with torch.inference_mode():
            hidden = model.bert.encoder(model.bert.embeddings(ids, segments), mask, True, False)[0]
            expected = other(input_ids=ids, attention_mask=mask, **names).last_hidden_state
        tokens = mask.bool()
        torch.testing.assert_close(hidden[tokens], expected[tokens], atol=1e-4, rtol=0)


def test_distances_share_the_buckets_of_transformers() -> None:
    distances = torch.arange(-511, 512)
    expected = MPNetEncoder.relative_position_bucket(distances)
    assert torch.equal(bert.compute_distance_buckets(512, 32), expected)


def test_labels_are_reordered(model: Classifier, checkpoint: Path) -> None:
    reordered = load_checkpoint.from_checkpoint(checkpoint, [2, 0, 1])
    with torch.inference_mode():
        assert torch.equal(reordered(*make_batch()), model(*make_batch())[:, [2, 0, 1]])


def test_encoder_without_a_classifier_gets_one(tmp_path: Path) -> None:
    other = MPNetModel(CONFIG).eval()
    other.save_pretrained(tmp_path)
    model = load_checkpoint.from_pretrained(tmp_path, 2).eval()
    ids, mask, segments = make_batch(3)
    with torch.inference_mode():
        hidden = model.bert.encoder(model.bert.embeddings(ids, segments), mask, True, False)[0]
        expected = other(input_ids=ids, attention_mask=mask)
        tokens = mask.bool()
        torch.testing.assert_close(hidden[tokens], expected.last_hidden_state[tokens])
        torch.testing.assert_close(model.bert.pooler(hidden[:, 0]), expected.pooler_output)
    assert model(ids, mask, segments).shape == (2, 2)


def test_pruned_heads_keep_their_own_biases(model: Classifier, tmp_path: Path) -> None:
    heads, neurons = [[1, 3], [0, 2]], [list(range(64)), list(range(1, 63))]
    pruned = prune.keep_heads_and_neurons(model, heads, neurons)
    classifier.save(pruned, tmp_path)
    loaded = classifier.load(tmp_path, EncoderSpec.from_dict(classifier.describe(pruned)))
    with torch.no_grad():
        for layer, kept in zip(model.bert.encoder.layer, heads, strict=True):
            weight = layer.get_submodule("attention").output.dense.weight
            for head in set(range(4)) - set(kept):
                weight[:, head * 8 : head * 8 + 8] = 0
        model.bert.encoder.layer[1].output.dense.weight[:, [0, 63]] = 0
        torch.testing.assert_close(loaded(*make_batch(4)), model(*make_batch(4)))


def test_student_of_some_layers_shares_the_biases(model: Classifier) -> None:
    student = distill.keep_layers(model, [1]).eval()
    model.bert.encoder.layer[0] = torch.nn.Identity()
    model.bert.encoder.layer[0].forward = lambda hidden, *rest: hidden
    with torch.inference_mode():
        torch.testing.assert_close(student(*make_batch()), model(*make_batch()))
