"""Which tasks a command's options name."""

from pathlib import Path

import pytest

from harness.cli.main import main
from harness.cli.selection import systems, tasks
from harness.cli.usage import parser
from harness.errors import HarnessError

TASK = """
name = "{name}"
title = "Mine"
labels = ["neg", "pos"]
metric = "accuracy"
[fields]
text = "text"
label = "label"
[splits]
train = "rows.jsonl"
validation = "rows.jsonl"
"""


def declared(folder: Path, name: str = "mine") -> Path:
    folder.mkdir()
    (folder / "rows.jsonl").write_text('{"text": "a", "label": "neg"}\n')
    (folder / "task.toml").write_text(TASK.format(name=name))
    return folder / "task.toml"


def test_two_tasks_of_one_name_are_refused(tmp_path: Path) -> None:
    one, other = declared(tmp_path / "v1"), declared(tmp_path / "v2")
    said = rf"{one} and {other} are two tasks of one name, 'mine'. Change `name` in one of them"
    with pytest.raises(HarnessError, match=said):
        tasks([str(one), "rte", str(other)])


def test_task_that_is_named_twice_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = declared(tmp_path / "v1")
    (tmp_path / "link.toml").symlink_to(one)
    monkeypatch.chdir(tmp_path)
    names = [
        str(one),
        "rte",
        "v1/task.toml",
        "rte",
        "link.toml",
        str(tmp_path / "v1/../v1/task.toml"),
    ]
    assert [each.name for each in tasks(names)] == ["mine", "rte"]
    assert len(tasks([str(one), str(declared(tmp_path / "v2", "other"))])) == 2


def test_commands_refuse_two_tasks_of_one_name(
    project: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    both = [str(declared(tmp_path / name)) for name in ("v1", "v2")]
    monkeypatch.chdir(project)
    options = ["--task", both[0], "--task", both[1]]
    commands = [["run"], ["bench"], ["build"], ["audit", "onnx-int8"]]
    commands = [*([*each, *options] for each in commands), ["tasks", *both]]
    for command in commands:
        assert main(command) == 2, command
        assert "are two tasks of one name, 'mine'" in capsys.readouterr().err
    assert not (project / "results").exists()


def test_system_that_is_named_twice_is_one(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    command = ["run", "--system", "onnx-int8", "--system", "submissions/onnx-int8"]
    options = parser().parse_args([*command, "--system", f"{project}/submissions/onnx-int8"])
    names = [each.name for each in systems(options, project)[0]]
    assert sorted(names) == ["minilm-l6", "minilm-l6-unpadded", "null", "onnx-int8"]
