"""A user's fine-tuned checkpoint, measured as it is."""

import json
import re
import shutil
import tomllib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tomli_w
import torch

from harness.cli.main import main
from harness.engines import registry
from harness.engines.base import EngineConfig, ServeConfig
from harness.errors import BuildError, HarnessError, ManifestError, SourceError
from harness.models import tokenization
from harness.models.label_order import find_label_order
from harness.optimize.base import Artifact
from harness.results.record import read_record, write_record
from harness.submissions.checkpoint import (
    declare_model_systems,
    get_model_digest,
    get_reference_names,
)
from harness.submissions.manifest import read_system
from harness.tasks.registry import get_task
from harness.tasks.task import Task
from tests.support.checkpoints import save_checkpoint
from tests.support.graphs import build_graph
from tests.support.records import make_record
from tests.support.systems import build
from tests.support.words import TEXTS

SENTIMENT = get_task("sentiment")


def transformers_logits(folder: Path) -> np.ndarray:
    """Logits of TEXTS by transformers, one text at a time, in the model's order of labels."""
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = tokenization.load_tokenizer(folder / "tokenizer.json", 64)
    rows = []
    for text in TEXTS:
        ids = torch.tensor([tokenizer.encode(text).ids])
        with torch.inference_mode():
            rows.append(model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0].numpy())
    return np.stack(rows)


def build_model(folder: Path, name: str, root: Path) -> tuple[Artifact, dict[str, ServeConfig]]:
    system = read_system(declare_model_systems(str(folder), {})[name], root)
    artifact = build(system, SENTIMENT)
    assert artifact is not None
    return artifact, system.serve


def compute_logits(artifact: Artifact, serve: ServeConfig) -> np.ndarray:
    engine = registry.load_engine(EngineConfig(artifact.folder, artifact.engine_metadata, serve, 1))
    return engine.scores([[(text,)] for text in TEXTS])


@pytest.mark.parametrize("kind", ["bert", "distilbert", "roberta"])
def test_logits_equal_the_checkpoints_in_the_tasks_label_order(
    project: Path, tmp_path: Path, tiny_encoder: Path, kind: str
) -> None:
    folder = save_checkpoint(tmp_path / "mine", tiny_encoder, kind)
    reference = transformers_logits(folder)[:, ::-1]  # the task has negative first
    for name in ("mine", "mine-unpadded"):
        artifact, serve = build_model(folder, name, project)
        assert compute_logits(artifact, serve["offline"]) == pytest.approx(reference, abs=1e-4)
        assert artifact.metadata.max_length == 64, "no longer than its positions"
    artifact, serve = build_model(folder, "mine-int8", project)
    assert (artifact.format, artifact.metadata.dtype) == ("onnx", "int8")
    logits = compute_logits(artifact, serve["offline"])
    assert np.corrcoef(logits.ravel(), reference.ravel())[0, 1] > 0.98


def test_onnx_checkpoint_is_served_as_it_is(
    project: Path, tmp_path: Path, tiny_encoder: Path
) -> None:
    source = save_checkpoint(tmp_path / "source", tiny_encoder)
    fp32_folder = tmp_path / "fp32"
    fp32_folder.mkdir()
    exported = read_system(declare_model_systems(str(source), {})["source-int8"], project)
    fp32 = tomllib.loads(exported.manifest.read_text())
    assert fp32["step"].pop()["use"] == "quantize"
    (fp32_folder / "submission.toml").write_text(tomli_w.dumps(fp32))
    graph = build(read_system(fp32_folder, project), SENTIMENT)
    assert graph is not None
    folder = tmp_path / "mine"
    folder.mkdir()
    for origin, name in ((graph.folder, "model.onnx"), (source, "tokenizer.json")):
        shutil.copyfile(origin / name, folder / name)
    config = {"id2label": {"0": "Negative", "1": "Positive"}, "max_position_embeddings": 64}
    (folder / "config.json").write_text(json.dumps(config))
    assert list(declare_model_systems(str(folder), {})) == ["mine", "mine-unpadded", "mine-int8"]
    artifact, serve = build_model(folder, "mine", project)
    assert (artifact.format, serve["offline"].engine) == ("onnx", "onnxruntime")
    reference = transformers_logits(source)[:, ::-1]
    assert compute_logits(artifact, serve["offline"]) == pytest.approx(reference, abs=1e-4)
    small, _ = build_model(folder, "mine-int8", project)
    for name in ("model.onnx", "tokenizer.json"):
        shutil.copyfile(small.folder / name, folder / name)
    assert list(declare_model_systems(str(folder), {})) == ["mine", "mine-unpadded"], (
        "it is int8 already"
    )


def match_labels(task_labels: Sequence[str], *names: Any) -> list[int]:
    task = replace(SENTIMENT, labels=tuple(task_labels))
    return find_label_order({"id2label": dict(enumerate(names))}, task, Path("mine"))


@pytest.mark.parametrize(
    ("task_labels", "names", "expected"),
    [
        (("negative", "positive"), ("Negative", "POSITIVE"), [0, 1]),
        (("negative", "positive"), ("positive", "negative"), [1, 0]),
        (("negative", "positive"), ("LABEL_0", "LABEL_1"), [0, 1]),
        (("entailment", "not_entailment"), ("not-entailment", "Entailment"), [1, 0]),
        (("entailment", "not_entailment"), ("Not Entailment", "entailment"), [1, 0]),
        (("very good", "bad"), ("Bad.", "very_good"), [1, 0]),
        (("-1", "0", "1"), ("1", "-1", "0"), [1, 2, 0]),
        (("-1", "1"), ("1", "-1"), [1, 0]),
        (("C", "C++", "C#"), ("C#", "C", "C++"), [1, 2, 0]),
        (("c", "c++", "c#"), ("C#", "C", "C++"), [1, 2, 0]),
        (("+", "-"), ("-", "+"), [1, 0]),
        (("pos", "Pos"), ("Pos", "pos"), [1, 0]),
        (("1.5", "15"), ("15", "1.5"), [1, 0]),
        (("0", "1"), (1, 0), [1, 0]),
        (("LABEL_1", "LABEL_0"), ("LABEL_0", "LABEL_1"), [1, 0]),
        (("*", "**", "***"), ("***", "**", "*"), [2, 1, 0]),
    ],
)
def test_labels_are_matched_by_their_names(
    task_labels: tuple[str, ...], names: tuple[str, ...], expected: list[int]
) -> None:
    assert match_labels(task_labels, *names) == expected


@pytest.mark.parametrize(
    ("task_labels", "names"),
    [
        (("negative", "positive"), ("good", "bad")),
        (("negative", "positive"), ("negative", "neutral", "positive")),
        (("negative", "positive"), ("positive", "positive")),
        (("-1", "0"), ("1", "0")),
        (("-1", "1"), ("+1", "1")),
        (("C", "Java"), ("C++", "Java")),
        (("A", "B"), ("A-", "B")),
        (("15", "2"), ("1.5", "2")),
        (("+", "-"), ("plus", "minus")),
        (("a b", "ab"), ("A_B", "AB")),
        (("negative", "positive"), ("LABEL_1", "LABEL_0")),
        (("negative", "positive"), ("LABEL_1", "LABEL_2")),
        (("negative", "positive"), ("0", "1")),
    ],
)
def test_ambiguous_label_names_are_rejected(
    task_labels: tuple[str, ...], names: tuple[str, ...]
) -> None:
    with pytest.raises(
        BuildError, match=r"id2label has .*, but sentiment has .* Rename the labels"
    ):
        match_labels(task_labels, *names)


def test_checkpoint_without_label_names_has_the_tasks_order() -> None:
    assert find_label_order({}, SENTIMENT, Path("mine")) == [0, 1]
    assert find_label_order({"id2label": None}, SENTIMENT, Path("mine")) == [0, 1]


@pytest.mark.parametrize(
    "table",
    [["neg", "pos"], "neg,pos", 2, {}, {"1": "neg", "2": "pos"}, {"a": "neg", "b": "pos"}, [{}]],
)
def test_malformed_id2label_is_rejected(table: Any) -> None:
    with pytest.raises(BuildError, match=r"config.json: id2label is .*, but must map 0, 1"):
        find_label_order({"id2label": table}, SENTIMENT, Path("mine"))


def test_two_models_of_one_folder_name_have_separate_manifests(
    project: Path, tmp_path: Path, tiny_encoder: Path
) -> None:
    """As in two concurrent runs: both manifests are written before either is built."""
    one = save_checkpoint(tmp_path / "a" / "checkpoint-500", tiny_encoder)
    other = save_checkpoint(tmp_path / "b" / "checkpoint-500", tiny_encoder, "distilbert")
    first, second = (declare_model_systems(str(model), {}) for model in (one, other))
    assert list(first) == list(second)
    for model, folders in ((one, first), (other, second)):
        for name, folder in folders.items():
            system = read_system(folder, project)
            assert (system.name, system.encoder) == (name, str(model))


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("model ü", "model-u"),
        ("Größe 1", "grosse-1"),
        ("a -- b (copy) v1.2", "a-b-copy-v1.2"),
        ("модель 7", "7"),
        (" --final.", "final"),
    ],
)
def test_name_of_a_folder_is_written_with_plain_letters(
    project: Path, tmp_path: Path, tiny_encoder: Path, folder: str, name: str
) -> None:
    model = save_checkpoint(tmp_path / folder, tiny_encoder)
    assert next(iter(declare_model_systems(str(model), {}))) == name


def test_folder_whose_name_has_no_plain_letter_needs_a_name(
    project: Path, tmp_path: Path, tiny_encoder: Path
) -> None:
    model = str(save_checkpoint(tmp_path / "模型", tiny_encoder))
    with pytest.raises(HarnessError, match=r"模型: no name .* Give one with --name\."):
        declare_model_systems(model, {})
    assert "mine" in declare_model_systems(model, {}, "mine")
    with pytest.raises(HarnessError, match="begin with a letter or digit"):
        declare_model_systems(model, {}, "..")


def test_second_model_of_one_name_in_the_records_gets_a_digest(
    project: Path, tmp_path: Path, tiny_encoder: Path
) -> None:
    one = save_checkpoint(tmp_path / "a" / "mine", tiny_encoder)
    other = save_checkpoint(tmp_path / "b" / "mine", tiny_encoder, "distilbert")
    records = tmp_path / "records"

    def names(model: Path, name: str = "", session: str = "") -> list[str]:
        return list(declare_model_systems(str(model), {}, name, records, session))

    for session, model in (("first", one), ("second", other)):
        for name, folder in declare_model_systems(str(model), {}, "", records).items():
            record, side = make_record(name, [1.0], 0.5, session=session)
            record.system["model"] = get_model_digest(folder)
            write_record(record, side, records)
    assert names(one) == ["mine", "mine-unpadded", "mine-int8"]
    digest = get_model_digest(declare_model_systems(str(other), {})["mine"])[:6]
    assert names(other) == [f"mine-{digest}{suffix}" for suffix in ("", "-unpadded", "-int8")]
    assert names(one, session="first") == ["mine", "mine-unpadded", "mine-int8"]
    assert names(other, "better") == ["better", "better-unpadded", "better-int8"]
    with pytest.raises(HarnessError, match=r"another model is called 'mine' there. Give another"):
        names(other, "mine")
    with pytest.raises(HarnessError, match=r"--name 'a b': use up to 100 of the letters"):
        names(other, "a b")


def test_model_without_a_padding_token_has_no_padded_system(
    project: Path, tmp_path: Path, tiny_encoder: Path
) -> None:
    folder = save_checkpoint(tmp_path / "mine", tiny_encoder, "gpt2")
    systems = declare_model_systems(str(folder), {})
    assert list(systems) == ["mine", "mine-int8"]
    assert get_reference_names(systems) == ("mine", "mine")
    artifact, serve = build_model(folder, "mine", project)
    reference = transformers_logits(folder)[:, ::-1]
    assert compute_logits(artifact, serve["offline"]) == pytest.approx(reference, abs=1e-4)
    manifest = systems["mine"] / "submission.toml"
    for old, new in (('"longest"', '"max"'), ("batch = 1", "batch = 2")):
        changed = tmp_path / new.strip('"').replace(" ", "")
        changed.mkdir()
        (changed / "submission.toml").write_text(manifest.read_text().replace(old, new))
        with pytest.raises(ManifestError, match=r"has no padding token .* set padding = 'longest'"):
            read_system(changed, project)


def test_int8_form_that_cannot_be_built_is_left_out_and_the_session_is_continued_by_its_name(
    project: Path,
    tmp_path: Path,
    tiny_encoder: Path,
    reviews: Task,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = save_checkpoint(tmp_path / "mine", tiny_encoder, "fnet")
    monkeypatch.chdir(project)
    command = ["run", "--model", str(folder), "--task", reviews.address, "--smoke"]
    results = tmp_path / "results"
    assert main([*command, "--configuration", "cpu-1", "--results", str(results)]) == 0
    output = capsys.readouterr().out
    assert re.search("^left out: .*fnet cannot be exported to ONNX", output, re.MULTILINE)
    assert "graph(" not in output, "the output of PyTorch's exporter is not shown"
    names = {path.stem for path in results.glob("records/*/*/offline/*.json")}
    assert names == {"mine", "mine-unpadded", "null"}
    (path,) = results.glob("records/*/*/offline/null.json")
    assert read_record(path).inputs == {"task": reviews.address, "model": str(folder)}
    command = ["run", "--resume", path.parts[-4], "--rounds", "2", "--results", str(results)]
    assert main(command) == 0
    assert [window.block for window in read_record(path).rounds] == [1, 2]


def test_incomplete_checkpoint_is_rejected_with_the_fix(
    tmp_path: Path, tiny_encoder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_checkpoint(tmp_path / "mine", tiny_encoder)
    with pytest.raises(HarnessError, match=r"a system is called 'mine' already. Rename"):
        declare_model_systems(str(folder), {"mine": tmp_path})
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(SourceError, match=r"neither model.safetensors nor model.onnx"):
        declare_model_systems(str(folder), {})
    (folder / "tokenizer.json").unlink()
    with pytest.raises(SourceError, match=r"tokenizer.json is missing. Save the tokenizer again"):
        declare_model_systems(str(folder), {})
    (folder / "config.json").write_text("{")
    with pytest.raises(SourceError, match=r"config.json: not the configuration of a model"):
        declare_model_systems(str(folder), {})
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        SourceError, match="'org/nothing@main' is not a local folder and cannot be downloaded"
    ):
        declare_model_systems("org/nothing@main", {})


def test_model_on_the_hub_is_read_from_the_hubs_cache(
    tmp_path: Path, tiny_encoder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = tmp_path / "hub" / "models--Org--Small"
    folder = save_checkpoint(hub / "snapshots" / ("a" * 40), tiny_encoder)
    (hub / "refs").mkdir()
    (hub / "refs" / "main").write_text("a" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    for model in ("Org/Small", f"Org/Small@{'a' * 40}"):
        folders = declare_model_systems(model, {})
        assert list(folders) == ["small", "small-unpadded", "small-int8"]
        assert str(folder) in (folders["small"] / "submission.toml").read_text()
    (folder / "model.safetensors").unlink()
    (folder / "onnx").mkdir()
    onnx.save(build_graph(), folder / "onnx" / "model.onnx")
    manifest = declare_model_systems("Org/Small", {})["small"] / "submission.toml"
    assert 'engine = "onnxruntime"' in manifest.read_text()


def test_name_of_a_file_is_refused_with_the_remedy(tmp_path: Path, tiny_encoder: Path) -> None:
    folder = save_checkpoint(tmp_path / "mine", tiny_encoder)
    with pytest.raises(SourceError, match=r"model.safetensors: a file. Name the folder"):
        declare_model_systems(str(folder / "model.safetensors"), {})


def test_labels_that_look_the_same_are_the_same_in_every_unicode_form() -> None:
    assert match_labels(("gro\u00df", "kl\u00e4r"), "kla\u0308r", "gro\u00df") == [1, 0]
