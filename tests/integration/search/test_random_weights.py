"""Students with random weights."""

from pathlib import Path

import pytest

from harness.optimize.base import Artifact
from harness.search.candidate import Shape, Size
from harness.search.random_weights import write_random_artifacts
from tests.support.words_task import write_words_task

pytestmark = pytest.mark.slow


def test_a_student_that_fails_leaves_the_others(
    tmp_path: Path, cache: Path, finetuned: Artifact
) -> None:
    task, out, lines = write_words_task(tmp_path / "words"), tmp_path / "out", []
    out.mkdir()
    shapes = [
        Shape(Size(1, 2, 32), "onnxruntime-int8"),
        Shape(Size(1, 4, 64, "no-encoder"), "onnxruntime-int8"),
        Shape(Size(2, 4, 64), "onnxruntime-fp32"),
    ]
    small, missing, large = write_random_artifacts(
        shapes, finetuned.folder, str(task), True, out, 1, lines.append
    )
    assert small is not None
    assert missing is None
    assert large is not None
    assert [artifact.metadata.model["layers"] for artifact in (small, large)] == [1, 2]
    (line,) = lines
    assert line.startswith("left out: a student of 1 layers as onnxruntime-int8: ")
    assert "no-encoder" in line


def test_a_process_that_ends_at_once_is_one_line_for_each_student(
    tmp_path: Path, cache: Path, finetuned: Artifact
) -> None:
    lines: list[str] = []
    shapes = [Shape(Size(1, 2, 32), "onnxruntime-int8"), Shape(Size(2, 2, 32), "onnxruntime-int8")]
    absent = tmp_path / "absent"
    arguments = str(write_words_task(tmp_path / "words")), True, absent, 1, lines.append
    assert write_random_artifacts(shapes, finetuned.folder, *arguments) == [None, None]
    assert len(lines) == 2
    assert "FileNotFoundError" in lines[0]
