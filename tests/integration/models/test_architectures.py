"""Fine-tuned models of many architectures have the logits of transformers, text by text."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import processors

from harness.engines.base import ServeConfig
from harness.errors import HarnessError
from harness.models import tokenization
from harness.models.pretrained import get_padding_id
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
from tests.support.architectures import ARCHITECTURES, CAUSAL, compute_reference, save_checkpoint


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
