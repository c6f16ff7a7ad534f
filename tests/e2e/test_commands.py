"""Commands that build and measure, from their arguments to their tables."""

import json
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.cli.options import SessionOptions
from harness.cli.resolve import restore_options
from harness.results import record
from harness.tasks.task import Task
from tests.support.checkpoints import save_checkpoint
from tests.support.systems import copy_example

pytestmark = pytest.mark.usefixtures("here")


@pytest.fixture
def here(built_project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(built_project)
    return built_project


def test_bench_with_an_audit_ranks_the_honest_and_not_the_cheat(
    here: Path, reviews: Task, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("honest", "cheat"):
        copy_example(here, copy=name)
    model = here / "submissions" / "cheat" / "model.py"
    model.write_text(
        model.read_text() + "\n    def predict(self, examples):\n"
        "        return [len(example[0][0]) // 7 % 2 for example in examples]\n"
    )
    command = ["bench", "--smoke", "--configuration", "cpu-1", "--task", reviews.address]
    command += ["--system", "honest", "--system", "cheat"]
    assert main([*command, "--audit"]) == 0
    out = capsys.readouterr().out
    assert "FAIL  text" in out
    results = here / "results" / "smoke"
    (path,) = results.glob("records/*/reviews/offline/cheat.json")
    audit = record.read_record(path).audit
    assert audit
    assert (audit["passed"], audit["failed"]) == (False, ["text"])
    board = (results / "README.md").read_text()
    assert "cheat failed its audit and is not ranked: text: length-only" in board
    assert "Passed the audit: honest" in board
    assert "Smoke run: its windows are shorter than the standard ones" in board
    assert record.read_record(path.with_name("minilm-l6.json")).audit is None, "a baseline"
    rows = json.loads((results / "leaderboard.json").read_text())
    ranks = {row["system"]: row["rank"] for row in rows if row["scenario"] == "offline"}
    assert ranks["cheat"] is None
    assert main(["audit", "cheat", *command[1:6]]) == 1

    session = path.parts[-4]
    resume = [argument for argument in command if argument != "--smoke"]
    assert main([*resume, "--rounds", "2", "--resume", session]) == 0, "found in results/smoke"
    again = record.read_record(path)
    assert [window.block for window in again.rounds] == [1, 2]
    assert again.audit == audit, "it is still the same code"


def test_seeds_are_built_measured_and_resumed(here: Path, reviews: Task) -> None:
    command = ["--smoke", "--configuration", "cpu-1", "--task", reviews.address]
    assert main(["bench", *command, "--system", "minilm-l6", "--seeds", "2"]) == 0
    results = here / "results" / "smoke"
    paths = {path.stem: path for path in results.glob("records/*/*/offline/*.json")}
    assert set(paths) == {
        *("minilm-l6", "minilm-l6@seed1", "minilm-l6-unpadded", "minilm-l6-unpadded@seed1"),
        "null",
    }
    first, second = (record.read_record(paths[name]) for name in ("minilm-l6", "minilm-l6@seed1"))
    assert (first.artifact or {})["seed"] == 0
    assert (second.artifact or {})["seed"] == 1
    assert (first.artifact or {})["key"] != (second.artifact or {})["key"]
    assert '["training seeds","2: score ' in (results / "index.html").read_text()

    resume = ["run", *command, "--resume", first.session]
    options = SessionOptions(resume=first.session, tasks=[reviews.address], smoke=True)
    options = restore_options(options, here)
    assert options.seeds == 2
    assert options.systems == ["minilm-l6", "minilm-l6-unpadded", "null"]
    assert main([*resume, "--rounds", "2"]) == 0
    again = record.read_record(paths["minilm-l6@seed1"])
    assert [window.block for window in again.rounds] == [1, 2]


def test_ablation_measures_all_variants_apart_from_the_leaderboard(
    here: Path, reviews: Task, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["ablation", "onnx-int8", "--smoke", "--task", reviews.address]
    assert main([*command, "--configuration", "cpu-1"]) == 0
    out = capsys.readouterr().out
    for name in ("padding", "export", "export-optimize", "quantize"):
        assert f"| {name} " in out
    assert "failed" not in out
    results = here / "results" / "smoke"
    text = (results / "ablation" / "onnx-int8-reviews.md").read_text()
    assert "Smoke run: its windows are shorter" in text
    assert not (results / "records").exists()


def test_custom_task_is_listed_built_measured_and_predicted(
    here: Path, tmp_path: Path, reviews_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Everything that a built-in task can: also a manifest may name it."""
    folder = here / "submissions" / "onnx-int8"
    for source in reviews_file.parent.iterdir():
        (folder / source.name).write_bytes(source.read_bytes())
    path = folder / "task.toml"
    path.write_text(path.read_text() + 'test = "validation.jsonl"\ntransfer = "train.jsonl"\n')
    manifest = folder / "submission.toml"
    manifest.write_text(manifest.read_text().replace('tasks = ["any"]', 'tasks = ["task.toml"]'))
    assert main(["check", str(folder)]) == 0
    assert main(["tasks", str(path)]) == 0
    assert "reviews" in capsys.readouterr().out
    command = ["--task", str(path), "--system", "onnx-int8", "--configuration", "cpu-1", "--smoke"]
    assert main(["bench", *command]) == 0
    out = capsys.readouterr().out
    assert "reviews, cpu-1" in out
    assert "onnx-int8" in out
    predict = ["predict", "onnx-int8", "--task", str(path), "--configuration", "cpu-1"]
    assert main([*predict, "--out", str(tmp_path)]) == 0
    lines = [json.loads(line) for line in (tmp_path / "reviews.jsonl").read_text().splitlines()]
    assert [line["idx"] for line in lines] == list(range(100))
    assert {line["label"] for line in lines} <= {"negative", "positive"}


def test_model_of_a_user_is_measured_in_one_command_without_training(
    tmp_path: Path, tiny_encoder: Path, reviews: Task, capsys: pytest.CaptureFixture[str]
) -> None:
    """Against itself, padded: the shipped reference is not built."""
    folder = save_checkpoint(tmp_path / "My Model", tiny_encoder)
    results = tmp_path / "out"
    command = ["run", "--smoke", "--model", str(folder), "--task", reviews.address]
    command += ["--configuration", "cpu-1", "--results", str(results)]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "minilm" not in out
    assert "finetune" not in out
    names = sorted(path.stem for path in results.glob("records/*/reviews/offline/*.json"))
    assert names == ["my-model", "my-model-int8", "my-model-unpadded", "null"]
    path = next(results.glob("records/*/reviews/offline/my-model-int8.json"))
    stated = json.loads(path.read_text())
    assert stated["roles"]["reference"] == "my-model"
    assert stated["roles"]["unpadded_reference"] == "my-model-unpadded"
    assert main([*command, "--resume", path.parents[2].name, "--rounds", "2"]) == 0
    assert len(json.loads(path.read_text())["rounds"]) == 2
    capsys.readouterr()
    compare = ["compare", "my-model", "my-model-int8", "--results", str(results)]
    assert main([*compare, "--task", reviews.address]) == 0
    assert "reviews, offline, cpu-1" in capsys.readouterr().out
    exported = tmp_path / "exported"
    assert main(["export", "my-model-int8", str(exported), "--task", reviews.address]) == 0
    assert (exported / "predict.py").is_file()
