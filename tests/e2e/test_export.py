import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.engines.registry import ENGINES
from harness.results import record
from harness.runner.predict import predict
from harness.tasks.task import Task
from harness.telemetry.configuration import choose_configuration
from tests.support.records import make_record
from tests.support.systems import build_all, declare_leaving, quiet, systems
from tests.support.words import TEXTS

NAMES = ("tfidf-logreg", "onnx-int8", "minilm-l6-unpadded", "exits", "cascade")
HEAVY = ("torch", "transformers", "datasets", "onnxruntime", "tokenizers")
NEEDED = {
    "tfidf-logreg": {"numpy", "scikit-learn"},
    "onnx-int8": {"numpy", "onnxruntime", "tokenizers"},
    "minilm-l6-unpadded": {"numpy", "safetensors", "tokenizers", "torch"},
    "exits": {"numpy", "onnxruntime", "tokenizers"},
    "cascade": {"numpy", "onnxruntime", "scikit-learn", "tokenizers"},
}


@pytest.fixture
def exportable(built_project: Path, reviews: Task, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in which all of NAMES are built."""
    declare_leaving(built_project)
    build_all(built_project, NAMES, reviews)
    monkeypatch.chdir(built_project)
    return built_project


def ask(folder: Path, *arguments: str, stdin: str = "") -> list[str]:
    """What predict.py prints, with no way to the project but what is installed."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "predict.py", *arguments],
        cwd=folder,
        env=environment,
        input=stdin,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow
def test_folder_answers_as_the_worker_does_and_needs_its_runtime_alone(
    exportable: Path, reviews: Task, tmp_path: Path
) -> None:
    for system in systems(exportable, NAMES):
        out = tmp_path / system.name
        assert main(["export", system.name, str(out), "--task", reviews.address]) == 0
        lines = (out / "requirements.txt").read_text().splitlines()
        assert {line.partition("==")[0] for line in lines} == NEEDED[system.name]

        path = tmp_path / f"{system.name}.jsonl"
        where = choose_configuration("cpu-1"), exportable, 0
        predict(system, reviews, "validation", *where, path, quiet)
        expected = [json.loads(line)["label"] for line in path.read_text().splitlines()]
        texts = [each.candidates[0][0] for each in reviews.examples("validation")]
        stdin = "".join(json.dumps(text) + "\n" for text in texts)
        given = ask(out, stdin=stdin)
        same = sum(a == b for a, b in zip(given, expected, strict=True))
        assert same >= 0.99 * len(expected), "quantized answers depend a little on batch-mates"
        assert ask(out, TEXTS[0])[0] in ("positive", "negative")
        assert ask(out) == [], "nothing in, nothing out"
        plain = ask(out, stdin=f"{TEXTS[0]}\n\n{json.dumps([TEXTS[0]])}\n")
        assert plain == ask(out, TEXTS[0]) * 2, "a plain line, a blank one, and JSON"

        script = (
            "import sys\nimport predict, harness\npredict.predict([[['a text']]])\n"
            "print(harness.__file__)\n"
            f"print(*(name for name in {HEAVY!r} if name in sys.modules))"
        )
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=out, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        where_from, *loaded = done.stdout.split()
        assert Path(where_from).is_relative_to(out)
        assert set(loaded) <= NEEDED[system.name]


def test_model_card_has_what_was_measured(
    built_project: Path, reviews: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(built_project)
    command = ["export", "tfidf-logreg", "--task", reviews.address]
    assert main([*command, str(tmp_path / "one")]) == 0
    text = (tmp_path / "one" / "README.md").read_text()
    assert "Not measured yet" in text
    assert "licence: Apache-2.0" in text
    assert "1. `tfidf-logreg` ngrams = 2" in text

    for name, seconds in (("ref", [10.0, 10.2, 9.9]), ("tfidf-logreg", [1.0, 1.05, 0.97])):
        made = make_record(name, seconds, 0.9, task="reviews")
        record.write_record(*made, built_project / "results" / "records")
    assert main([*command, str(tmp_path / "other")]) == 0
    text = (tmp_path / "other" / "README.md").read_text()
    assert "| 0.9000 ± 0.0100 | 993        | - / -          | 9.97x [9.38, 10.6] |" in text
    assert "`wattbench bench --suite quick --system tfidf-logreg --task reviews" in text
    assert "of another build of the same recipe" in text, "the record's artifact is another"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["onnx-int8", "."], "exists already"),
        (["null", "new"], "leaves no artifact"),
        (["onnx-fp32", "new"], "is not built for sentiment"),
        (["onnx-int9", "new"], "Did you mean 'onnx-int8'"),
    ],
)
def test_what_cannot_be_exported_leaves_nothing(
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


def test_each_engine_can_be_taken_along() -> None:
    from harness.export import _closure

    for name, kind in ENGINES.items():
        found = _closure([kind.module])
        assert {"harness.errors", "harness.engines.base", kind.module} <= set(found), name
        assert not any(part in each for each in found for part in ("tasks", "optimize", "measure"))
