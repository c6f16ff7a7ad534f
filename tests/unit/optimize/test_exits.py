"""Early exit, from training the exits to answering with them."""

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.engines import registry
from harness.engines.base import EngineConfig, ServeConfig
from harness.engines.confidence import NEVER, ExitRule, compute_confidence, run_stages
from harness.engines.stages import StagesEngine
from harness.models import classifier
from harness.optimize import calibrate, exits, export, quantize
from harness.optimize.base import Artifact, Inputs, StepContext
from harness.worker.driver import Worker
from tests.support.faults import step_faults
from tests.support.words import TASK, keep, only_selection, run_step, scores

PARAMS = exits.Exits(after=(0,), epochs=2, batch=16, learning_rate=2e-3)


@pytest.fixture(scope="session")
def with_exits(tmp_path_factory: pytest.TempPathFactory, finetuned: Artifact) -> Artifact:
    out = tmp_path_factory.mktemp("with-exits")
    return run_step(out, exits, Inputs(finetuned), PARAMS)


@pytest.fixture(scope="session")
def stages(tmp_path_factory: pytest.TempPathFactory, with_exits: Artifact) -> Artifact:
    out = tmp_path_factory.mktemp("stages")
    return run_step(out, export, Inputs(with_exits), export.Export())


@pytest.fixture(scope="session")
def calibrated(tmp_path_factory: pytest.TempPathFactory, stages: Artifact) -> Artifact:
    out = tmp_path_factory.mktemp("calibrated")
    blind = replace(TASK, name="blind", load=only_selection)
    params = calibrate.Calibrate(max_drop=0.02)
    return run_step(out, calibrate, Inputs(stages), params, blind)


def load_engine(artifact: Artifact, **serve: Any) -> StagesEngine:
    result = registry.load_engine(
        EngineConfig(
            artifact.folder, artifact.engine_metadata, ServeConfig("onnxruntime", **serve), 1
        )
    )
    assert isinstance(result, StagesEngine)
    return result


def get_candidates(split: str = "validation") -> list[Any]:
    return [example.candidates for example in TASK.examples(split)]


def test_frozen_model_answers_as_before_and_its_exits_learn(
    finetuned: Artifact, with_exits: Artifact
) -> None:
    np.testing.assert_allclose(scores(with_exits), scores(finetuned), atol=1e-6)
    start = classifier.load(
        finetuned.folder, classifier.EncoderSpec.from_dict(finetuned.metadata.model)
    )
    fresh = exits.add_exits(start, (0,))
    trained = classifier.load(
        with_exits.folder, classifier.EncoderSpec.from_dict(with_exits.metadata.model)
    )
    data = selection(finetuned)
    before, after = (
        exits.compute_stage_accuracies(model, data, 16)[0] for model in (fresh, trained)
    )
    assert after >= max(0.9, before)
    assert with_exits.metadata.details["exits"][0] == pytest.approx(after, abs=1e-3)


def selection(artifact: Artifact) -> Any:
    from harness.models import tokenization
    from harness.optimize.training import encoders

    tokenizer = tokenization.load_tokenizer(artifact.folder / "tokenizer.json", 64)
    return encoders.tokenize_examples(tokenizer, TASK.examples("selection"))


def test_joint_training_moves_the_last_layer_too(finetuned: Artifact, tmp_path: Path) -> None:
    params = PARAMS.model_copy(update={"joint": True, "epochs": 1})
    result = keep(tmp_path, exits.run(Inputs(finetuned), TASK, params, StepContext(tmp_path, 0, 1)))
    assert not np.array_equal(scores(result), scores(finetuned))
    assert min(result.metadata.details["exits"]) > 0.9


def test_stages_are_fused_and_contain_each_layer_once(stages: Artifact) -> None:
    counts = [
        Counter(node.op_type for node in onnx.load(path).graph.node)
        for path in sorted(stages.folder.glob("stage-*.onnx"))
    ]
    if not stages.metadata.model["buckets"]:
        attention = [stage["Attention"] for stage in counts]
        assert attention == [1, 0], "the last layer has one query token"
    assert [stage["BiasGelu"] for stage in counts] == [1, 1]


def test_without_exits_the_scores_are_those_of_the_complete_model(
    stages: Artifact, calibrated: Artifact, exported: Artifact
) -> None:
    expected = scores(exported)
    np.testing.assert_allclose(load_engine(stages).scores(get_candidates()), expected, atol=1e-4)
    never = load_engine(calibrated, threshold="never").scores(get_candidates())
    scale = calibrated.metadata.details["rule"]["temperatures"][-1]
    np.testing.assert_allclose(never * scale, expected, atol=1e-3)


def test_exit_returns_the_logits_of_its_classifier(with_exits: Artifact, stages: Artifact) -> None:
    model = classifier.load(
        with_exits.folder, classifier.EncoderSpec.from_dict(with_exits.metadata.model)
    )
    data = selection(with_exits)
    batch = data.batch(range(8))
    feeds = (torch.from_numpy(values) for values in (batch.ids, batch.mask, batch.segments))
    with torch.inference_mode():
        expected = model.exit_logits(*feeds)[0].numpy()
    engine = load_engine(stages, batch=8)
    engine.rule = ExitRule("probability", (1.0, 1.0), (0.0,))
    np.testing.assert_allclose(engine.scores(get_candidates("selection")[:8]), expected, atol=1e-3)


def halfway(engine: StagesEngine, quantile: float = 0.5) -> None:
    """Half of the texts leave at the first exit."""
    engine.rule = ExitRule("probability", (1.0, 1.0), (0.0,))
    sure = compute_confidence(engine.scores(get_candidates()), [1] * 100)
    engine.rule = ExitRule("probability", (1.0, 1.0), (float(np.quantile(sure, quantile)),))
    engine.report()


@pytest.mark.parametrize("some", [True, False])
def test_what_an_exit_skips_is_not_computed(stages: Artifact, some: bool) -> None:
    engine = load_engine(stages, batch=4)
    if some:
        halfway(engine)
    inputs = [0, 0]
    real = engine.stages

    def counted(number: int) -> Any:
        def run(feeds: dict[str, Any]) -> Any:
            inputs[number] += len(feeds["rows"] if number else feeds["input_ids"])
            return real[number](feeds)

        return run

    engine.stages = [counted(0), counted(1)]
    engine.scores(get_candidates())
    left = engine.report()["left"]
    assert inputs == [100, left[1]]
    assert sum(left) == 100
    assert 20 <= left[1] <= 80 if some else left[1] == 100
    assert engine.report()["left"] == [0, 0], "a report begins anew"


TEXTS = st.lists(st.integers(0, 99), min_size=1, max_size=12)


@settings(max_examples=40, deadline=None)
@given(TEXTS, st.integers(1, 6), st.sampled_from([0.2, 0.5, 0.8]))
def test_regrouping_the_remaining_examples_never_mixes_them(
    stages: Artifact, rows: list[int], batch: int, quantile: float
) -> None:
    alone, together = (load_once(stages, quantile, batch=size) for size in (1, batch))
    texts = [get_candidates()[row] for row in rows]
    expected = np.concatenate([alone.scores([text]) for text in texts])
    np.testing.assert_allclose(together.scores(texts), expected, atol=1e-4)


LOADED: dict[Any, StagesEngine] = {}


def load_once(artifact: Artifact, quantile: float, batch: int) -> StagesEngine:
    """With a threshold between two texts' confidences, so that rounding decides nothing."""
    key = artifact.folder, quantile, batch
    if key not in LOADED:
        engine = LOADED[key] = load_engine(artifact, batch=batch)
        halfway(engine, quantile)
    return LOADED[key]


def test_rule_is_chosen_on_the_selection_slice_within_the_drop(calibrated: Artifact) -> None:
    chosen = calibrated.metadata.details["selection"]
    assert chosen["score"] >= chosen["full"]["score"] - 0.02
    assert chosen["cost"] <= chosen["full"]["cost"] == 1
    assert chosen["left"] == count_exits(calibrated)
    costs = [point["cost"] for point in chosen["curve"]]
    assert costs == sorted(costs), "a higher threshold costs more"


def count_exits(artifact: Artifact) -> list[int]:
    engine = load_engine(artifact)
    engine.scores(get_candidates("selection"))
    return engine.report()["left"]


def test_cost_limit_is_met(stages: Artifact, tmp_path: Path) -> None:
    params = calibrate.Calibrate(cost=0.75)
    result = keep(
        tmp_path, calibrate.run(Inputs(stages), TASK, params, StepContext(tmp_path, 0, 1))
    )
    assert result.metadata.details["selection"]["cost"] <= 0.75


def test_stages_are_quantized_one_by_one(stages: Artifact, tmp_path: Path) -> None:
    params = quantize.Quantize()
    result = keep(tmp_path, quantize.run(Inputs(stages), TASK, params, StepContext(tmp_path, 0, 1)))
    assert result.format == "stages"
    sizes = [
        sum(path.stat().st_size for path in artifact.folder.glob("*.onnx"))
        for artifact in (stages, result)
    ]
    assert sizes[1] < sizes[0]
    answers = [
        logits.argmax(1)
        for logits in (load_engine(stages).scores(get_candidates()), scores(result))
    ]
    assert float(np.mean(answers[0] == answers[1])) >= 0.97


def test_worker_reports_where_examples_left(calibrated: Artifact) -> None:
    serve = {"engine": "onnxruntime", "batch": 4}
    message = {
        "artifact": str(calibrated.folder),
        "about": calibrated.engine_metadata,
        "serve": serve,
        "threads": 1,
    }
    with Worker(1) as worker:
        worker.load(message)
        for number, example in enumerate(get_candidates()[:7]):
            line = b'{"id":%d,"examples":[%s]}\n' % (number, json.dumps(example).encode())
            worker.ask(line, 60)
        assert sum(worker.read_stage_counts()) == 7
        worker.ask(line, 60)
        assert sum(worker.read_stage_counts()) == 1


@pytest.mark.parametrize(
    ("params", "fault"),
    [
        ({"after": []}, "name layers"),
        ({"after": [1]}, r"2 layers. Choose from 0\.\.0"),
        ({"after": [0, 0]}, "each once"),
        ({"after": [0], "temperature": 0}, "temperature = 0: choose a number above 0"),
    ],
)
def test_faults_of_exits_are_reported_before_training(
    params: dict[str, object], fault: str
) -> None:
    faults = step_faults(exits.STEP, params)
    assert any(re.search(fault, sentence) for sentence in faults), faults


def test_patience_counts_stages_that_agree() -> None:
    answers = np.array([[0, 0, 0], [0, 1, 1], [1, 1, 0], [1, 1, 1]])  # stage by example
    logits = np.eye(2, dtype=np.float32)[answers]
    rule = ExitRule("patience", (1.0,) * 4, (2.0,) * 3)
    result, left = run_stages(rule, [1] * 3, lambda stage, rows: logits[stage][rows])
    assert left == [0, 1, 1, 1]
    assert result.argmax(1).tolist() == [0, 1, 1]


def test_never_is_above_every_confidence() -> None:
    assert ExitRule.from_dict(None, 3, "chosen").thresholds == (NEVER, NEVER)
    rule = {"criterion": "entropy", "temperatures": [1, 2, 3], "thresholds": [0.5, None]}
    assert ExitRule.from_dict(rule, 3, "chosen").thresholds == (0.5, NEVER)
    assert ExitRule.from_dict(rule, 3, 0.9).thresholds == (0.9, 0.9)
    assert ExitRule.from_dict(rule, 3, "never").thresholds == (NEVER, NEVER)
