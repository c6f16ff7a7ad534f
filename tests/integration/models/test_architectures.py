"""Fine-tuned models of many architectures have the logits of transformers, text by text."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, processors

from harness.engines.base import ServeConfig
from harness.errors import BuildError, HarnessError, SourceError
from harness.models import tokenization
from harness.models.checkpoint_files import find_weights
from harness.models.pretrained import compute_key, get_checkpoint_spec, get_padding_id
from harness.optimize import export
from harness.optimize.base import Artifact, ArtifactMeta, Inputs, StepContext
from harness.tasks.task import Candidate
from tests.support.adoption import (
    adopt_checkpoint,
    compute_scores,
    make_task,
    random_texts,
    word_tokenizer,
)

SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}
GROUPED = SIZES | {"num_key_value_heads": 2}

ARCHITECTURES: dict[str, tuple[dict[str, Any], int, int, str]] = {
    # model type: settings, id of the padding token, longest input, side of the padding
    "bert": (SIZES | {"max_position_embeddings": 48}, 3, 48, "right"),
    "distilbert": (
        {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64, "max_position_embeddings": 48},
        *(0, 48, "right"),
    ),
    "roberta": (SIZES | {"max_position_embeddings": 48}, 3, 44, "right"),
    "camembert": (SIZES | {"max_position_embeddings": 48}, 1, 46, "right"),
    "xlm-roberta": (SIZES | {"max_position_embeddings": 48}, 5, 42, "right"),
    "mpnet": (SIZES | {"max_position_embeddings": 48}, 1, 46, "right"),
    "data2vec-text": (SIZES | {"max_position_embeddings": 48}, 2, 45, "right"),
    "electra": (SIZES | {"embedding_size": 32, "max_position_embeddings": 48}, 5, 48, "right"),
    "albert": (SIZES | {"embedding_size": 16, "max_position_embeddings": 48}, 2, 48, "right"),
    "deberta-v2": (
        SIZES | {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
        *(0, 64, "right"),
    ),
    "modernbert": (SIZES | {"max_position_embeddings": 64}, 2, 64, "right"),
    "gpt2": ({"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 48}, 1, 48, "right"),
    "opt": (
        {
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "ffn_dim": 64,
            "word_embed_proj_dim": 32,
            "max_position_embeddings": 48,
        },
        *(1, 48, "right"),
    ),
    "llama": (GROUPED | {"max_position_embeddings": 48}, 4, 48, "right"),
    "xlnet": ({"d_model": 32, "n_layer": 2, "n_head": 2, "d_inner": 64}, 5, 64, "left"),
}
Weights = dict[str, torch.Tensor]

CAUSAL = ("gpt2", "opt", "llama")


def save_checkpoint(folder: Path, kind: str, pad: int | None, **settings: Any) -> Path:
    """Save a classifier with random weights and its tokenizer, as transformers does."""
    import transformers

    tokenizer = word_tokenizer(pad)
    config = transformers.AutoConfig.for_model(
        kind,
        vocab_size=tokenizer.get_vocab_size(),
        pad_token_id=pad,
        bos_token_id=None,
        eos_token_id=None,
        id2label={0: "neg", 1: "pos"},
        label2id={"neg": 0, "pos": 1},
        **settings,
    )
    torch.manual_seed(0)
    model = transformers.AutoModelForSequenceClassification.from_config(config)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    options = {} if pad is None else {"pad_token": "<pad>"}
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **options)
    fast.save_pretrained(folder)
    return folder


def compute_reference(folder: Path, rows: Sequence[Candidate], longest: int) -> np.ndarray:
    """The logits of transformers' tokenizer and model, one text at a time."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    logits = []
    for row in rows:
        feeds = tokenizer(*row, return_tensors="pt", truncation=True, max_length=longest)
        with torch.inference_mode():
            logits.append(model(**feeds).logits[0].numpy())
    return np.stack(logits)


def export_graph(artifact: Artifact, out: Path, rows: Sequence[Candidate]) -> Artifact:
    context = StepContext(out, 0, 2, lambda line: None, out / "none")
    out.mkdir()
    metadata = export.run(Inputs(artifact=artifact), make_task(rows), export.Export(), context)
    return Artifact(out, ArtifactMeta.from_dict(artifact.metadata.to_dict() | metadata))


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_logits_are_those_of_transformers(tmp_path: Path, kind: str) -> None:
    settings, pad, longest, side = ARCHITECTURES[kind]
    folder = save_checkpoint(tmp_path / "model", kind, pad, **settings)
    rows = random_texts(16, 60, pairs=kind != "camembert")  # some are longer than the model takes
    expected = compute_reference(folder, rows, longest)
    artifact = adopt_checkpoint(folder, tmp_path / "artifact", rows)
    assert artifact.metadata.max_length == longest
    if artifact.format == "transformers":
        assert artifact.metadata.model["padding"] == {"id": pad, "side": side}
    paddings_and_batches = [("longest", 1), ("max", 1), ("longest", 8)]
    for padding, batch in paddings_and_batches:
        logits = compute_scores(
            artifact, rows, ServeConfig("pytorch", padding=padding, batch=batch)
        )
        assert logits == pytest.approx(expected, abs=2e-4), (padding, batch)
    graph = export_graph(artifact, tmp_path / "graph", rows)
    for padding, batch in paddings_and_batches:
        logits = compute_scores(
            graph, rows, ServeConfig("onnxruntime", padding=padding, batch=batch)
        )
        assert logits == pytest.approx(expected, abs=2e-4), (padding, batch)


@pytest.mark.parametrize("kind", CAUSAL)
def test_model_without_a_padding_token_is_served_without_padding_or_refused(
    tmp_path: Path, kind: str
) -> None:
    settings, _, longest, _ = ARCHITECTURES[kind]
    folder = save_checkpoint(tmp_path / "model", kind, None, **settings)
    if kind == "opt":  # its configuration has a default that must be overridden
        assert '"pad_token_id": null' in (folder / "config.json").read_text()
    rows = random_texts(12, 60)
    expected = compute_reference(folder, rows, longest)
    artifact = adopt_checkpoint(folder, tmp_path / "artifact", rows)
    assert artifact.metadata.model["padding"] is None
    assert compute_scores(artifact, rows, ServeConfig("pytorch")) == pytest.approx(
        expected, abs=2e-4
    )
    for serve in (ServeConfig("pytorch", padding="max"), ServeConfig("pytorch", batch=2)):
        with pytest.raises(HarnessError, match=r"no padding token.* padding = 'longest' and batch"):
            compute_scores(artifact, rows, serve)


@pytest.mark.parametrize(
    ("kind", "token"),
    [("gpt2", None), ("llama", None), ("roberta", 1), ("xlnet", 5), ("distilbert", 0)],
)
def test_missing_padding_token_defaults_to_the_architectures(
    tmp_path: Path, kind: str, token: int | None
) -> None:
    folder = save_checkpoint(
        tmp_path / "model", kind, ARCHITECTURES[kind][1], **ARCHITECTURES[kind][0]
    )
    config = json.loads((folder / "config.json").read_text())
    del config["pad_token_id"]
    (folder / "config.json").write_text(json.dumps(config))
    assert get_padding_id(config, 0) == token
    artifact = adopt_checkpoint(folder, tmp_path / "artifact", random_texts(8, 20))
    padding = artifact.metadata.model["padding"]
    assert (padding and padding["id"]) == token


@pytest.mark.parametrize("file", ["tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("kind", ["bert", "distilbert"])
def test_long_texts_are_truncated_on_the_side_of_the_tokenizer(
    tmp_path: Path, kind: str, file: str
) -> None:
    settings, pad, longest, _ = ARCHITECTURES[kind]
    folder = save_checkpoint(tmp_path / "model", kind, pad, **settings)
    content = json.loads((folder / file).read_text())
    if file == "tokenizer.json":
        truncation = {"direction": "Left", "max_length": 9, "strategy": "LongestFirst", "stride": 0}
        content["truncation"] = truncation
    else:
        content["truncation_side"] = "left"
    (folder / file).write_text(json.dumps(content))
    rows = random_texts(12, 60, pairs=False)
    assert max(len(row[0].split()) for row in rows) > longest
    expected = compute_reference(folder, rows, longest)
    artifact = adopt_checkpoint(folder, tmp_path / "artifact", rows)
    assert compute_scores(artifact, rows, ServeConfig("pytorch")) == pytest.approx(
        expected, abs=2e-4
    )
    graph = export_graph(artifact, tmp_path / "graph", rows)
    assert compute_scores(graph, rows, ServeConfig("onnxruntime")) == pytest.approx(
        expected, abs=2e-4
    )


@pytest.mark.parametrize("variant", [{"is_decoder": True}, {"hidden_act": "gelu_new"}])
def test_variant_of_bert_is_served_with_transformers(
    tmp_path: Path, variant: dict[str, Any]
) -> None:
    settings, pad, longest, _ = ARCHITECTURES["bert"]
    folder = save_checkpoint(tmp_path / "model", "bert", pad, **settings, **variant)
    rows = random_texts(8, 20)
    expected = compute_reference(folder, rows, longest)
    artifact = adopt_checkpoint(folder, tmp_path / "artifact", rows)
    assert artifact.format == "transformers"
    assert compute_scores(artifact, rows, ServeConfig("pytorch")) == pytest.approx(
        expected, abs=2e-4
    )


def test_half_precision_model_is_exported_in_fp32(tmp_path: Path) -> None:
    import transformers

    settings, pad, *_ = ARCHITECTURES["roberta"]
    folder = save_checkpoint(tmp_path / "model", "roberta", pad, **settings)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    model.to(torch.bfloat16).save_pretrained(folder)
    rows = random_texts(8, 20)
    artifact = adopt_checkpoint(folder, tmp_path / "artifact", rows)
    graph = export_graph(artifact, tmp_path / "graph", rows)
    expected = compute_scores(artifact, rows, ServeConfig("pytorch"))
    assert compute_scores(graph, rows, ServeConfig("onnxruntime")) == pytest.approx(
        expected, abs=1e-4
    )


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


@pytest.mark.parametrize("names", [None, ["input_ids", "attention_mask"]])
@pytest.mark.parametrize("kind", ["bert", "electra"])
def test_token_types_are_fed_if_the_tokenizer_names_them(
    tmp_path: Path, kind: str, names: list[str] | None
) -> None:
    settings, pad, longest, _ = ARCHITECTURES[kind]
    folder = save_checkpoint(tmp_path / "model", kind, pad, **settings)
    content = {
        "tokenizer_class": "TokenizersBackend",
        "pad_token": "<pad>",
        "model_input_names": names or ["input_ids", "token_type_ids", "attention_mask"],
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(content))
    rows = [row for row in random_texts(12, 20) if len(row) == 2]
    expected = compute_reference(folder, rows, longest)
    artifact = adopt_checkpoint(folder, tmp_path / "artifact", rows)
    assert compute_scores(artifact, rows, ServeConfig("pytorch")) == pytest.approx(
        expected, abs=2e-4
    )


def test_token_types_change_the_logits(tmp_path: Path) -> None:
    """Otherwise the test above could not fail."""
    settings, pad, longest, _ = ARCHITECTURES["bert"]
    folder = save_checkpoint(tmp_path / "model", "bert", pad, **settings)
    rows = [row for row in random_texts(12, 20) if len(row) == 2]
    without = compute_reference(folder, rows, longest)
    (folder / "tokenizer_config.json").unlink()  # BERT's default tokenizer names them
    artifact = adopt_checkpoint(folder, tmp_path / "artifact", rows)
    logits = compute_scores(artifact, rows, ServeConfig("pytorch"))
    assert np.abs(logits - without).max() > 0.1


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


TEMPLATE = processors.TemplateProcessing(
    single="<s> $A </s>",
    pair="<s> $A </s> $B:1 </s>:1",
    special_tokens=[("<s>", 1), ("</s>", 2)],
)


@pytest.mark.parametrize(
    "processor",
    [
        None,
        TEMPLATE,
        processors.BertProcessing(("</s>", 2), ("<s>", 1)),
        processors.RobertaProcessing(("</s>", 2), ("<s>", 1)),
        processors.ByteLevel(trim_offsets=False),
        processors.Sequence([processors.ByteLevel(trim_offsets=False), TEMPLATE]),
    ],
)
def test_removing_token_types_keeps_the_tokens(processor: Any) -> None:
    tokenizer = word_tokenizer(None)
    tokenizer.post_processor = processor
    plain = tokenization.remove_token_types(tokenizer)
    for row in (("w1 w2",), ("w1 w2", "w3")):
        before, after = tokenizer.encode(*row), plain.encode(*row)
        assert after.ids == before.ids
        assert set(after.type_ids) == {0}
