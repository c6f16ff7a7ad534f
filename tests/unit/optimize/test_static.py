"""The static student: training and serving."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from harness.engines import registry
from harness.engines.base import EngineConfig, ServeConfig
from harness.engines.static import StaticEngine
from harness.models import hashed_features
from harness.models import static as static_model
from harness.models.static import FeatureSpec, StaticSpec
from harness.optimize import static
from harness.optimize.base import Artifact, Inputs, StepContext
from harness.optimize.training import static_student
from harness.tasks.task import Example
from tests.support.faults import TINY, step_faults
from tests.support.words import STATIC, TASK, share_right


def load_engine(artifact: Artifact, **serve: int) -> StaticEngine:
    result = registry.load_engine(
        EngineConfig(artifact.folder, artifact.engine_metadata, ServeConfig("static", **serve), 2)
    )
    assert isinstance(result, StaticEngine)
    return result


def test_student_learns_the_teachers_answers(student: Artifact) -> None:
    result = load_engine(student).scores(
        [example.candidates for example in TASK.examples("validation")]
    )
    assert share_right(result) > 0.95
    losses = [epoch["loss"] for epoch in student.metadata.details["training"]]
    assert losses[-1] < losses[0]


def test_same_seed_gives_the_same_table(
    student: Artifact, finetuned: Artifact, tmp_path: Path
) -> None:
    static.run(Inputs(finetuned, teacher=finetuned), TASK, STATIC, StepContext(tmp_path, 0, 1))
    arrays = [np.load(folder / "weights.npz")["table"] for folder in (student.folder, tmp_path)]
    np.testing.assert_array_equal(*arrays)
    assert arrays[0].dtype == np.int8


def test_words_are_initialised_with_the_teachers_vectors(finetuned: Artifact) -> None:
    from harness.optimize.training import encoders

    teacher, tokenizer = encoders.load_model(finetuned, TASK)
    spec = StaticSpec(1, FeatureSpec(1 << 16, 3, (4,)))
    model = static_student.StaticStudent(spec, 8, 4, 2)
    static_student.initialize_words(
        model, [("good bad warm quick film",), ("dull",)], teacher, tokenizer, 1 << 16
    )
    result = hashed_features.hash_features(["good", "never"], 1 << 16, 1, ())
    known, unknown = model.table.weight.data[result.ids]
    assert float(known.abs().sum()) > 0
    assert float(unknown.abs().sum()) == 0, "the row of a word in no text stays zero"


@pytest.mark.parametrize("sides", [1, 2])
def test_engine_computes_what_was_trained(sides: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    spec = StaticSpec(sides, FeatureSpec(512, 2, (3,)))
    model = static_student.StaticStudent(spec, 8, 4, 3)
    scale = 1 / 127
    model.table.weight.data = torch.randint(-127, 128, (512, 8)).float() * scale
    model.table.weight.data[0] = 1.0  # so that int8 represents the table exactly
    static_model.save(spec, model.quantize(), tmp_path)
    texts = [("a good film", "is it good"), ("dull", "no"), ("", "x")]
    rows = [text[:sides] for text in texts]
    data = static_student.HashedRows(rows, spec)
    with torch.inference_mode():
        expected = model(*data.batch([0, 1, 2], 0.0, np.random.default_rng(0))).numpy()
    result = StaticEngine(EngineConfig(tmp_path, {}, ServeConfig("static"), 1)).scores(
        [[row] for row in rows]
    )
    np.testing.assert_allclose(result, expected, atol=1e-5)
    assert static_model.load(tmp_path).spec == spec


def test_instances_share_the_work_and_agree(student: Artifact) -> None:
    examples = [example.candidates for example in TASK.examples("train")] * 3
    single, double = (load_engine(student, instances=count).scores(examples) for count in (1, 2))
    np.testing.assert_allclose(single, double, atol=1e-6)


def test_instances_divide_the_threads_of_blas(student: Artifact) -> None:
    with threadpool_limits(2, "blas"):  # which also restores what was set before
        for instances, threads in ((2, {1}), (1, {2})):
            load_engine(student, instances=instances)
            found = {
                info["num_threads"] for info in threadpool_info() if info["user_api"] == "blas"
            }
            assert found == threads


def test_every_candidate_of_a_choice_has_scores(student: Artifact) -> None:
    choice = Example((("quick", "a"), ("quick", "b"), ("quick", "c")), 1)
    assert load_engine(student).scores([choice.candidates, [["bad"]]]).shape == (4, 2)


@pytest.mark.parametrize(
    ("change", "fault"),
    [({"buckets": 0}, "buckets"), ({"letters": [1]}, "2..8"), ({"dropout": 1.0}, "below 1")],
)
def test_faults_are_reported(change: dict[str, object], fault: str) -> None:
    faults = step_faults(static.STEP, change, replace(TINY, teacher=TINY))
    assert len(faults) == 1
    assert fault in faults[0]
    assert "teacher" in step_faults(static.STEP, {})[0]
