"""Which tasks and systems the options of a command name."""

import shutil
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.cli.options import SystemOptions
from harness.cli.resolve import make_session_plan, select_tasks
from harness.errors import HarnessError
from tests.support.systems import REPOSITORY

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
        select_tasks([str(one), "rte", str(other)])


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
    assert [task.name for task in select_tasks(names)] == ["mine", "rte"]
    assert len(select_tasks([str(one), str(declared(tmp_path / "v2", "other"))])) == 2


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
    commands = [*([*command, *options] for command in commands), ["tasks", *both]]
    for command in commands:
        assert main(command) == 2, command
        assert "are two tasks of one name, 'mine'" in capsys.readouterr().err
    assert not (project / "results").exists()


def test_system_that_is_named_twice_is_one(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    names = ["onnx-int8", "submissions/onnx-int8", f"{project}/submissions/onnx-int8"]
    plan, _ = make_session_plan(SystemOptions(systems=names), project, project / "results")
    assert sorted(planned.system.name for planned in plan.systems) == [
        *("minilm-l6", "minilm-l6-unpadded", "null", "onnx-int8"),
    ]


def test_names_that_differ_in_case_alone_are_one_name(project: Path, tmp_path: Path) -> None:
    shutil.copytree(project / "submissions" / "onnx-int8", tmp_path / "Null")
    options = SystemOptions(systems=[str(tmp_path / "Null")])
    with pytest.raises(HarnessError, match=rf"{tmp_path}/Null.*/null. Rename one"):
        make_session_plan(options, project, project / "results")
    both = [str(declared(tmp_path / name, name)) for name in ("mine", "Mine")]
    with pytest.raises(HarnessError, match=r"are two tasks of one name"):
        select_tasks(both)


def test_submission_is_checked_by_its_name_or_folder(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project)
    for name in ("onnx-int8", "submissions/onnx-int8"):
        assert main(["check", name]) == 0
        assert "submissions/onnx-int8: OK." in capsys.readouterr().out
    assert main(["check", "onnx-int9"]) == 2
    assert "no such folder, and no system of this name" in capsys.readouterr().err


def test_folder_that_is_called_like_a_reference_does_not_replace_it(
    project: Path, tmp_path: Path
) -> None:
    shutil.copytree(project / "baselines" / "minilm-l6", tmp_path / "minilm-l6")
    options = SystemOptions(systems=[str(tmp_path / "minilm-l6")])
    with pytest.raises(HarnessError, match="two systems are called minilm-l6"):
        make_session_plan(options, project, project / "results")


def plan_names(options: SystemOptions, results: Path) -> set[str]:
    plan, _ = make_session_plan(options, REPOSITORY, results)
    return {planned.system.name for planned in plan.systems}


def test_systems_for_gpus_are_left_out_on_a_cpu_and_refused_by_name(tmp_path: Path) -> None:
    everything = SystemOptions(all_systems=True)
    on_cpu = plan_names(everything, tmp_path)
    on_gpu = SystemOptions(configuration="gpu-1")
    by_default = plan_names(on_gpu, tmp_path)
    assert "fastformers" in on_cpu
    assert not any(name.startswith("cuda-") for name in on_cpu)
    assert {"minilm-l6", "null", "cuda-fp16", "cuda-fp16-compiled"} <= by_default
    for name in ("cuda-fp16", str(REPOSITORY / "submissions/cuda-fp16")):
        with pytest.raises(HarnessError, match="'cuda-fp16' needs a GPU configuration"):
            make_session_plan(SystemOptions(systems=[name]), REPOSITORY, tmp_path)
