"""Fine-tuned models of many architectures: logits as transformers gives them, text by text."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from harness.engines import base
from harness.engines.base import EngineConfig, ServeConfig
from harness.errors import BuildError, HarnessError
from harness.models import tokenization
from harness.models.pretrained import Encoder, padding_id
from harness.optimize import adopt, export
from harness.optimize.base import Artifact, Inputs, StepContext
from harness.tasks.task import Candidate, Example, Task

WORDS = [f"w{number}" for number in range(60)]
SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}
GROUPED = SIZES | {"num_key_value_heads": 2}

ARCHITECTURES: dict[str, tuple[dict[str, Any], int, int, str]] = {
    # kind: settings, id of the padding token, longest input, side of the padding
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
CAUSAL = ("gpt2", "opt", "llama")


def word_tokenizer(pad: int | None) -> Tokenizer:
    """One token a word; the padding token has this id."""
    names = ["<unk>", "<s>", "</s>", *WORDS]
    if pad is not None:
        names.insert(pad, "<pad>")
    vocabulary = {name: number for number, name in enumerate(names)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> $B:1 </s>:1",
        special_tokens=[(name, vocabulary[name]) for name in ("<s>", "</s>")],
    )
    return tokenizer


def saved(folder: Path, kind: str, pad: int | None, **settings: Any) -> Path:
    """A classifier with random weights and its tokenizer, as transformers saves them."""
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
    named = {} if pad is None else {"pad_token": "<pad>"}
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named)
    fast.save_pretrained(folder)
    return folder


def texts(count: int, longest: int, pairs: bool = True) -> list[Candidate]:
    chance = random.Random(1)

    def some(length: int) -> str:
        return " ".join(chance.choices(WORDS, k=length))

    rows = [(some(chance.randint(1, longest)),) for _ in range(count)]
    return [
        (*row, some(4)) if pairs and number % 3 == 0 else row for number, row in enumerate(rows)
    ]


def toy(rows: Sequence[Candidate]) -> Task:
    examples = [Example((row,), number % 2) for number, row in enumerate(rows)]
    return Task(
        *("toy", "Which of two", "1", ("neg", "pos"), "accuracy", 64, 50.0, "made here", "none"),
        load=lambda split: examples,
        available_locally=lambda: True,
    )


def reference(folder: Path, rows: Sequence[Candidate], longest: int) -> np.ndarray:
    """transformers' own tokenizer and model, one text at a time."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    logits = []
    for row in rows:
        feeds = tokenizer(*row, return_tensors="pt", truncation=True, max_length=longest)
        with torch.inference_mode():
            logits.append(model(**feeds).logits[0].numpy())
    return np.stack(logits)


def adopted(folder: Path, out: Path, rows: Sequence[Candidate]) -> Artifact:
    context = StepContext(out, 0, 2, lambda line: None, out / "none")
    out.mkdir()
    about = adopt.run(Inputs(encoder=Encoder(folder, "key")), toy(rows), adopt.Adopt(), context)
    return Artifact(out, {"labels": 2, **about})


def scores(artifact: Artifact, rows: Sequence[Candidate], serve: ServeConfig) -> np.ndarray:
    loaded = base.load_engine(EngineConfig(artifact.folder, artifact.about, serve, 1))
    return loaded.scores([[row] for row in rows])


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_logits_are_those_of_transformers(tmp_path: Path, kind: str) -> None:
    settings, pad, longest, side = ARCHITECTURES[kind]
    folder = saved(tmp_path / "model", kind, pad, **settings)
    rows = texts(16, 60, pairs=kind != "camembert")  # some are longer than the model takes
    expected = reference(folder, rows, longest)
    artifact = adopted(folder, tmp_path / "artifact", rows)
    assert artifact.about["max_length"] == longest
    if artifact.format == "transformers":
        assert artifact.about["model"]["padding"] == {"id": pad, "side": side}
    ways = [("longest", 1), ("max", 1), ("longest", 8)]
    for padding, batch in ways:
        found = scores(artifact, rows, ServeConfig("pytorch", padding=padding, batch=batch))
        assert found == pytest.approx(expected, abs=2e-4), (padding, batch)
    out = tmp_path / "graph"
    out.mkdir()
    context = StepContext(out, 0, 2, lambda line: None, out / "none")
    about = export.run(Inputs(artifact=artifact), toy(rows), export.Export(), context)
    graph = Artifact(out, {**artifact.about, **about})
    for padding, batch in ways:
        found = scores(graph, rows, ServeConfig("onnxruntime", padding=padding, batch=batch))
        assert found == pytest.approx(expected, abs=2e-4), (padding, batch)


@pytest.mark.parametrize("kind", CAUSAL)
def test_model_without_a_padding_token_is_served_alone_or_refused(
    tmp_path: Path, kind: str
) -> None:
    settings, _, longest, _ = ARCHITECTURES[kind]
    folder = saved(tmp_path / "model", kind, None, **settings)
    if kind == "opt":  # its configuration has one unless it says that it has none
        assert '"pad_token_id": null' in (folder / "config.json").read_text()
    rows = texts(12, 60)
    expected = reference(folder, rows, longest)
    artifact = adopted(folder, tmp_path / "artifact", rows)
    assert artifact.about["model"]["padding"] is None
    assert scores(artifact, rows, ServeConfig("pytorch")) == pytest.approx(expected, abs=2e-4)
    for serve in (ServeConfig("pytorch", padding="max"), ServeConfig("pytorch", batch=2)):
        with pytest.raises(HarnessError, match=r"no padding token.* padding = 'longest' and batch"):
            scores(artifact, rows, serve)


@pytest.mark.parametrize(
    ("kind", "token"),
    [("gpt2", None), ("llama", None), ("roberta", 1), ("xlnet", 5), ("distilbert", 0)],
)
def test_padding_token_that_is_not_said_is_the_architectures(
    tmp_path: Path, kind: str, token: int | None
) -> None:
    folder = saved(tmp_path / "model", kind, ARCHITECTURES[kind][1], **ARCHITECTURES[kind][0])
    config = json.loads((folder / "config.json").read_text())
    del config["pad_token_id"]
    (folder / "config.json").write_text(json.dumps(config))
    assert padding_id(config, 0) == token
    artifact = adopted(folder, tmp_path / "artifact", texts(8, 20))
    padding = artifact.about["model"]["padding"]
    assert (padding and padding["id"]) == token


@pytest.mark.parametrize("place", ["tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("kind", ["bert", "distilbert"])
def test_long_texts_are_cut_on_the_side_of_the_tokenizer(
    tmp_path: Path, kind: str, place: str
) -> None:
    settings, pad, longest, _ = ARCHITECTURES[kind]
    folder = saved(tmp_path / "model", kind, pad, **settings)
    content = json.loads((folder / place).read_text())
    if place == "tokenizer.json":
        cut = {"direction": "Left", "max_length": 9, "strategy": "LongestFirst", "stride": 0}
        content["truncation"] = cut
    else:
        content["truncation_side"] = "left"
    (folder / place).write_text(json.dumps(content))
    rows = texts(12, 60, pairs=False)
    assert max(len(row[0].split()) for row in rows) > longest
    expected = reference(folder, rows, longest)
    artifact = adopted(folder, tmp_path / "artifact", rows)
    assert scores(artifact, rows, ServeConfig("pytorch")) == pytest.approx(expected, abs=2e-4)
    out = tmp_path / "graph"
    out.mkdir()
    context = StepContext(out, 0, 2, lambda line: None, out / "none")
    about = export.run(Inputs(artifact=artifact), toy(rows), export.Export(), context)
    graph = Artifact(out, {**artifact.about, **about})
    assert scores(graph, rows, ServeConfig("onnxruntime")) == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize("changed", [{"is_decoder": True}, {"hidden_act": "gelu_new"}])
def test_bert_of_another_kind_is_served_by_transformers(
    tmp_path: Path, changed: dict[str, Any]
) -> None:
    settings, pad, longest, _ = ARCHITECTURES["bert"]
    folder = saved(tmp_path / "model", "bert", pad, **settings, **changed)
    rows = texts(8, 20)
    expected = reference(folder, rows, longest)
    artifact = adopted(folder, tmp_path / "artifact", rows)
    assert artifact.format == "transformers"
    assert scores(artifact, rows, ServeConfig("pytorch")) == pytest.approx(expected, abs=2e-4)


def test_half_precision_is_exported_in_single(tmp_path: Path) -> None:
    import transformers

    settings, pad, *_ = ARCHITECTURES["roberta"]
    folder = saved(tmp_path / "model", "roberta", pad, **settings)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    model.to(torch.bfloat16).save_pretrained(folder)
    rows = texts(8, 20)
    artifact = adopted(folder, tmp_path / "artifact", rows)
    out = tmp_path / "graph"
    out.mkdir()
    context = StepContext(out, 0, 2, lambda line: None, out / "none")
    about = export.run(Inputs(artifact=artifact), toy(rows), export.Export(), context)
    graph = Artifact(out, {**artifact.about, **about})
    served = scores(artifact, rows, ServeConfig("pytorch"))
    assert scores(graph, rows, ServeConfig("onnxruntime")) == pytest.approx(served, abs=1e-4)


def test_weights_that_are_broken_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    settings, pad, *_ = ARCHITECTURES["roberta"]
    folder = saved(tmp_path / "model", "roberta", pad, **settings)
    path = folder / "model.safetensors"
    weights = load_file(path)
    next(iter(weights.values())).view(-1)[0] = float("nan")
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(BuildError, match=r"weight .* is not finite. Take another checkpoint"):
        adopted(folder, tmp_path / "artifact", texts(4, 8))
    for number, content in enumerate((b"", path.read_bytes()[:-50])):
        path.write_bytes(content)
        with pytest.raises(BuildError, match="not a fine-tuned classifier"):
            adopted(folder, tmp_path / f"artifact-{number}", texts(4, 8))


@pytest.mark.parametrize("content", ["[]", "null", "{"])
def test_tokenizer_config_that_is_none_is_refused(tmp_path: Path, content: str) -> None:
    settings, pad, *_ = ARCHITECTURES["roberta"]
    folder = saved(tmp_path / "model", "roberta", pad, **settings)
    (folder / "tokenizer_config.json").write_text(content)
    with pytest.raises(BuildError, match=r"tokenizer_config.json: not"):
        adopted(folder, tmp_path / "artifact", texts(4, 8))


@pytest.mark.parametrize("names", [None, ["input_ids", "attention_mask"]])
@pytest.mark.parametrize("kind", ["bert", "electra"])
def test_token_types_are_fed_where_the_tokenizer_names_them(
    tmp_path: Path, kind: str, names: list[str] | None
) -> None:
    settings, pad, longest, _ = ARCHITECTURES[kind]
    folder = saved(tmp_path / "model", kind, pad, **settings)
    described = {"tokenizer_class": "TokenizersBackend", "pad_token": "<pad>"}
    described |= {"model_input_names": names or ["input_ids", "token_type_ids", "attention_mask"]}
    (folder / "tokenizer_config.json").write_text(json.dumps(described))
    rows = [row for row in texts(12, 20) if len(row) == 2]
    expected = reference(folder, rows, longest)
    artifact = adopted(folder, tmp_path / "artifact", rows)
    assert scores(artifact, rows, ServeConfig("pytorch")) == pytest.approx(expected, abs=2e-4)


def test_other_answers_with_and_without_token_types(tmp_path: Path) -> None:
    """Else the test above could not fail."""
    settings, pad, longest, _ = ARCHITECTURES["bert"]
    folder = saved(tmp_path / "model", "bert", pad, **settings)
    rows = [row for row in texts(12, 20) if len(row) == 2]
    without = reference(folder, rows, longest)
    (folder / "tokenizer_config.json").unlink()  # BERT's own tokenizer names them
    artifact = adopted(folder, tmp_path / "artifact", rows)
    found = scores(artifact, rows, ServeConfig("pytorch"))
    assert np.abs(found - without).max() > 0.1


def test_weights_without_a_classification_layer_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    settings, pad, *_ = ARCHITECTURES["roberta"]
    folder = saved(tmp_path / "model", "roberta", pad, **settings)
    weights = load_file(folder / "model.safetensors")
    body = {name: value for name, value in weights.items() if "classifier" not in name}
    save_file(body, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BuildError, match=r"classifier.* must be in it, but is not: .* Fine-tune"):
        adopted(folder, tmp_path / "artifact", texts(4, 8))


def test_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    settings, pad, *_ = ARCHITECTURES["roberta"]
    folder = saved(tmp_path / "model", "roberta", pad, **settings)
    tokenizer = word_tokenizer(3)
    tokenizer.add_tokens([f"x{number}" for number in range(9)])
    tokenizer.save(str(folder / "tokenizer.json"))
    with pytest.raises(BuildError, match=r"fails on 8 tokens of its own tokenizer .*belong togeth"):
        adopted(folder, tmp_path / "artifact", [("x7 x8",), ("x1",)])


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
def test_without_token_types_the_tokens_stay(processor: Any) -> None:
    tokenizer = word_tokenizer(None)
    tokenizer.post_processor = processor
    plain = tokenization.without_token_types(tokenizer)
    for row in (("w1 w2",), ("w1 w2", "w3")):
        before, after = tokenizer.encode(*row), plain.encode(*row)
        assert after.ids == before.ids
        assert set(after.type_ids) == {0}
