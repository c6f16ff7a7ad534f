import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import typer

import harness
from harness.cli.command import command as make_command
from harness.cli.main import app, main
from harness.cli.options import SessionOptions
from tests.support.commands import parse_command
from tests.support.systems import REPOSITORY


@pytest.fixture
def here(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(project / "submissions")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(project / "hub"))
    return project


def fault(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The message of a command that must fail with status 2."""
    assert main(arguments) == 2
    out = capsys.readouterr()
    assert "Traceback" not in out.err
    assert out.err.startswith("wattbench: ")
    return out.err


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["build", "--system", "onnx-int9"],
            "'onnx-int9' does not exist in .*Did you mean 'onnx-int8'",
        ),
        (["run", "--suite", "quik"], "suite 'quik' does not exist. Did you mean 'quick'"),
        (["run", "--task", "rtee"], "task 'rtee' does not exist. Did you mean 'rte'"),
        (["run", "--task", "rte"], "task 'rte' has no local data .* set WATTBENCH_DATA"),
        (["run", "--task", "x/task.toml"], r"x/task.toml: there is no such file"),
        (["run", "--model", "x", "--task", "sentiment"], "model 'x' is not a local folder"),
        (["predict", "onnx-int9", "--task", "sentiment"], "'onnx-int9' does not exist in"),
        (["predict", "majority", "--task", "sentiment"], "majority is not built for sentiment"),
        (["tasks", "sentimen"], "task 'sentimen' does not exist. Did you mean 'sentiment'"),
        (["run", "--configuration", "cpu-3"], "configuration 'cpu-3' does not exist"),
        (["run", "--system", "tfidf-logreg"], "is not built for sentiment. Run: wattbench build"),
        (["board"], "there are no records"),
        (["check", "nowhere"], "nowhere: there is no such folder"),
        (["check", "."], r"submission.toml: there is no such file"),
    ],
)
def test_bad_input_is_one_message_and_status_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert re.search(message, fault(capsys, *arguments))


def test_fault_leaves_nothing_half_written(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(here.rglob("*"))
    fault(capsys, "run", "--system", "tfidf-logreg")
    fault(capsys, "board")
    assert sorted(here.rglob("*")) == before


def test_check_says_what_is_fine_and_what_is_missing(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = here / "submissions" / "onnx-int8"
    assert main(["check", str(folder)]) == 0
    assert "OK. Division closed; export > quantize" in capsys.readouterr().out
    (folder / "README.md").write_text(" ")
    assert "README.md: missing or empty" in fault(capsys, "check", str(folder))


@pytest.mark.usefixtures("here")
def test_lists_name_every_task_and_system(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tasks"]) == 0
    out = capsys.readouterr().out
    assert "7257 / 821 / 1994" in out
    assert "suite quick" in out
    assert main(["systems"]) == 0
    out = capsys.readouterr().out
    assert "minilm-l6 > export > quantize" in out
    assert "null" in out


def declare_only(project: Path, task: Path) -> None:
    """Let `onnx-int8` declare a custom task and no other."""
    manifest = project / "submissions" / "onnx-int8" / "submission.toml"
    manifest.write_text(manifest.read_text().replace('tasks = ["any"]', f'tasks = ["{task}"]'))


def test_named_system_that_declares_none_of_the_tasks_is_refused(
    here: Path, reviews_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Otherwise the session would measure the references alone."""
    declare_only(here, reviews_file)
    for command in ("run", "build", "bench"):
        message = fault(capsys, command, "--system", "onnx-int8")
        assert (
            f"onnx-int8 does not declare sentiment. Choose one of its tasks: --task {reviews_file}"
            in message
        )


def test_list_of_systems_says_only_what_is_built(
    here: Path, reviews_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    declare_only(here, reviews_file)
    assert main(["systems"]) == 0
    (line,) = re.findall(r"(?m)^onnx-int8 .*$", capsys.readouterr().out)
    assert "sentiment" not in line


COMMANDS = [str(command.name) for command in app.registered_commands]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert "Usage: wattbench" in capsys.readouterr().out


def test_help_lists_every_command_but_not_the_old_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    listed = re.findall(r"^  (\w+)  ", capsys.readouterr().out, re.MULTILINE)
    assert set(COMMANDS) - {"waterfall"} <= set(listed)
    assert "waterfall" not in listed


def test_old_spellings_are_taken_and_not_advertised(capsys: pytest.CaptureFixture[str]) -> None:
    assert parse_command(["run", "--isolation", "walls"])[1]["isolation"] == "sandbox"
    assert parse_command(["waterfall", "static"])[1]["name"] == "static"
    assert main(["run", "--help"]) == 0
    assert "walls" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--rounds=0"], "'--rounds': Input should be greater"),
        (["run", "--rounds=-1"], "'--rounds': Input should be greater"),
        (["run", "--rounds=many"], "'--rounds': Input should be a valid integer"),
        (["run", "--until", "3"], "'3' is not a percentage from 0.1% to 99%"),
        (["run", "--isolation", "wall"], "'wall' is not one of auto, sandbox, process"),
        (["run", "--round", "3"], "No such option: --round"),
        (["report", "power"], "'power' is not"),
        (["new", "x", "--python", "--command"], "only one of --from, --python and --command"),
        (["predict", "static"], "give --task NAME for one task, or --suite NAME"),
        (["runn"], "No such command 'runn'"),
    ],
)
def test_bad_option_is_one_message_and_status_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_options_of_a_dataclass_become_options_of_the_command() -> None:
    _, values = parse_command(["bench", "--task", "rte", "--task", "cb", "--smoke"])
    assert (values["tasks"], values["smoke"], values["seeds"]) == (["rte", "cb"], True, 1)
    assert set(values) == {field.name for field in fields(SessionOptions)}


def test_command_starts_without_heavy_imports() -> None:
    heavy = {"torch", "pandas", "rich", "jinja2", "numpy", "pydantic", "psutil"}
    script = f"import sys, harness.cli.main; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr


def test_ctrl_c_leaves_with_130_and_says_how_to_go_on(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*arguments: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("harness.build.build_missing", interrupted)
    assert main(["build"]) == 130
    assert "the same command goes on" in capsys.readouterr().err


def test_public_functions_are_sorted_and_importable() -> None:
    assert harness.__all__ == sorted(harness.__all__)
    for name in harness.__all__:
        assert callable(getattr(harness, name))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = harness.nothing


def test_importing_the_package_imports_nothing_heavy() -> None:
    script = "import sys, harness; print({'torch', 'pandas', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr


def test_load_submission_reads_a_manifest() -> None:
    system = harness.load_submission(REPOSITORY / "submissions" / "onnx-fp32")
    assert (system.name, system.division) == ("onnx-fp32", "closed")


@pytest.mark.usefixtures("here")
def test_systems_lists_the_others_beside_a_broken_one(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = here / "submissions" / "broken"
    folder.mkdir()
    (folder / "submission.toml").write_text("title = 3")
    assert main(["systems"]) == 2
    out = capsys.readouterr()
    assert "fastformers" in out.out
    assert "broken/submission.toml: title = 3 must be a string." in out.err
    assert main(["new", "copy", "--from", "broken"]) == 2
    assert not (here / "submissions" / "copy").exists()


def test_file_without_permission_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    def read() -> None:
        raise PermissionError(13, "Permission denied", "/data/train.csv")

    with pytest.raises(typer.Exit) as error:
        make_command(read)()
    assert error.value.exit_code == 2
    assert capsys.readouterr().err == (
        "wattbench: /data/train.csv: permission denied. Change its permissions, or choose another "
        "path.\n"
    )
