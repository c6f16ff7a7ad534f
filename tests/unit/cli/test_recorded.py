"""Custom tasks and models by their names, which only records know."""

import json
import shutil
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.cli.options import SessionOptions, results_folder
from harness.cli.resolve import find_places, find_system, find_task, restore_options
from harness.errors import HarnessError
from harness.models.pretrained import find_checkpoint_folder
from harness.results.record import Record, write_record
from harness.submissions.checkpoint import compute_model_digest
from tests.support.checkpoints import save_checkpoint
from tests.support.records import make_record

TASK = """\
name = "tickets"
title = "which team"
labels = ["a", "b"]
metric = "accuracy"
[fields]
text = "text"
label = "label"
[splits]
train = "data.jsonl"
validation = "data.jsonl"
"""


@pytest.fixture
def measured(
    project: Path, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, list[Record]]:
    """A project with a session of its own model on its own task."""
    monkeypatch.chdir(project)
    folder = project / "o'brien's data"
    model = save_checkpoint(folder / "bert", tiny_encoder)
    rows = [{"text": f"text {number}", "label": number % 2} for number in range(20)]
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "task.toml").write_text(TASK)
    task = find_task(str(folder / "task.toml"), [])
    roles = {"reference": "bert", "unpadded_reference": "bert-unpadded", "null": "null"}
    records = []
    for name in ("bert", "bert-unpadded", "bert-int8", "null"):
        record, side = make_record(name, [1.0], 0.9, roles=roles, task="tickets")
        record.task["version"] = task.version
        record.inputs = {"task": "./o'brien's data/task.toml", "model": "./o'brien's data/bert"}
        if name != "null":
            record.system["folder"] = f"models/{name}"
            record.system["model"] = compute_model_digest(model)
        write_record(record, side, project / "results" / "records")
        records.append(record)
    return folder, records


Measured = tuple[Path, list[Record]]


def resume(**options: object) -> SessionOptions:
    return restore_options(SessionOptions(resume="s1", **options), Path.cwd())  # type: ignore[arg-type]


def test_task_of_a_record_has_its_name(measured: Measured) -> None:
    folder, _ = measured
    task = find_task("tickets", find_places(Path.cwd()))
    assert task.path == folder / "task.toml"


def test_task_of_a_manifest_has_its_name(measured: Measured) -> None:
    folder, _ = measured
    shutil.rmtree("results")
    mine = Path("submissions/mine")
    shutil.copytree("submissions/onnx-int8", mine)
    text = (mine / "submission.toml").read_text()
    (mine / "submission.toml").write_text(
        text.replace('tasks = ["any"]', "tasks = [\"../../o'brien's data/task.toml\"]")
    )
    system = find_system("mine", Path.cwd(), [])
    assert find_task("tickets", [], system).path == folder / "task.toml"


def test_system_of_a_record_is_declared_again_where_the_cache_lacks_it(
    measured: Measured, cache: Path
) -> None:
    folder, _ = measured
    for _ in range(2):
        system = find_system("bert-int8", Path.cwd(), find_places(Path.cwd()))
        assert system.encoder == str(folder / "bert")
    shutil.rmtree(cache / "models")
    (folder / "bert" / "config.json").write_text(
        (folder / "bert" / "config.json").read_text() + "\n"
    )
    with pytest.raises(HarnessError, match=r"bert' in .*, whose files have changed since. Put the"):
        find_system("bert-int8", Path.cwd(), find_places(Path.cwd()))


def test_resumed_session_needs_neither_model_nor_task(measured: Measured) -> None:
    folder, _ = measured
    options = resume()
    assert (options.model, options.model_name) == (str(folder / "bert"), "bert")
    assert options.tasks == [str(folder / "task.toml")]
    assert options.suite == "quick"
    by_path = SessionOptions(resume="results/records/s1")
    assert restore_options(by_path, Path.cwd()).tasks == options.tasks
    assert options == resume(model=str(folder / "bert"), tasks=["tickets"], model_name="bert")


def test_resumed_session_takes_a_model_and_a_task_that_moved(measured: Measured) -> None:
    folder, _ = measured
    moved = folder.rename("moved").absolute()
    with pytest.raises(
        HarnessError,
        match=r"where there is no folder now. Put it back, or name its new place with --model",
    ):
        resume(tasks=[str(moved / "task.toml")])
    with pytest.raises(HarnessError, match=r"where there is no file now. Put it back, or name its"):
        resume(model=str(moved / "bert"))
    options = resume(model="moved/bert", tasks=["moved/task.toml"])
    assert (options.model, options.tasks) == ("moved/bert", [str(moved / "task.toml")])


def test_options_that_a_resumed_session_does_not_have_are_refused(
    measured: Measured, tmp_path: Path, tiny_encoder: Path
) -> None:
    other = save_checkpoint(tmp_path / "other", tiny_encoder, "distilbert")
    for option, value, message in (
        ("tasks", ["rte"], "--task rte: session s1 has tickets. Leave --task out, or"),
        ("systems", ["fastformers"], "--system fastformers: session s1 has bert, bert-int8,"),
        ("model", str(other), "the reference of session s1 is bert, which has other files"),
        ("model_name", "mine", "--name mine: session s1 has bert"),
        ("configuration", "cpu-1", "--configuration cpu-1: session s1 has cpu-2"),
    ):
        with pytest.raises(HarnessError, match=message):
            resume(**{option: value})


def test_changed_data_of_a_resumed_session_is_named(measured: Measured) -> None:
    folder, _ = measured
    with (folder / "data.jsonl").open("a") as file:
        file.write('{"text": "another", "label": "a"}\n')
    with pytest.raises(HarnessError, match=r"'tickets' .* has changed since session s1: its data"):
        resume()


def test_task_that_was_renamed_since_is_named(measured: Measured) -> None:
    folder, _ = measured
    (folder / "task.toml").write_text(TASK.replace("tickets", "letters"))
    with pytest.raises(HarnessError, match=r"is called 'letters' now. Change `name` back"):
        resume()


def test_records_without_paths_ask_for_them(measured: Measured) -> None:
    folder, records = measured
    for record in records:
        record.inputs = {}
        write_record(record, {"answers": []}, Path("results/records"))
    with pytest.raises(HarnessError, match=r"named by the path of its task.toml"):
        resume(model=str(folder / "bert"))
    with pytest.raises(HarnessError, match=r"does not say where it is. Name it with --model"):
        resume(tasks=[str(folder / "task.toml")])
    assert resume(model=str(folder / "bert"), tasks=[str(folder / "task.toml")]).model


def test_folder_of_a_model_is_told_from_a_system(measured: Measured) -> None:
    with pytest.raises(HarnessError, match=r"bert is a model, not a system. Measure it first"):
        find_system("o'brien's data/bert", Path.cwd(), [])


def test_paths_that_no_text_can_have_are_named(measured: Measured) -> None:
    folder = measured[0].rename("r\udcff")
    message = r"r\\udcff.*: this path is not UTF-8. Rename"
    with pytest.raises(HarnessError, match=message):
        find_checkpoint_folder(str(folder / "bert"))
    with pytest.raises(HarnessError, match=message):
        find_task(str(folder / "task.toml"), [])


def test_results_folder_is_told_from_folders_of_records_and_files(measured: Measured) -> None:
    root = Path.cwd()
    assert results_folder(root, "results") == Path("results")
    assert results_folder(root, "new/records") == Path("new/records")
    assert results_folder(root, "~/results") == Path.home() / "results"
    for name in ("results/records", "results/records/s1"):
        with pytest.raises(HarnessError, match=r"of records. Name the one above it: results$"):
            results_folder(root, name)
    with pytest.raises(HarnessError, match=r"task.toml: a file, not a folder"):
        results_folder(root, "o'brien's data/task.toml/results")


def test_published_task_need_not_be_named_if_it_is_the_only_one(
    measured: Measured, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", "--against", "elsewhere"]) == 2
    assert "elsewhere/records: there is no such folder" in capsys.readouterr().err
    shutil.copytree("results", "elsewhere")
    assert main(["verify", "--against", "elsewhere"]) == 2
    assert "only s1 was measured on tickets" in capsys.readouterr().err
