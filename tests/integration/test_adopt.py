"""Someone's own fine-tuned checkpoint, measured as it is."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from harness import text
from harness.adopted import declare
from harness.build import build_here
from harness.configuration import configurations
from harness.engines import engine
from harness.engines.engine import Load, Serve
from harness.errors import BuildError, HarnessError, SourceError
from harness.manifest import read_system
from harness.optimize.adopt import label_order
from harness.optimize.step import Artifact
from harness.tasks.task import task
from tests.support.checkpoints import checkpoint
from tests.support.words import TEXTS

SENTIMENT = task("sentiment")


def expected(folder: Path) -> np.ndarray:
    """transformers' own logits of TEXTS, one at a time, columns as the model has them."""
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = text.load_tokenizer(folder / "tokenizer.json", 64)
    rows = []
    for each in TEXTS:
        ids = torch.tensor([tokenizer.encode(each).ids])
        with torch.inference_mode():
            rows.append(model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0].numpy())
    return np.stack(rows)


def built(folder: Path, name: str, root: Path) -> tuple[Artifact, dict[str, Serve]]:
    system = read_system(declare(str(folder), {})[name], root)
    where = configurations()["cpu-1"]
    artifact = build_here(system, SENTIMENT, where, root, 0, lambda line: None)
    assert artifact is not None
    return artifact, system.serve


def logits(artifact: Artifact, serve: Serve) -> np.ndarray:
    loaded = engine.load(Load(artifact.folder, artifact.about, serve, 1))
    return loaded.scores([[(each,)] for each in TEXTS])


@pytest.mark.parametrize("kind", ["bert", "distilbert", "roberta"])
def test_logits_are_the_checkpoints_in_the_tasks_order_of_labels(
    project: Path, tmp_path: Path, tiny_encoder: Path, kind: str
) -> None:
    folder = checkpoint(tmp_path / "mine", tiny_encoder, kind)
    wanted = expected(folder)[:, ::-1]  # the task says negative first
    for name in ("mine", "mine-unpadded"):
        artifact, serve = built(folder, name, project)
        assert logits(artifact, serve["offline"]) == pytest.approx(wanted, abs=1e-4)
        assert artifact.about["max_length"] == 64, "no longer than its positions"
    artifact, serve = built(folder, "mine-int8", project)
    assert (artifact.format, artifact.about["dtype"]) == ("onnx", "int8")
    found = logits(artifact, serve["offline"])
    assert np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > 0.98


def test_onnx_checkpoint_is_served_as_it_is(
    project: Path, tmp_path: Path, tiny_encoder: Path
) -> None:
    source = checkpoint(tmp_path / "source", tiny_encoder)
    system = tmp_path / "fp32"
    system.mkdir()
    exported = read_system(declare(str(source), {})["source-int8"], project)
    fp32 = exported.manifest.read_text().partition('\n[[step]]\nuse = "quantize"')[0]
    (system / "submission.toml").write_text(f'{fp32}\n[serve]\nengine = "onnxruntime"\n')
    where = configurations()["cpu-1"]
    graph = build_here(read_system(system, project), SENTIMENT, where, project, 0, print)
    assert graph is not None
    folder = tmp_path / "mine"
    folder.mkdir()
    for place, name in ((graph.folder, "model.onnx"), (source, "tokenizer.json")):
        shutil.copyfile(place / name, folder / name)
    config = {"id2label": {"0": "Negative", "1": "Positive"}, "max_position_embeddings": 64}
    (folder / "config.json").write_text(json.dumps(config))
    assert list(declare(str(folder), {})) == ["mine", "mine-unpadded", "mine-int8"]
    artifact, serve = built(folder, "mine", project)
    assert (artifact.format, serve["offline"].engine) == ("onnx", "onnxruntime")
    wanted = expected(source)[:, ::-1]
    assert logits(artifact, serve["offline"]) == pytest.approx(wanted, abs=1e-4)
    small, _ = built(folder, "mine-int8", project)
    for name in ("model.onnx", "tokenizer.json"):
        shutil.copyfile(small.folder / name, folder / name)
    assert list(declare(str(folder), {})) == ["mine", "mine-unpadded"], "it is int8 already"


def test_labels_are_matched_by_name_or_number(tmp_path: Path) -> None:
    def order(*names: str) -> list[int]:
        return label_order({"id2label": dict(enumerate(names))}, SENTIMENT, tmp_path)

    assert order("Negative", "POSITIVE") == [0, 1]
    assert order("positive", "negative") == [1, 0]
    assert order("LABEL_0", "LABEL_1") == [0, 1]
    assert label_order({}, SENTIMENT, tmp_path) == [0, 1]
    entailment = label_order(
        {"id2label": {0: "not-entailment", 1: "Entailment"}}, task("rte"), tmp_path
    )
    assert entailment == [1, 0]
    for others in (("good", "bad"), ("negative", "neutral", "positive")):
        with pytest.raises(BuildError, match=r"id2label has .*, but sentiment has negative, pos"):
            order(*others)


def test_what_is_no_checkpoint_is_refused_with_the_remedy(
    tmp_path: Path, tiny_encoder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = checkpoint(tmp_path / "mine", tiny_encoder)
    with pytest.raises(HarnessError, match=r"a system is called 'mine' already. Rename"):
        declare(str(folder), {"mine": tmp_path})
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(SourceError, match=r"neither model.safetensors nor model.onnx"):
        declare(str(folder), {})
    (folder / "tokenizer.json").unlink()
    with pytest.raises(SourceError, match=r"tokenizer.json is missing. Save the tokenizer anew"):
        declare(str(folder), {})
    (folder / "config.json").write_text("{")
    with pytest.raises(SourceError, match=r"config.json: not a model's"):
        declare(str(folder), {})
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(SourceError, match="'org/nothing@main' is no folder here, and the hub"):
        declare("org/nothing@main", {})


def test_model_of_the_hub_is_taken_from_its_cache(
    tmp_path: Path, tiny_encoder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = tmp_path / "hub" / "models--Org--Small"
    folder = checkpoint(hub / "snapshots" / ("a" * 40), tiny_encoder)
    (hub / "refs").mkdir()
    (hub / "refs" / "main").write_text("a" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    for given in ("Org/Small", f"Org/Small@{'a' * 40}"):
        found = declare(given, {})
        assert list(found) == ["small", "small-unpadded", "small-int8"]
        assert str(folder) in (found["small"] / "submission.toml").read_text()
