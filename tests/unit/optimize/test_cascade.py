"""Cascades: which member answers, and how the thresholds are chosen."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.engines import registry
from harness.engines.base import EngineConfig, ServeConfig
from harness.engines.cascade import CascadeEngine
from harness.engines.confidence import NEVER, ExitRule, compute_confidence, run_stages
from harness.errors import ManifestError
from harness.optimize import cascade
from harness.optimize.base import Artifact, Inputs, Member, StepContext
from harness.optimize.thresholds import SelectionSlice, fit_temperature
from harness.submissions.manifest import read_system
from harness.submissions.plan import plan_system
from harness.tasks.registry import get_task
from harness.tasks.task import Example
from tests.support.systems import write_submission
from tests.support.words import TASK, keep, only_selection

EXAMPLES = [example.candidates for example in TASK.examples("validation")]


@pytest.fixture(scope="module")
def artifact(
    tmp_path_factory: pytest.TempPathFactory, student: Artifact, exported: Artifact
) -> Artifact:
    members = (Member("small", student, "static"), Member("large", exported, "onnxruntime"))
    blind = replace(TASK, name="blind", load=only_selection)
    out = tmp_path_factory.mktemp("cascade")
    params = cascade.Cascade(max_drop=0.01)
    return keep(out, cascade.run(Inputs(members=members), blind, params, StepContext(out, 0, 1)))


def load_engine(artifact: Artifact, **serve: Any) -> CascadeEngine:
    result = registry.load_engine(
        EngineConfig(artifact.folder, artifact.engine_metadata, ServeConfig("cascade", **serve), 2)
    )
    assert isinstance(result, CascadeEngine)
    return result


def member(artifact: Artifact, name: str) -> np.ndarray[Any, Any]:
    engine = registry.load_engine(
        EngineConfig(artifact.folder, artifact.engine_metadata, ServeConfig(name), 1)
    )
    return engine.scores(EXAMPLES)


def test_confident_examples_have_the_first_members_scores(
    artifact: Artifact, student: Artifact
) -> None:
    engine = load_engine(artifact)
    small = member(student, "static") / artifact.metadata.details["rule"]["temperatures"][0]
    sure = compute_confidence(small, [1] * 100)
    cut = float(np.quantile(sure, 0.5))
    engine.rule = replace(engine.rule, thresholds=(cut,))
    result = engine.scores(EXAMPLES)
    np.testing.assert_allclose(result[sure >= cut], small[sure >= cut], atol=1e-5)
    assert engine.report()["left"] == [int((sure >= cut).sum()), int((sure < cut).sum())]


def test_without_a_threshold_the_last_member_answers(
    artifact: Artifact, exported: Artifact
) -> None:
    result = load_engine(artifact, threshold="never").scores(EXAMPLES)
    expected = (
        member(exported, "onnxruntime") / artifact.metadata.details["rule"]["temperatures"][1]
    )
    np.testing.assert_allclose(result, expected, atol=1e-4)


def test_unneeded_members_are_not_run(artifact: Artifact) -> None:
    engine = load_engine(artifact, threshold=1e-6)
    engine.members[1] = None  # type: ignore[call-overload]
    assert len(engine.scores(EXAMPLES)) == 100


def test_artifact_holds_its_members_and_their_costs(artifact: Artifact) -> None:
    assert {path.name for path in artifact.folder.iterdir() if path.is_dir()} == {"0", "1"}
    assert (artifact.folder / "1" / "model.onnx").is_file()
    assert all(seconds > 0 for seconds in artifact.metadata.details["seconds"])
    assert artifact.metadata.dtype == "int8", "answers of a member may depend on its batch"
    chosen = artifact.metadata.details["selection"]
    assert chosen["score"] >= chosen["full"]["score"] - 0.01
    assert chosen["cost"] <= chosen["full"]["cost"]


LABELS = np.array([0, 1, 0, 1, 1, 0, 1, 0])


def make_slice(logits: list[Any], costs: list[float]) -> SelectionSlice:
    examples = [Example(((f"text {row}",),), int(label)) for row, label in enumerate(LABELS)]
    task = replace(TASK, name=f"made {len(logits)}", load=lambda split: examples)
    return SelectionSlice(
        task,
        [np.asarray(member_logits, np.float32) for member_logits in logits],
        costs,
        per_candidate=False,
    )


def test_thresholds_are_the_cheapest_that_keep_the_score() -> None:
    """The first of three members is right where it is confident, the second but for one example."""
    right = np.eye(2)[LABELS] * 2 - 1
    first, second = right * 3, right * 3
    first[4:] = -right[4:] * 0.2  # wrong, with low confidence
    second[7] = -right[7] * 0.1
    result = make_slice([first, second, right * 3], [1.0, 3.0, 10.0])
    chosen = result.choose_rule("probability", max_drop=0.0, max_cost=0.0, per_stage=True)
    assert chosen["selection"]["score"] == 1
    assert chosen["selection"]["left"] == [4, 3, 1]
    assert chosen["selection"]["cost"] == pytest.approx((4 * 1 + 3 * 3 + 10) / 8)
    edge = result.choose_rule("probability", max_drop=0.24, max_cost=0.0, per_stage=True)
    assert edge["selection"]["left"][2] == 1, "one wrong answer in eight, and its error, is more"
    cheap = result.choose_rule("probability", max_drop=0.26, max_cost=0.0, per_stage=True)
    assert cheap["selection"]["left"][2] == 0, "one wrong answer in eight is allowed"
    worse = make_slice([-right, right], [1.0, 2.0]).choose_rule(
        "probability", 0.0, 0.0, per_stage=True
    )
    assert worse["selection"]["left"] == [0, 8]
    assert worse["rule"]["thresholds"] == [None]


def draw_two_stages(draw: np.random.Generator, count: int) -> SelectionSlice:
    """Return a slice whose second stage costs four times as much and is right more often."""
    labels = draw.integers(0, 2, count)
    sign, difficulty = 2 * labels - 1, draw.normal(size=count)
    margins = [
        sign * skill + 0.9 * difficulty + 0.7 * draw.normal(size=count) for skill in (1.0, 1.6)
    ]
    logits = [np.stack([-margin, margin], axis=1).astype(np.float32) for margin in margins]
    examples = [Example(((f"text {row}",),), int(label)) for row, label in enumerate(labels)]
    task = replace(TASK, name=f"drawn {draw.random()}", load=lambda split: examples)
    return SelectionSlice(task, logits, [1.0, 4.0], per_candidate=False)


def test_margin_halves_how_often_more_is_lost_elsewhere_than_on_the_slice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rules that are chosen on 400 examples, applied to 20,000 others of the same distribution."""
    monkeypatch.setattr("harness.optimize.thresholds.MAX_RULES", 60)
    draw = np.random.default_rng(0)
    population = draw_two_stages(draw, 20_000)
    slices = [draw_two_stages(draw, 400) for _ in range(60)]

    def count_losses() -> int:
        losses = 0
        for selection in slices:
            chosen = selection.choose_rule("probability", 0.01, 0.0, per_stage=False)
            rule = ExitRule.from_dict(chosen["rule"], 2, "chosen")
            never = replace(rule, thresholds=(NEVER,))
            full, result = population.apply_rule(never), population.apply_rule(rule)
            losses += full.score - result.score > 0.01
        return losses

    with_margin = count_losses()
    monkeypatch.setattr(SelectionSlice, "estimate_error", lambda *_: 0.0)
    assert with_margin < 0.6 * count_losses()


def test_fitted_temperature_is_the_one_the_logits_were_drawn_with() -> None:
    draw = np.random.default_rng(0)
    logits = draw.normal(size=(20_000, 2)).astype(np.float32) * 2
    chances = 1 / (1 + np.exp(logits[:, 0] - logits[:, 1]))
    labels = (draw.random(20_000) < chances).astype(int)
    assert fit_temperature(logits * 3, labels) == pytest.approx(3, rel=0.05)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=8), st.integers(0, 1000))
def test_every_example_is_answered_once_with_its_own_candidates(
    counts: list[int], seed: int
) -> None:
    draw = np.random.default_rng(seed)
    owner = np.repeat(np.arange(len(counts)), counts)
    logits = draw.normal(size=(3, len(owner), 2)).astype(np.float32) * 3
    rows_by_stage: list[list[int]] = []

    def score_rows(stage: int, rows: Any) -> Any:
        rows_by_stage.append(rows.tolist())
        return logits[stage][np.isin(owner, rows)]

    rule = ExitRule("probability", (1.0, 2.0, 0.5), (0.9, 0.8))
    result, left = run_stages(rule, counts, score_rows)
    assert sum(left) == len(counts)
    for example, count in enumerate(counts):
        places = np.flatnonzero(owner == example)
        stage = max(number for number, rows in enumerate(rows_by_stage) if example in rows)
        expected = logits[stage][places] / rule.temperatures[stage]
        np.testing.assert_allclose(result[places], expected, rtol=1e-6)
        for before in range(stage):
            scores = logits[before][places] / np.float32(rule.temperatures[before])
            assert compute_confidence(scores, [count])[0] < rule.thresholds[before]


def test_choice_has_the_confidence_of_its_best_candidate() -> None:
    scores = np.array([[0, 2], [0, 0], [1, 0], [3, 0]], np.float32)
    sure = compute_confidence(scores, [3, 1])
    margins = np.exp([2, 0, -1])
    np.testing.assert_allclose(
        sure, [margins[0] / margins.sum(), np.exp(3) / (1 + np.exp(3))], 1e-5
    )
    assert compute_confidence(np.zeros((1, 2), np.float32), [1], entropy=True)[0] == pytest.approx(
        0, abs=1e-6
    )


STEP = '[[step]]\nuse = "cascade"\nmax_drop = 0.02\n'
SERVE = 'engine = "cascade"\n'


def manifest(project: Path, members: str, serve: str = SERVE) -> Path:
    folder = write_submission(project, STEP, serve, "both")
    path = folder / "submission.toml"
    text = path.read_text()
    before, _, after = text.partition("[model]\n")
    path.write_text(f"{before}[model]\nmembers = [{members}]\n{after.partition(chr(10))[2]}")
    return folder


def test_key_of_a_cascade_depends_on_its_members(project: Path) -> None:
    keys = []
    for members in ('"tfidf-logreg", "minilm-l6"', '"majority", "minilm-l6"'):
        system = read_system(manifest(project, members), project)
        steps = plan_system(system, get_task("sentiment"), 0).steps
        assert [step.use for step in steps[-2:]] == ["finetune", "cascade"]
        keys.append(steps[-1].key)
    assert len(set(keys)) == 2


@pytest.mark.parametrize(
    ("members", "serve", "fault"),
    [
        ('"tfidf-logreg"', SERVE, "at least two different systems"),
        ('"tfidf-logreg", "null"', SERVE, "null has no artifact"),
        ('"tfidf-logreg", "minilm"', SERVE, "'minilm' does not exist.*minilm-l6"),
        ('"tfidf-logreg", "both"', SERVE, "both -> both is a cycle"),
        ('"tfidf-logreg", "majority"', 'engine = "onnxruntime"\n', "cannot serve cascade"),
        ('"tfidf-logreg", "majority"', SERVE + "threshold = 0\n", "threshold = 0: choose"),
        (
            '"tfidf-logreg", "majority"',
            SERVE + '[serve.points]\nfast = "soon"\n',
            r"\[serve.points\] fast = 'soon'",
        ),
        (
            '"tfidf-logreg", "majority"',
            SERVE + "[serve.points]\nseed1 = 0.5\n",
            r"'seed1': the rows of further training seeds are called so",
        ),
        (
            '"tfidf-logreg", "majority"',
            SERVE + "[serve.points]\nfast = 0.5\nFast = 0.6\n",
            r"'fast' and 'Fast' differ in case alone",
        ),
        (
            '"tfidf-logreg", "majority"',
            SERVE + '[serve.points]\n"a@b" = 0.5\n',
            r"'a@b': use up to 100 letters",
        ),
    ],
)
def test_faults_are_reported_before_anything_is_built(
    project: Path, members: str, serve: str, fault: str
) -> None:
    with pytest.raises(ManifestError, match=fault):
        read_system(manifest(project, members, serve), project)


def test_points_are_refused_without_early_exits(project: Path) -> None:
    steps = '[[step]]\nuse = "export"\n'
    serve = 'engine = "onnxruntime"\nthreshold = 0.9\n[serve.points]\nfast = 0.5\n'
    with pytest.raises(ManifestError) as caught:
        read_system(write_submission(project, steps, serve, "plain"), project)
    assert str(caught.value).count("this system has no early exits") == 2


def test_never_threshold_is_infinite() -> None:
    assert ExitRule.from_dict(
        {"criterion": "entropy", "temperatures": [1.0, 1.0]}, 2, "chosen"
    ) == ExitRule("entropy", (1.0, 1.0), (NEVER,))


@pytest.mark.parametrize("spin", [True, False])
def test_sessions_of_the_members_spin_as_the_cascade_is_set_until_the_call_ends(
    artifact: Artifact, spin: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("session.intra_op.allow_spinning", "session.force_spinning_stop")
    entries: list[list[str]] = []
    create = onnxruntime.InferenceSession

    def note(path: Any, options: Any, **others: Any) -> Any:
        entries.append([options.get_session_config_entry(name) for name in names])
        return create(path, options, **others)

    monkeypatch.setattr(onnxruntime, "InferenceSession", note)
    load_engine(artifact, spin=spin)
    assert entries == [[str(int(spin)), "1"]]
