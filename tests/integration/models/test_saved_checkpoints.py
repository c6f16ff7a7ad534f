"""Checkpoints as programs save them, and damaged ones: the same logits, or the reason why not."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer

from harness.engines.base import ServeConfig
from harness.errors import BuildError, SourceError
from harness.models.checkpoint_files import find_weights
from harness.models.pretrained import compute_key, get_checkpoint_spec
from tests.support.adoption import (
    adopt_checkpoint,
    compute_scores,
    random_texts,
    word_tokenizer,
)
from tests.support.architectures import ARCHITECTURES, compute_reference, save_checkpoint

Weights = dict[str, torch.Tensor]


def test_broken_weights_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    settings, pad, *_ = ARCHITECTURES["roberta"]
    folder = save_checkpoint(tmp_path / "model", "roberta", pad, **settings)
    path = folder / "model.safetensors"
    weights = load_file(path)
    next(iter(weights.values())).view(-1)[0] = float("nan")
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(BuildError, match=r"weight .* is not finite. Take another checkpoint"):
        adopt_checkpoint(folder, tmp_path / "artifact", random_texts(4, 8))
    for number, content in enumerate((b"", path.read_bytes()[:-50])):
        path.write_bytes(content)
        with pytest.raises(SourceError, match="the weights cannot be read"):
            adopt_checkpoint(folder, tmp_path / f"artifact-{number}", random_texts(4, 8))


def change_weights(change: Callable[[Weights], Weights], **metadata: str) -> Callable[[Path], None]:
    from safetensors.torch import load_file, save_file

    def run(folder: Path) -> None:
        path = folder / "model.safetensors"
        save_file(change(load_file(path)), path, metadata or None)

    return run


def change_config(**values: Any) -> Callable[[Path], None]:
    def run(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text()) | values
        (folder / "config.json").write_text(json.dumps(config))

    return run


def add_byte_order_marks(folder: Path) -> None:
    for name in ("config.json", "tokenizer_config.json", "tokenizer.json"):
        (folder / name).write_bytes(b"\xef\xbb\xbf" + (folder / name).read_bytes())


OLD_NAMES = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}


@pytest.mark.parametrize("kind", ["bert", "roberta"])
@pytest.mark.parametrize(
    "change",
    [
        change_weights(lambda weights: {f"module.{key}": weights[key] for key in weights}),
        change_weights(lambda weights: {f"_orig_mod.{key}": weights[key] for key in weights}),
        change_weights(lambda weights: weights | {"loss.weight": torch.ones(2)}, format="pt"),
        change_weights(
            lambda weights: {
                next((key.replace(a, b) for a, b in OLD_NAMES.items() if a in key), key): value
                for key, value in weights.items()
            },
            format="pt",
        ),
        change_weights(lambda weights: {key: weights[key].double() for key in weights}),
        add_byte_order_marks,
        change_config(_attn_implementation="flash_attention_2"),
    ],
    ids=["DistributedDataParallel", "compile", "loss", "TensorFlow", "fp64", "BOM", "kernel"],
)
def test_checkpoint_that_another_program_saved_has_the_same_logits(
    tmp_path: Path, kind: str, change: Callable[[Path], None]
) -> None:
    settings, pad, longest, _ = ARCHITECTURES[kind]
    folder = save_checkpoint(tmp_path / "model", kind, pad, **settings)
    rows = random_texts(8, 20)
    expected = compute_reference(folder, rows, longest)
    change(folder)
    get_checkpoint_spec(str(folder), tmp_path)
    artifact = adopt_checkpoint(folder, tmp_path / "artifact", rows)
    logits = compute_scores(artifact, rows, ServeConfig("pytorch"))
    assert logits == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize(
    ("kind", "change", "fault"),
    [
        (
            "bert",
            change_weights(lambda weights: {f"model.{key}": weights[key] for key in weights}),
            r"weights are missing, such as bert\..*It has others, such as model\.bert\.",
        ),
        (
            "roberta",
            change_weights(lambda weights: {f"model.{key}": weights[key] for key in weights}),
            r"weights lack classifier.*\(but have model\.classifier",
        ),
        (
            "roberta",
            change_config(vocab_size=99),
            r"word_embeddings.weight have the shape \[64, 32\], but config.json says \[99, 32\]",
        ),
        ("bert", change_config(vocab_size="64"), "not a fine-tuned classifier"),
        ("bert", change_config(hidden_size="32"), "hidden_size is '32', not a positive integer"),
        (
            "bert",
            change_config(quantization_config={"quant_method": "gptq"}),
            "weights are quantized by gptq. Take the checkpoint before that",
        ),
        (
            "roberta",
            change_config(model_type="own", auto_map={"AutoConfig": "configuration.Own"}),
            "contains custom code",
        ),
        (
            "bert",
            lambda folder: (folder / "tokenizer.json").write_text(
                "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
            ),
            r"tokenizer.json: a pointer, not the file. Run: git lfs pull",
        ),
    ],
)
def test_checkpoint_that_cannot_be_used_is_refused_with_the_reason(
    tmp_path: Path, kind: str, change: Callable[[Path], None], fault: str
) -> None:
    """None of them asks a question on the terminal."""
    settings, pad, *_ = ARCHITECTURES[kind]
    folder = save_checkpoint(tmp_path / "model", kind, pad, **settings)
    change(folder)
    with pytest.raises((BuildError, SourceError), match=fault):
        get_checkpoint_spec(str(folder), tmp_path)
        adopt_checkpoint(folder, tmp_path / "artifact", random_texts(4, 8))


@pytest.mark.parametrize("content", ["[]", "null", "{"])
def test_malformed_tokenizer_config_is_refused(tmp_path: Path, content: str) -> None:
    settings, pad, *_ = ARCHITECTURES["roberta"]
    folder = save_checkpoint(tmp_path / "model", "roberta", pad, **settings)
    (folder / "tokenizer_config.json").write_text(content)
    with pytest.raises(BuildError, match=r"tokenizer_config.json: not"):
        adopt_checkpoint(folder, tmp_path / "artifact", random_texts(4, 8))


def test_weights_without_a_classification_layer_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    settings, pad, *_ = ARCHITECTURES["roberta"]
    folder = save_checkpoint(tmp_path / "model", "roberta", pad, **settings)
    weights = load_file(folder / "model.safetensors")
    body = {name: value for name, value in weights.items() if "classifier" not in name}
    save_file(body, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        BuildError,
        match=r"the weights lack classifier.*, so this is not a fine-tuned classifier. Fine-tune",
    ):
        adopt_checkpoint(folder, tmp_path / "artifact", random_texts(4, 8))


def test_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    settings, pad, *_ = ARCHITECTURES["roberta"]
    folder = save_checkpoint(tmp_path / "model", "roberta", pad, **settings)
    tokenizer = word_tokenizer(3)
    tokenizer.add_tokens([f"x{number}" for number in range(9)])
    tokenizer.save(str(folder / "tokenizer.json"))
    with pytest.raises(BuildError, match=r"fails on 8 tokens of its own tokenizer .*belong togeth"):
        adopt_checkpoint(folder, tmp_path / "artifact", [("x7 x8",), ("x1",)])


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_token_without_an_embedding_is_refused_even_if_no_text_has_it(
    tmp_path: Path, kind: str
) -> None:
    settings, pad, *_ = ARCHITECTURES[kind]
    folder = save_checkpoint(tmp_path / "model", kind, pad, **settings)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    size = tokenizer.get_vocab_size()
    tokenizer.add_special_tokens(["[NEW]"])
    tokenizer.save(str(folder / "tokenizer.json"))
    with pytest.raises(
        BuildError, match=rf"token '\[NEW\]'.* id .*{size}.*resize_token_embeddings"
    ):
        adopt_checkpoint(folder, tmp_path / "artifact", random_texts(4, 8))


def test_sharded_weights_are_joined(tmp_path: Path) -> None:
    import transformers

    for kind in ("bert", "roberta"):
        settings, pad, longest, _ = ARCHITECTURES[kind]
        folder = save_checkpoint(tmp_path / kind, kind, pad, **settings)
        rows = random_texts(8, 20)
        expected = compute_reference(folder, rows, longest)
        model = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
        key = compute_key(str(folder), tmp_path)
        (folder / "model.safetensors").unlink()
        model.save_pretrained(folder, max_shard_size="20KB")
        assert len(find_weights(folder)) > 1
        assert compute_key(str(folder), tmp_path) != key, "the files are others"
        artifact = adopt_checkpoint(folder, tmp_path / f"artifact-{kind}", rows)
        logits = compute_scores(artifact, rows, ServeConfig("pytorch"))
        assert logits == pytest.approx(expected, abs=2e-4)
        find_weights(folder)[0].unlink()
        with pytest.raises(SourceError, match=r"index.json: the shard 'model-00001.*is missing"):
            find_weights(folder)
