"""Predictions for the server, from the worker's own answers."""

import json
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.errors import HarnessError
from harness.runner.predict import predict, predict_suite
from harness.submissions.manifest import read_system
from harness.submissions.plan import plan_system
from harness.submissions.system import System
from harness.tasks.registry import get_suite, get_task
from harness.telemetry.configuration import configurations
from tests.support.systems import REPOSITORY, build

CPU = configurations()["cpu-1"]


@pytest.fixture
def majority() -> System:
    return read_system(REPOSITORY / "baselines" / "majority", REPOSITORY)


@pytest.mark.parametrize("name", [*get_suite("superglue").tasks, "axb", "axg"])
def test_each_task_has_its_file(data: Path, tmp_path: Path, name: str, majority: System) -> None:
    task = get_task(name)
    build(majority, task)
    path = predict(plan_system(majority, task, 0), "test", CPU, tmp_path)
    assert path == tmp_path / f"{task.archive}.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    examples = task.examples("test")
    if name == "multirc":
        assert [line["idx"] for line in lines] == list(dict.fromkeys(e.group for e in examples))
        answers = [
            answer
            for line in lines
            for question in line["passage"]["questions"]
            for answer in question["answers"]
        ]
        assert len(answers) == len(examples)
        return
    numbers = [example.idx[0] if name == "record" else example.idx for example in examples]
    assert [line["idx"] for line in lines] == numbers
    if name == "record":
        assert all(
            line["label"] == example.idx[1][0]
            for line, example in zip(lines, examples, strict=True)
        )
    elif name == "copa":
        assert {line["label"] for line in lines} == {0}
    else:
        labels = Counter(example.label for example in task.examples("train"))
        most = task.labels[max(labels, key=lambda label: (labels[label], -label))]
        assert {line["label"].lower() for line in lines} == {most}


def test_validation_and_a_file_name_may_be_asked_for(
    data: Path, tmp_path: Path, majority: System
) -> None:
    build(majority, get_task("rte"))
    path = predict(
        plan_system(majority, get_task("rte"), 0), "validation", CPU, tmp_path / "mine.jsonl"
    )
    assert path == tmp_path / "mine.jsonl"
    assert len(path.read_text().splitlines()) == len(get_task("rte").examples("validation"))


def test_task_that_is_not_declared_is_refused(data: Path, project: Path, tmp_path: Path) -> None:
    manifest = project / "baselines" / "majority" / "submission.toml"
    manifest.write_text(manifest.read_text().replace('["any"]', '["cb"]'))
    system = read_system(manifest.parent, project)
    with pytest.raises(HarnessError, match="majority does not declare rte"):
        predict(plan_system(system, get_task("rte"), 0), "test", CPU, tmp_path)


@pytest.mark.parametrize("name", ["new/", "new", "deep/er/"])
def test_folder_that_is_not_there_yet_holds_a_file_a_task(
    data: Path, tmp_path: Path, majority: System, name: str
) -> None:
    out = f"{tmp_path}/{name}"
    for task in map(get_task, ("rte", "cb")):
        build(majority, task)
        predict(plan_system(majority, task, 0), "test", CPU, out)
    assert sorted(path.name for path in Path(out).iterdir()) == ["CB.jsonl", "RTE.jsonl"]


def test_folder_below_a_file_is_refused(data: Path, tmp_path: Path, majority: System) -> None:
    (tmp_path / "taken").write_text("mine")
    build(majority, get_task("rte"))
    with pytest.raises(HarnessError, match=r"RTE.jsonl cannot be written: .*Choose another path"):
        predict(plan_system(majority, get_task("rte"), 0), "test", CPU, f"{tmp_path}/taken/")
    assert (tmp_path / "taken").read_text() == "mine"


def test_suite_is_answered_where_it_is_built_and_packed(
    data: Path, tmp_path: Path, majority: System
) -> None:
    for name in ("rte", "copa"):
        build(majority, get_task(name))
    lines: list[str] = []
    suite = get_suite("superglue")
    path = predict_suite(majority, suite, "test", CPU, tmp_path / "out", log=lines.append)
    assert path == tmp_path / "out" / "superglue.zip"
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["COPA.jsonl", "RTE.jsonl", "AX-b.jsonl", "AX-g.jsonl"]
        for member in archive.namelist():
            assert archive.read(member) == (tmp_path / "out" / member).read_bytes()
    left_out = [line for line in lines if line.startswith("left out")]
    assert len(left_out) == 6
    assert "wattbench build --system majority --task boolq" in left_out[0]
    assert lines[-1] == "4 of 10 files: COPA, RTE, AX-b, AX-g"


def test_suite_without_anything_built_writes_nothing(
    data: Path, tmp_path: Path, majority: System
) -> None:
    with pytest.raises(HarnessError, match="wattbench build --suite superglue --system majority"):
        predict_suite(majority, get_suite("superglue"), "test", CPU, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("options", [[], ["--task", "rte", "--suite", "superglue"]])
def test_task_or_suite_is_named(
    project: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", "majority", *options]) == 2
    assert "give --task NAME for one task, or --suite NAME" in capsys.readouterr().err
