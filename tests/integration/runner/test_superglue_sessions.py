"""Tasks of SuperGLUE from the files of the archive to the leaderboard, on a tiny model."""

from pathlib import Path

import pytest

from harness.reports.results_folder import write_board
from harness.tasks.registry import get_task
from harness.tasks.task import _load_examples
from tests.support import superglue_files
from tests.support.systems import build_and_measure


@pytest.mark.parametrize(
    ("name", "parts", "queries"),
    [("record", ("F1", "EM"), 32), ("multirc", ("F1a", "EM"), 32 * 5)],
)
def test_a_sample_of_the_task_is_trained_measured_and_scored(
    name: str, parts: tuple[str, str], queries: int, project: Path, data: Path
) -> None:
    """32 passages of each split: of `record` with a query each, of `multirc` with five answers."""
    sample = superglue_files.write_superglue(data / "sample", train=32, count=32)
    for split in ("train", "val", "test"):
        path = f"{get_task(name).archive}/{split}.jsonl"
        (sample / path).replace(data / path)
    _load_examples.cache_clear()
    systems = ("minilm-l6", "minilm-l6-unpadded", "onnx-int8", "majority")
    records = build_and_measure(project, systems, get_task(name))
    assert set(records) == set(systems)
    for record in records.values():
        assert record.failure is None
        assert record.score is not None
        assert tuple(record.score["parts"]) == parts
        assert 0 <= record.score["value"] <= 1
        for played in record.rounds:
            assert played.examples / played.repeats == pytest.approx(queries, rel=0.02)
    write_board(project / "results")
    heading = f"{queries} examples (mean of {' and '.join(parts)})"
    assert heading in (project / "results" / "README.md").read_text()
