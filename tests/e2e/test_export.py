import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.engines.registry import ENGINES
from harness.errors import HarnessError
from harness.export.predict import parse_line
from harness.export.standalone import _find_modules
from harness.results import record
from harness.runner.predict import predict
from harness.store.cache import create_output_folder
from harness.submissions.plan import plan_system
from harness.tasks.task import Task
from harness.telemetry.configuration import choose_configuration
from tests.support.records import make_record
from tests.support.systems import build_all, load_systems, quiet, write_early_exit_submissions
from tests.support.words import TEXTS

NAMES = ("tfidf-logreg", "onnx-int8", "minilm-l6-unpadded", "exits", "cascade")
HEAVY = ("torch", "transformers", "datasets", "onnxruntime", "tokenizers")
REQUIREMENTS = {
    "tfidf-logreg": {"numpy", "scikit-learn"},
    "onnx-int8": {"numpy", "onnxruntime", "tokenizers"},
    "minilm-l6-unpadded": {"numpy", "safetensors", "tokenizers", "torch"},
    "exits": {"numpy", "onnxruntime", "tokenizers"},
    "cascade": {"numpy", "onnxruntime", "scikit-learn", "tokenizers"},
}


@pytest.fixture
def exportable(built_project: Path, reviews: Task, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in which all of NAMES are built."""
    write_early_exit_submissions(built_project)
    build_all(built_project, NAMES, reviews)
    monkeypatch.chdir(built_project)
    return built_project


def run_python(folder: Path, *arguments: str, stdin: str = "") -> list[str]:
    """Return what Python prints in the folder, without the project on its path."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    process = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        input=stdin,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout.splitlines()


@pytest.mark.slow
def test_folder_answers_as_the_worker_does_and_needs_its_runtime_alone(
    exportable: Path, reviews: Task, tmp_path: Path
) -> None:
    for system in load_systems(exportable, NAMES):
        out = tmp_path / system.name
        assert main(["export", system.name, str(out), "--task", reviews.address]) == 0
        lines = (out / "requirements.txt").read_text().splitlines()
        assert {line.partition("==")[0] for line in lines} == REQUIREMENTS[system.name]
        assert not list(out.rglob("checkpoint_files.py")), "only code that answers is copied"

        path = tmp_path / f"{system.name}.jsonl"
        configuration = choose_configuration("cpu-1")
        planned = plan_system(system, reviews, 0)
        predict(planned, "validation", configuration, path, quiet)
        expected = [json.loads(line)["label"] for line in path.read_text().splitlines()]
        texts = [example.candidates[0][0] for example in reviews.examples("validation")]
        stdin = "".join(json.dumps(text) + "\n" for text in texts)
        labels = run_python(out, "predict.py", stdin=stdin)
        same = sum(a == b for a, b in zip(labels, expected, strict=True))
        assert same >= 0.99 * len(expected), "quantized answers depend a little on the batch"
        label = run_python(out, "predict.py", TEXTS[0])
        assert label[0] in ("positive", "negative")
        assert run_python(out, "predict.py") == [], "no input, no output"
        stdin = f"{TEXTS[0]}\n\n{json.dumps([TEXTS[0]])}\n"
        assert run_python(out, "predict.py", stdin=stdin) == [*label, "", *label]

        script = (
            "import sys\nimport predict, harness\npredict.predict([[['a text']]])\n"
            "print(harness.__file__)\n"
            f"print(*(name for name in {HEAVY!r} if name in sys.modules), sep='\\n')"
        )
        origin, *loaded = run_python(out, "-c", script)
        assert Path(origin).is_relative_to(out)
        assert set(filter(None, loaded)) <= REQUIREMENTS[system.name]


@pytest.mark.parametrize(
    ("line", "texts"),
    [
        *((line, [line]) for line in ("null", "1e3", "1.50", "true", '{"a": 1}', "[", " a b ")),
        *((line, [line]) for line in ('["a", "b", "c"]', "[]", "[1]", '["a", 1]', "[" * 100_000)),
        ('"a\\nb"', ["a\nb"]),
        ('["a"]', ["a"]),
        ('["a", "b"]', ["a", "b"]),
        ("", []),
        ("  ", []),
    ],
)
def test_line_is_text_as_written_unless_it_is_one_or_two_json_strings(
    line: str, texts: list[str]
) -> None:
    assert parse_line(line) == texts


def test_lines_are_answered_side_by_side_and_faults_are_named(
    built_project: Path, reviews: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(built_project)
    out = tmp_path / "out"
    assert main(["export", "tfidf-logreg", "--task", reviews.address, str(out)]) == 0

    def answer(stdin: bytes, *arguments: str) -> tuple[int, str]:
        command = [sys.executable, "predict.py", *arguments]
        process = subprocess.run(command, cwd=out, input=stdin, capture_output=True)
        assert not (process.stdout and process.stderr)
        return process.returncode, (process.stdout or process.stderr).decode()

    status, output = answer(b"\xef\xbb\xbfgood\r\n\r\nbad\x00\n" + b"long " * 100_000)
    assert status == 0
    assert [bool(line) for line in output.split("\n")] == [True, False, True, True, False]
    assert "the label of each line" in answer(b"", "--help")[1]
    for stdin, arguments, message in (
        (b'good\n"\\ud800"', [], "line 2: not a text: it has half of a surrogate pair"),
        (b"good\n\xff", [], "line 2: not a text"),
        (b'""', [], "line 1: an empty text has no answer"),
        (b'["a", "b"]', [], "line 1: 2 texts. The model takes one text."),
        (b"", ["a", "b"], "2 texts. The model takes one text."),
        (b"", ["a", "b", "c"], "3 texts. Quote each"),
        (b"", [""], "an empty text has no answer"),
    ):
        status, output = answer(stdin, *arguments)
        assert status == 2
        assert output.startswith(f"predict.py: {message}"), output


def test_model_card_has_the_measured_figures(
    built_project: Path, reviews: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(built_project)
    command = ["export", "tfidf-logreg", "--task", reviews.address]
    assert main([*command, str(tmp_path / "unmeasured")]) == 0
    text = (tmp_path / "unmeasured" / "README.md").read_text()
    assert "Not measured yet" in text
    assert "licence: Apache-2.0" in text
    assert "Apache License" in (tmp_path / "unmeasured" / "LICENSE").read_text()
    assert "1. `tfidf-logreg` ngrams = 2" in text

    for name, seconds in (("ref", [10.0, 10.2, 9.9]), ("tfidf-logreg", [1.0, 1.05, 0.97])):
        record_and_side = make_record(name, seconds, 0.9, task="reviews")
        record.write_record(*record_and_side, built_project / "results" / "records")
    assert main([*command, str(tmp_path / "measured")]) == 0
    text = (tmp_path / "measured" / "README.md").read_text()
    assert "| 0.9000 ± 0.0100 | 993          | 9.97x [9.38, 10.6] |" in text
    assert "`wattbench bench --suite quick --system tfidf-logreg --task PATH/task.toml" in text
    assert "of another build of the same recipe" in text, "the record has another artifact"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["onnx-int8", "."], "exists already"),
        (["null", "new"], "has no artifact"),
        (["onnx-fp32", "new"], "is not built for sentiment"),
        (["onnx-int9", "new"], "Did you mean 'onnx-int8'"),
    ],
)
def test_failed_export_leaves_nothing(
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(project)
    assert main(["export", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (project / "new").exists()
    assert not list(project.glob(".*"))


def test_folder_that_is_a_link_or_below_a_file_is_refused(
    project: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(project)
    (tmp_path / "link").symlink_to("nowhere")
    assert main(["export", "null", str(tmp_path / "link")]) == 2
    assert "link exists already" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(HarnessError, match=r"cannot be written: .*Choose another path"),
        create_output_folder(tmp_path / "file" / "new"),
    ):
        pass


@pytest.mark.parametrize("engine", ENGINES)
def test_modules_of_an_engine_exclude_tasks_and_training(engine: str) -> None:
    modules = _find_modules([ENGINES[engine].module])
    assert {"harness.errors", "harness.engines.base", ENGINES[engine].module} <= set(modules)
    unwanted = ("tasks", "optimize", "measure")
    assert not any(part in module for module in modules for part in unwanted)
