"""The space of a search, and what it makes of a teacher."""

import tomllib
from pathlib import Path
from typing import get_args

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import HarnessError
from harness.models.model_spec import ModelSpec
from harness.search import space as space_module
from harness.search.candidate import (
    FORMS,
    FormName,
    Shape,
    Size,
    Training,
    drop_slower,
    make_manifest,
    make_recipe,
)
from harness.search.space import DEFAULT_SPACE, read_space
from harness.submissions.manifest import read_system

TEACHER = ModelSpec("safetensors", "teacher", layers=6, width=384, heads=12, ffn=1536)
TRAINING = Training(3, 1, 2.0, 1e-4)


def write_space(folder: Path, **changes: object) -> str:
    path = folder / "space.toml"
    path.write_text(tomli_w.dumps(changes))
    return str(path)


def test_forms_have_the_names_that_a_space_may_use() -> None:
    assert tuple(FORMS) == get_args(FormName)


def test_sizes_are_those_that_the_teacher_can_be_cut_to(tmp_path: Path) -> None:
    sizes = [{"heads": 0, "ffn": 0}, {"heads": 8, "ffn": 768}, {"heads": 16, "ffn": 768}]
    space = read_space(write_space(tmp_path, layers=[2, 6, 12], sizes=sizes))
    assert set(space.list_sizes(TEACHER)) == {
        Size(2, 12, 1536),
        Size(2, 8, 768),
        Size(6, 12, 1536),
        Size(6, 8, 768),
    }


def test_another_encoder_to_start_from_keeps_its_own_layers_and_heads(tmp_path: Path) -> None:
    large = ModelSpec("safetensors", "teacher", layers=12, width=768, heads=12, ffn=3072)
    path = write_space(
        tmp_path, layers=[2], students=["all-MiniLM-L6-v2"], sizes=[{"heads": 0, "ffn": 0}]
    )
    assert read_space(path).list_sizes(large) == [
        Size(2, 12, 3072),
        Size(6, 12, 1536, "all-MiniLM-L6-v2"),
    ]


def test_a_space_without_a_student_is_refused(tmp_path: Path) -> None:
    space = read_space(write_space(tmp_path, layers=[8], static=False))
    with pytest.raises(HarnessError, match=r"no student that is smaller than the teacher \(6"):
        space.list_sizes(TEACHER)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("forms", ["onnxruntime-int4"], "forms"),
        ("layer", [2], "unknown key 'layer'. Did you mean 'layers'?"),
        ("layers", [0], "layers"),
        ("augment", [21], "augment"),
        ("epochs", [3, 1], "name each number once, in order"),
        ("sizes", [{"heads": 8}], "ffn is missing"),
        ("temperature", [0.0], "temperature"),
        ("batches", [], "batches"),
    ],
)
def test_a_fault_is_one_message_that_names_the_key(
    tmp_path: Path, key: str, value: object, message: str
) -> None:
    with pytest.raises(HarnessError) as caught:
        read_space(write_space(tmp_path, **{key: value}))
    assert message in str(caught.value)
    assert str(tmp_path / "space.toml") in str(caught.value)


def test_batches_are_left_to_forms_whose_answers_do_not_depend_on_them(tmp_path: Path) -> None:
    path = write_space(
        tmp_path, forms=["onnxruntime-int8", "onnxruntime-fp32"], batches=[1, 8], instances=[1]
    )
    servings = read_space(path).list_servings(Size(2, 8, 768))
    assert [(shape.form, shape.batch) for shape in servings] == [
        ("onnxruntime-int8", 1),
        ("onnxruntime-fp32", 1),
        ("onnxruntime-fp32", 8),
    ]


def test_forms_of_a_library_that_is_missing_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(space_module, "find_spec", lambda name: None)
    assert not any(form.startswith("openvino") for form in read_space().list_forms())


def list_shapes(**changes: object) -> list[Shape]:
    space = read_space().model_copy(update=changes)
    return [shape for size in space.list_sizes(TEACHER) for shape in space.list_servings(size)]


def test_every_shape_of_the_default_space_is_a_valid_manifest(tmp_path: Path) -> None:
    folder = tmp_path / "submissions" / "student"
    folder.mkdir(parents=True)
    shapes = list_shapes(forms=tuple(FORMS))
    assert {shape.form for shape in shapes} >= set(
        tomllib.loads(DEFAULT_SPACE.read_text())["forms"]
    )
    for shape in shapes:
        recipe = make_recipe(shape, TRAINING, TEACHER, vocabulary=True)
        manifest = make_manifest("a", {"teacher": "minilm-l6"}, recipe, shape.serve, "sentiment")
        (folder / "submission.toml").write_text(tomli_w.dumps(manifest))
        system = read_system(folder, tmp_path)
        assert (system.spec.layers, system.spec.heads, system.spec.ffn) == (
            shape.size.layers,
            shape.size.heads,
            shape.size.ffn,
        )
        assert system.serve["offline"].batch == shape.batch
        assert system.serve["single_stream"].batch == 1


def test_a_student_is_pruned_only_where_it_is_narrower_than_its_start() -> None:
    uses = {
        size: [
            step["use"]
            for step in make_recipe(Shape(size, "onnxruntime-int8"), TRAINING, TEACHER, True)
        ]
        for size in (Size(3, 12, 1536), Size(3, 8, 768))
    }
    assert uses[Size(3, 12, 1536)] == ["distill", "vocabulary", "export", "quantize"]
    assert uses[Size(3, 8, 768)] == [
        *("distill", "vocabulary", "prune", "distill", "export", "quantize"),
    ]


SHAPES = st.builds(
    Shape,
    st.builds(Size, st.integers(1, 4), st.sampled_from((4, 8)), st.sampled_from((256, 512))),
    st.sampled_from(tuple(FORMS)),
)


@given(st.dictionaries(SHAPES, st.floats(1, 100), min_size=1))
def test_only_pointless_shapes_are_dropped(speeds: dict[Shape, float]) -> None:
    def makes_pointless(other: Shape, shape: Shape) -> bool:
        return (
            other != shape
            and speeds[other] >= speeds[shape]
            and other.size.covers(shape.size)
            and FORMS[other.form].fidelity >= FORMS[shape.form].fidelity
        )

    kept = drop_slower(speeds)
    assert [speeds[shape] for shape in kept] == sorted(map(speeds.get, kept), reverse=True)  # type: ignore[type-var]
    for shape in speeds.keys() - set(kept):
        assert any(makes_pointless(other, shape) for other in kept)
    for shape in kept:
        strictly = [other for other in kept if speeds[other] > speeds[shape]]
        assert not any(makes_pointless(other, shape) for other in strictly)
