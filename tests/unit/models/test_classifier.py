import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import BertForSequenceClassification

from harness.errors import BuildError
from harness.models import classifier
from harness.models.classifier import EncoderShape


@pytest.fixture
def model(tiny_encoder: Path) -> classifier.Classifier:
    torch.manual_seed(1)
    return classifier.from_pretrained(tiny_encoder, 3).eval()


def batch(length: int = 12, padded: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(2)
    ids = torch.randint(4, 100, (2, length))
    mask = torch.ones_like(ids)
    if padded:
        ids = torch.cat([ids, torch.zeros(2, padded, dtype=torch.int64)], 1)
        mask = torch.cat([mask, torch.zeros(2, padded, dtype=torch.int64)], 1)
    return ids, mask, torch.zeros_like(ids)


@pytest.mark.parametrize("padded", [0, 5])
def test_forward_agrees_with_transformers(
    model: classifier.Classifier, tiny_encoder: Path, padded: int
) -> None:
    other = BertForSequenceClassification.from_pretrained(tiny_encoder, num_labels=3).eval()
    other.load_state_dict(model.state_dict())
    ids, mask, segments = batch(padded=padded)
    segments[:, 6:] = 1
    with torch.inference_mode():
        expected = other(input_ids=ids, attention_mask=mask, token_type_ids=segments).logits
        torch.testing.assert_close(model(ids, mask, segments), expected, atol=1e-5, rtol=0)


def test_padding_changes_no_logit(model: classifier.Classifier) -> None:
    with torch.inference_mode():
        torch.testing.assert_close(model(*batch(padded=9)), model(*batch()), atol=1e-5, rtol=0)


def test_plain_attention_agrees_with_the_fused_kernel(model: classifier.Classifier) -> None:
    with torch.inference_mode():
        fused = model(*batch(padded=4))
        model.fused_attention = False
        torch.testing.assert_close(model(*batch(padded=4)), fused, atol=1e-5, rtol=0)


def test_saved_and_loaded_is_the_same_model(model: classifier.Classifier, tmp_path: Path) -> None:
    classifier.save(model, tmp_path)
    described = json.loads(json.dumps(classifier.describe(model)))
    again = classifier.load(tmp_path, EncoderShape.read(described))
    with torch.inference_mode():
        assert torch.equal(model(*batch()), again(*batch()))
    assert described["parameters"] == sum(each.numel() for each in model.parameters())


def test_each_layer_may_have_heads_and_neurons_of_its_own_number(tmp_path: Path) -> None:
    shape = EncoderShape(32, (4, 2), 8, (64, 16), 100, 64, 2, labels=2)
    assert classifier.Classifier(shape).bert.encoder.layer[1].output.dense.weight.shape == (32, 16)
    query = classifier.Classifier(shape).bert.encoder.layer[1].attention.get_submodule("self").query
    assert query.weight.shape == (16, 32)


def test_weight_that_is_not_finite_is_refused(model: classifier.Classifier, tmp_path: Path) -> None:
    model.classifier.bias.data[0] = float("nan")
    with pytest.raises(BuildError, match=r"classifier.bias is not finite.*learning rate"):
        classifier.save(model, tmp_path)
    assert not list(tmp_path.iterdir())


def test_weights_of_another_shape_are_refused(model: classifier.Classifier, tmp_path: Path) -> None:
    classifier.save(model, tmp_path)
    wrong = EncoderShape.read(classifier.describe(model) | {"ffn": [64, 32]})
    with pytest.raises(BuildError, match="size mismatch"):
        classifier.load(tmp_path, wrong)


def test_folder_without_an_encoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="not a pretrained encoder"):
        classifier.from_pretrained(tmp_path, 2)
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    save_file({}, tmp_path / "model.safetensors")
    with pytest.raises(BuildError, match="gpt2"):
        classifier.from_pretrained(tmp_path, 2)
