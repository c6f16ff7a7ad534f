"""Systems that a search makes of students."""

from pathlib import Path
from typing import Any, cast

import pytest
import tomli_w

from harness.search.candidate import (
    FormName,
    Shape,
    Size,
    Training,
    make_manifest,
    make_recipe,
)
from harness.search.combinations import (
    list_cascades,
    make_cascade_manifest,
    make_exit_manifest,
)
from harness.search.found import STATIC, STUDENT, Found, FoundSystems
from harness.search.request import SearchRequest
from harness.search.scoring import SelectionScore
from harness.search.speed import Speed
from harness.submissions.manifest import read_system
from tests.support.systems import load_systems

TRAINING = Training(3, 1, 2.0, 1e-4)


class Request:
    """As much of a request as the function reads."""

    def __init__(self, workspace: Path) -> None:
        self.workspace = workspace

    def get_folder(self, name: str) -> Path:
        return self.workspace / name


def make_exits(project: Path, form: FormName, batch: int = 1, layers: int = 2) -> Any:
    (reference,) = load_systems(project, ["minilm-l6"])
    shape = Shape(Size(layers, 4, 64), form, batch, "per-core")
    manifest = make_manifest(
        "student",
        {"teacher": "minilm-l6"},
        make_recipe(shape, TRAINING, reference.spec, False),
        shape.serve,
        "sentiment",
    )
    folder = project / "submissions" / "student"
    folder.mkdir()
    (folder / "submission.toml").write_text(tomli_w.dumps(manifest))
    student = Found(
        "student",
        STUDENT,
        shape.describe(),
        60,
        SelectionScore(0.9, 0.01, 1, 0, 1),
        Speed(9, 9, 9, 9),
    )
    request = cast(SearchRequest, Request(project / "submissions"))
    exits = make_exit_manifest(request, student)
    if exits:
        (folder / "submission.toml").write_text(tomli_w.dumps(exits))
        read_system(folder, project)  # and it is a faultless manifest
    return exits


@pytest.mark.parametrize("form", ["onnxruntime-int8", "onnxruntime-int8-static"])
def test_exits_of_an_int8_student_are_dynamic_and_answer_one_text_at_a_time(
    project: Path, form: FormName
) -> None:
    exits = make_exits(project, form, 16 if form.endswith("static") else 1)
    assert [step["use"] for step in exits["step"]][-4:] == [
        "exits",
        "export",
        "quantize",
        "calibrate",
    ]
    assert "method" not in exits["step"][-2]
    assert exits["serve"]["offline"] == {
        "batch": 1,
        "order": "given",
        "tokens": 0,
        "instances": "per-core",
    }


def test_exits_of_an_fp32_student_keep_its_batches(project: Path) -> None:
    exits = make_exits(project, "onnxruntime-fp32", 16)
    assert "quantize" not in [step["use"] for step in exits["step"]]
    assert exits["serve"]["offline"]["batch"] == 16


def test_one_layer_has_no_exits(project: Path) -> None:
    assert make_exits(project, "onnxruntime-int8", layers=1) is None


def test_openvino_has_no_exits(project: Path) -> None:
    assert make_exits(project, "openvino-int8") is None


def make_found(name: str, speedup: float, score: float, form: FormName | None = None) -> Found:
    """A student in a form, or a static system."""
    shape = Shape(Size(2, 4, 64), form or "onnxruntime-fp32", 16)
    return Found(
        name,
        STUDENT if form else STATIC,
        shape.describe() if form else {},
        60,
        SelectionScore(score, 0.01, score, score - 0.8, score),
        Speed(speedup, speedup, 9, 9),
    )


def test_cascades_have_one_or_both_of_the_fastest_systems_before_the_best_student() -> None:
    static, small, best, large = (
        make_found("static", 900, 0.7),
        make_found("small", 80, 0.75, "onnxruntime-int8-static"),
        make_found("best", 40, 0.85, "onnxruntime-int8-static"),
        make_found("large", 20, 0.9, "onnxruntime-fp32"),
    )
    pointless = make_found("pointless", 70, 0.72, "onnxruntime-fp32")
    systems = {found.name: found for found in (large, pointless, best, static, small)}
    cascades = [*list_cascades(FoundSystems(Path(), systems), [best, large])]
    assert cascades == [(static, best), (small, best), (static, small, best)]
    assert not [*list_cascades(FoundSystems(Path(), systems), [])]


@pytest.mark.parametrize(
    ("form", "batch"), [("onnxruntime-int8-static", 16), ("onnxruntime-int8", None)]
)
def test_a_cascade_has_the_batches_of_its_last_member_if_no_answer_depends_on_them(
    tmp_path: Path, form: FormName, batch: int | None
) -> None:
    class Task:
        address = "sentiment"

    request = Request(tmp_path)
    request.task = Task()  # type: ignore[attr-defined]
    last = make_found("last", 40, 0.85, "onnxruntime-int8-static")
    shape = Shape(Size(2, 4, 64), "onnxruntime-int8-static", 16, "per-core")
    (tmp_path / "last").mkdir()
    (tmp_path / "last" / "submission.toml").write_text(tomli_w.dumps({"serve": shape.serve}))
    members = [make_found("static", 900, 0.7), make_found("first", 80, 0.75, form), last]
    manifest = make_cascade_manifest(cast(SearchRequest, request), members)
    assert manifest["model"]["members"] == ["../static", "../first", "../last"]
    assert manifest["title"] == "cascade of static, first and last"
    assert manifest["serve"]["offline"].get("batch") == batch
    assert manifest["serve"]["offline"]["instances"] == "per-core"
