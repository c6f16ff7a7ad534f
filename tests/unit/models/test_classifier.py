import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import BertForSequenceClassification

from harness.errors import BuildError, SourceError
from harness.models import classifier, load_checkpoint
from harness.models.classifier import Classifier, EncoderSpec


@pytest.fixture
def model(tiny_encoder: Path) -> Classifier:
    torch.manual_seed(1)
    return load_checkpoint.from_pretrained(tiny_encoder, 3).eval()


def make_batch(length: int = 12, padded: int = 0) -> tuple[torch.Tensor, ...]:
    """Ids, mask and segments of two inputs with this many tokens and padding."""
    torch.manual_seed(2)
    ids = torch.randint(4, 100, (2, length))
    mask = torch.ones_like(ids)
    if padded:
        ids = torch.cat([ids, torch.zeros(2, padded, dtype=torch.int64)], 1)
        mask = torch.cat([mask, torch.zeros(2, padded, dtype=torch.int64)], 1)
    return ids, mask, torch.zeros_like(ids)


@pytest.mark.parametrize("padded", [0, 5])
def test_forward_agrees_with_transformers(
    model: Classifier, tiny_encoder: Path, padded: int
) -> None:
    other = BertForSequenceClassification.from_pretrained(tiny_encoder, num_labels=3).eval()
    other.load_state_dict(model.state_dict())
    ids, mask, segments = make_batch(padded=padded)
    segments[:, 6:] = 1
    with torch.inference_mode():
        expected = other(input_ids=ids, attention_mask=mask, token_type_ids=segments).logits
        torch.testing.assert_close(model(ids, mask, segments), expected, atol=1e-5, rtol=0)


def test_padding_changes_no_logit(model: Classifier) -> None:
    with torch.inference_mode():
        padded, unpadded = model(*make_batch(padded=9)), model(*make_batch())
        torch.testing.assert_close(padded, unpadded, atol=1e-5, rtol=0)


def test_plain_attention_agrees_with_the_fused_kernel(model: Classifier) -> None:
    with torch.inference_mode():
        fused = model(*make_batch(padded=4))
        model.fused_attention = False
        torch.testing.assert_close(model(*make_batch(padded=4)), fused, atol=1e-5, rtol=0)


def test_saved_and_loaded_model_is_the_same(model: Classifier, tmp_path: Path) -> None:
    classifier.save(model, tmp_path)
    metadata = json.loads(json.dumps(classifier.describe(model)))
    loaded = classifier.load(tmp_path, EncoderSpec.from_dict(metadata))
    with torch.inference_mode():
        assert torch.equal(model(*make_batch()), loaded(*make_batch()))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert metadata["parameters"] == parameters


def test_layers_may_differ_in_heads_and_neurons() -> None:
    model = Classifier(EncoderSpec(32, (4, 2), 8, (64, 16), 100, 64, 2, labels=2))
    layer = model.bert.encoder.layer[1]
    assert layer.output.dense.weight.shape == (32, 16)
    assert layer.attention.get_submodule("self").query.weight.shape == (16, 32)


def test_weight_that_is_not_finite_is_not_saved(model: Classifier, tmp_path: Path) -> None:
    model.classifier.bias.data[0] = float("nan")
    with pytest.raises(BuildError, match=r"classifier.bias is not finite.*learning rate"):
        classifier.save(model, tmp_path)
    assert not list(tmp_path.iterdir())


def test_weights_of_another_specification_are_refused(model: Classifier, tmp_path: Path) -> None:
    classifier.save(model, tmp_path)
    wrong = EncoderSpec.from_dict(classifier.describe(model) | {"ffn": [64, 32]})
    with pytest.raises(BuildError, match="size mismatch"):
        classifier.load(tmp_path, wrong)


def test_folder_without_a_bert_encoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="not the configuration of a model"):
        load_checkpoint.from_pretrained(tmp_path, 2)
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    save_file({}, tmp_path / "model.safetensors")
    with pytest.raises(BuildError, match="gpt2"):
        load_checkpoint.from_pretrained(tmp_path, 2)
