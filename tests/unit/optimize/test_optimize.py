import random
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field

from harness.engines import registry
from harness.engines.base import EngineConfig, ServeConfig
from harness.errors import BuildError
from harness.models import classifier, tokenization
from harness.models.pretrained import Encoder
from harness.optimize import export, finetune, majority, quantize, tfidf
from harness.optimize.base import (
    Artifact,
    Inputs,
    StepContext,
    StepParams,
    describe_step,
    get_step,
)
from harness.optimize.training import encoders
from harness.tasks.task import Example
from tests.support.words import TASK, TEXTS, keep, scores, share_right


def test_finetuning_learns(finetuned: Artifact) -> None:
    assert share_right(scores(finetuned)) > 0.95
    losses = [epoch["loss"] for epoch in finetuned.metadata.details["training"]]
    assert losses[-1] < 0.8 * losses[0]


def test_same_seed_gives_the_same_weights(encoder: Path, tmp_path: Path) -> None:
    params = finetune.Finetune(epochs=1, batch=16, learning_rate=2e-3)
    weights = []
    for name in ("first", "second"):
        out = tmp_path / name
        out.mkdir()
        inputs = Inputs(encoder=Encoder(encoder, "tiny"))
        finetune.run(inputs, TASK, params, StepContext(out, 0, 1))
        weights.append((out / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]


def test_best_epoch_on_the_selection_slice_is_kept(tiny_encoder: Path, tmp_path: Path) -> None:
    params = finetune.Finetune(epochs=4, batch=32, learning_rate=2e-3)
    inputs = Inputs(encoder=Encoder(tiny_encoder, "tiny"))
    artifact = keep(tmp_path, finetune.run(inputs, TASK, params, StepContext(tmp_path, 1, 1)))
    model = classifier.load(tmp_path, classifier.EncoderSpec.from_dict(artifact.metadata.model))
    tokenizer = tokenization.load_tokenizer(tmp_path / "tokenizer.json", 64)
    data = encoders.tokenize_examples(tokenizer, TASK.examples("selection"))
    best = max(epoch["selection"] for epoch in artifact.metadata.details["training"])
    assert encoders.compute_accuracy(model, data, 32) == pytest.approx(best)


def test_training_that_diverges_is_a_build_error(tiny_encoder: Path, tmp_path: Path) -> None:
    params = finetune.Finetune(epochs=1, learning_rate=float("inf"))
    with pytest.raises(BuildError, match=r"not finite.*Lower"):
        finetune.run(
            Inputs(encoder=Encoder(tiny_encoder, "")), TASK, params, StepContext(tmp_path, 0, 1)
        )


def test_token_without_an_embedding_is_refused_before_training(
    tiny_encoder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "encoder"
    shutil.copytree(tiny_encoder, folder)
    tokenizer = tokenization.load_tokenizer(folder / "tokenizer.json", 64)
    tokenizer.add_special_tokens(["[NEW]"])
    tokenizer.save(str(folder / "tokenizer.json"))
    with pytest.raises(BuildError, match=r"tokenizer.json: the token '\[NEW\]' has the id"):
        finetune.run(
            *(Inputs(encoder=Encoder(folder, "")), TASK, finetune.Finetune(epochs=1)),
            StepContext(tmp_path, 0, 1),
        )


def test_batches_hold_every_row_once_and_similar_lengths() -> None:
    lengths = [random.Random(n).randrange(5, 100) for n in range(1000)]
    batches = list(encoders.draw_batches(lengths, 32, random.Random(0)))
    assert sorted(row for batch in batches for row in batch) == list(range(1000))
    padded = sum(max(lengths[row] for row in batch) * len(batch) for batch in batches)
    assert padded < 1.1 * sum(lengths)


def test_choice_becomes_one_row_per_candidate(tiny_encoder: Path) -> None:
    tokenizer = tokenization.load_tokenizer(tiny_encoder / "tokenizer.json", 64)
    example = Example((("quick", "a"), ("quick", "b"), ("quick", "c")), 1)
    assert encoders.tokenize_examples(tokenizer, [example]).labels.tolist() == [0, 1, 0]


def test_exported_graph_is_fused_and_agrees_with_pytorch(
    finetuned: Artifact, exported: Artifact
) -> None:
    has_bias = finetuned.metadata.model["buckets"]  # no kernel of onnxruntime takes it
    assert exported.metadata.details["fused"] == {
        "Attention": 0 if has_bias else 1,
        "LayerNormalization": 5,
        "BiasGelu": 2,
    }
    nodes = onnx.load(exported.folder / "model.onnx").graph.node
    assert sum(node.op_type == "LayerNormalization" for node in nodes) == 5
    expected, result = scores(finetuned), scores(exported)
    np.testing.assert_allclose(result, expected, atol=1e-3)


@pytest.mark.parametrize("first_only", [True, False])
@pytest.mark.parametrize("norm", ["skip", "layer"])
def test_every_way_to_export_gives_the_same_logits(
    finetuned: Artifact, tmp_path: Path, norm: str, first_only: bool
) -> None:
    params = export.Export(norm=norm, first_only=first_only)
    artifact = keep(
        tmp_path, export.run(Inputs(finetuned), TASK, params, StepContext(tmp_path, 0, 1))
    )
    kinds = Counter(node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node)
    has_bias = finetuned.metadata.model["buckets"]
    assert kinds["Attention"] == (0 if has_bias else 1 if first_only else 2)
    assert kinds["SkipLayerNormalization"] == (4 if norm == "skip" else 0)
    np.testing.assert_allclose(scores(artifact), scores(finetuned), atol=1e-4)
    for serve in ({"padding": "max"}, {"batch": 7, "order": "by-length"}):
        np.testing.assert_allclose(scores(artifact, **serve), scores(finetuned), atol=1e-4)


def test_session_would_fuse_nodes_that_export_leaves_separate(
    quantized: Artifact, tmp_path: Path
) -> None:
    """This is why the engine disables two optimizers of the session; of an MPNet it fuses one."""
    most = 1 if quantized.metadata.model["buckets"] else 2
    from harness.engines.onnxruntime import DISABLED_FUSIONS

    for disabled, expected in ((list(DISABLED_FUSIONS), 0), ([], most)):
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / "seen.onnx")
        options.log_severity_level = 4
        path = quantized.folder / "model.onnx"
        onnxruntime.InferenceSession(path, options, disabled_optimizers=disabled)
        seen = onnx.load(tmp_path / "seen.onnx").graph.node
        fused = sum("SkipLayerNorm" in node.op_type for node in seen)
        assert fused >= expected if expected else fused == 0


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from(TEXTS), min_size=1, max_size=3).map(" ".join), min_size=1),
    st.sampled_from(["longest", "max"]),
    st.integers(1, 9),
    st.integers(0, 100),
    st.sampled_from(["given", "by-length"]),
    st.integers(1, 2),
)
def test_serving_options_never_change_a_fp32_score(
    finetuned: Artifact,
    exported: Artifact,
    texts: list[str],
    padding: str,
    batch: int,
    tokens: int,
    order: str,
    instances: int,
) -> None:
    examples = [[[text]] for text in texts]
    plain = registry.load_engine(
        EngineConfig(finetuned.folder, finetuned.engine_metadata, ServeConfig("pytorch"), 1)
    )
    expected = plain.scores(examples)
    for name, artifact, count in (("onnxruntime", exported, instances), ("pytorch", finetuned, 1)):
        serve = ServeConfig(name, padding, batch, tokens, order, count)
        other = registry.load_engine(
            EngineConfig(artifact.folder, artifact.engine_metadata, serve, 2)
        )
        np.testing.assert_allclose(other.scores(examples), expected, atol=1e-4)


def test_quantized_graph_is_smaller_and_keeps_its_answers(
    exported: Artifact, quantized: Artifact
) -> None:
    big, small = (
        sum(
            onnx.numpy_helper.to_array(tensor).nbytes
            for tensor in onnx.load(artifact.folder / "model.onnx").graph.initializer
        )
        for artifact in (exported, quantized)
    )
    assert small < 0.4 * big
    assert abs(share_right(scores(quantized)) - share_right(scores(exported))) <= 0.01
    assert quantized.metadata.details["selection"]["before"] > 0.9
    kinds = {node.op_type for node in onnx.load(quantized.folder / "model.onnx").graph.node}
    assert kinds & {"QAttention", "MatMulInteger", "DynamicQuantizeMatMul"}


def test_quantizing_twice_is_refused(quantized: Artifact, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="is int8 already"):
        quantize.run(Inputs(quantized), TASK, quantize.Quantize(), StepContext(tmp_path, 0, 1))


def test_graph_whose_fusion_misses_a_layer_is_refused(finetuned: Artifact, tmp_path: Path) -> None:
    model = finetuned.metadata.model | {"layers": 3}
    wrong = Artifact(finetuned.folder, replace(finetuned.metadata, model=model))
    with pytest.raises(BuildError, match=r"fused \d \w+ nodes, but 3 layers need"):
        export.run(Inputs(wrong), TASK, export.Export(), StepContext(tmp_path, 0, 1))


def test_graph_may_stay_unfused(finetuned: Artifact, tmp_path: Path) -> None:
    metadata = export.run(
        Inputs(finetuned), TASK, export.Export(optimize=False), StepContext(tmp_path, 0, 1)
    )
    assert "fused" not in metadata
    assert metadata["logit_difference"] < 1e-4


def test_tfidf_served_agrees_with_scikit_learn(tmp_path: Path) -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    artifact = keep(
        tmp_path, tfidf.run(Inputs(), TASK, tfidf.TfidfLogreg(), StepContext(tmp_path, 0, 1))
    )
    texts, labels = zip(
        *((example.candidates[0][0], example.label) for example in TASK.examples("train")),
        strict=True,
    )
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    best = max(artifact.metadata.details["training"], key=lambda fit: fit["selection"])
    model = LogisticRegression(C=best["C"], max_iter=1000, random_state=0)
    model.fit(vectorizer.fit_transform(texts), labels)
    texts = [example.candidates[0][0] for example in TASK.examples("validation")]
    loaded = registry.load_engine(
        EngineConfig(tmp_path, artifact.engine_metadata, ServeConfig("tfidf"), 1)
    )
    result = loaded.scores([[[text]] for text in texts])
    expected = model.decision_function(vectorizer.transform(texts))
    np.testing.assert_allclose(result[:, 1] - result[:, 0], expected, atol=1e-5)


def test_majority_is_counted_on_the_training_split(tmp_path: Path) -> None:
    labels = [example.label for example in TASK.examples("train")]
    metadata = majority.run(Inputs(), TASK, majority.Majority(), StepContext(tmp_path, 0, 1))
    assert metadata["answer"] == int(np.bincount(labels).argmax())


def test_every_step_documents_each_of_its_parameters() -> None:
    from harness.optimize.base import STEP_MODULES

    for name in STEP_MODULES:
        step = get_step(name)
        assert step.name == name
        for parameter, field in step.params.model_fields.items():
            assert field.description, f"{name}: {parameter}"
            assert f"    {parameter} " in describe_step(step), f"{name}: {parameter}"


def test_unknown_step_names_the_nearest() -> None:
    with pytest.raises(BuildError, match="Did you mean 'finetune'"):
        get_step("fine-tune")


def test_nothing_is_trained_on_the_reported_split(
    tiny_encoder: Path, tmp_path: Path, exported: Artifact
) -> None:
    splits: list[str] = []

    def load(split: str) -> tuple[Example, ...]:
        splits.append(split)
        return TASK.load(split)

    task = replace(TASK, name="watched", load=load)
    torch.manual_seed(0)
    for number, (run, inputs, params) in enumerate(
        (
            (finetune.run, Inputs(encoder=Encoder(tiny_encoder, "")), finetune.Finetune(epochs=1)),
            (tfidf.run, Inputs(), tfidf.TfidfLogreg()),
            (majority.run, Inputs(), majority.Majority()),
            (quantize.run, Inputs(exported), quantize.Quantize()),
        )
    ):
        out = tmp_path / str(number)
        out.mkdir()
        run(inputs, task, params, StepContext(out, 0, 1))  # type: ignore[operator]
    assert set(splits) == {"train", "selection"}


def test_parameter_that_is_added_later_changes_a_key_only_if_it_is_not_the_default() -> None:
    class Before(StepParams):
        """A step."""

        heads: int = Field(2, description="heads")

    class After(Before):
        """The same step."""

        gates: bool = Field(False, description="gates", json_schema_extra={"added": True})

    assert After(heads=3).key_values() == Before(heads=3).key_values() == {"heads": 3}
    assert After(heads=3, gates=True).key_values() == {"heads": 3, "gates": True}
