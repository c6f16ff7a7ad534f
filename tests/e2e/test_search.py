"""`wattbench search`, on a tiny model and invented text."""

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.optimize.base import Artifact
from harness.search import builder, search
from harness.search.found import CONVERTED, STUDENT, FoundSystems
from harness.search.scoring import SelectionScore
from harness.submissions.manifest import read_system
from harness.submissions.plan import PlannedSystem, plan_system
from harness.submissions.system import System
from harness.tasks.registry import get_task
from harness.tasks.task import Example, Task
from tests.support.words_task import write_checkpoint, write_words_task

SPACE = """
layers = [1, 2]
sizes = [{ heads = 0, ffn = 0 }, { heads = 2, ffn = 32 }]
forms = ["onnxruntime-int8"]
batches = [1]
epochs = [1, 2]
augment = [0]
temperature = [2.0]
learning_rate = [1e-3]
static = false
"""

TOO_LITTLE = SelectionScore(0.6, 0.1, 0.2, -0.2, 0.1)


@pytest.fixture
def arguments(tmp_path: Path, cache: Path, finetuned: Artifact, encoder: Path) -> list[str]:
    """A search for the student of a user's model on a user's task."""
    write_words_task(tmp_path / "words")
    write_checkpoint(tmp_path / "my-bert", finetuned, encoder)
    (tmp_path / "space.toml").write_text(SPACE)
    options = {
        "--task": tmp_path / "words" / "task.toml",
        "--model": tmp_path / "my-bert",
        "--space": tmp_path / "space.toml",
        "--out": tmp_path / "words-fast",
        "--budget": "10m",
        "--configuration": "cpu-1",
    }
    return ["search", *(str(part) for pair in options.items() for part in pair)]


def test_the_result_is_an_ordinary_built_submission(
    tmp_path: Path,
    arguments: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    examples = Task.examples

    def refuse_validation(task: Task, split: str) -> Sequence[Example]:
        assert split in ("train", "selection")
        return examples(task, split)

    monkeypatch.setattr(Task, "examples", refuse_validation)
    assert main(arguments) == 0
    out, task = tmp_path / "words-fast", get_task(str(tmp_path / "words" / "task.toml"))
    printed = capsys.readouterr().out
    assert re.search(r"\nKeeps \d+% of the gain of my-bert at [\d.,]+x; [\d.]+ ms instead", printed)
    assert f"wattbench run --model {tmp_path / 'my-bert'} --system {out} --task" in printed
    system = read_system(out)
    assert system.declares_task(task)
    assert plan_system(system, task, 0).is_built  # its keys are those of the search
    assert system.teacher is not None
    assert system.teacher.folder.resolve() == out / "teacher"
    readme = (out / "README.md").read_text()
    assert "the reported split was not read" in readme
    systems = read_found(tmp_path).systems
    assert all(f"\n| {name}" in readme for name in systems)
    assert systems["teacher-onnxruntime-int8"].kind == CONVERTED
    assert "</svg>" in (out / "frontier.svg").read_text()
    assert main(arguments) == 2
    assert "exists already. Move it away" in capsys.readouterr().err


def read_found(tmp_path: Path) -> FoundSystems:
    (path,) = (tmp_path / "cache" / "searches").glob("words-fast-*/found.json")
    return FoundSystems.read(path)


@pytest.mark.slow
def test_ctrl_c_ends_with_what_was_found_and_resume_goes_on(
    tmp_path: Path,
    arguments: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The interrupt comes after the converted teacher, which is made to keep too little."""
    score, scored = builder.Scorer.score, []

    def score_and_interrupt(*arguments: object) -> object:
        if scored:
            raise KeyboardInterrupt
        scored.append(score(*arguments))  # type: ignore[arg-type]
        return scored[0].__class__(0.6, 0.1, 0.2, -0.2, 0.1)

    with monkeypatch.context() as patch:
        patch.setattr(builder.Scorer, "score", score_and_interrupt)
        assert main(arguments) == 2
    message = " ".join(capsys.readouterr().err.split())
    assert "nothing keeps 95% of the gain with one standard error to spare" in message
    assert "(score 0.6000 ± 0.1000 on " in message
    out = tmp_path / "words-fast"
    readme = (out / "README.md").read_text()
    assert "**It keeps too little.**" in readme
    assert "what keeps most of the teacher's gain over the constant answer, of 1 built" in readme
    assert "the fastest of" not in readme
    assert "- what was left when the search was interrupted" in readme
    assert len(read_found(tmp_path).systems) == 2
    out.rename(tmp_path / "earlier")
    assert main(arguments) == 2
    assert "Give --resume to go on" in capsys.readouterr().err
    assert main([*arguments, "--resume", "--keep", "0.9"]) == 2
    assert "--keep differs from the search to resume" in capsys.readouterr().err
    assert main([*arguments, "--resume"]) == 0
    found = read_found(tmp_path).systems.values()
    assert any(system.kind == STUDENT and system.score.keeps_enough for system in found)
    assert "**It keeps too little.**" not in (out / "README.md").read_text()


@pytest.mark.slow
def test_a_trained_student_is_tried_in_all_forms(
    tmp_path: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both graphs are made of the same weights: the second one takes no training."""
    space = SPACE.replace("layers = [1, 2]", "layers = [1]")
    space = space.replace('["onnxruntime-int8"]', '["onnxruntime-int8", "onnxruntime-fp32"]')
    (tmp_path / "space.toml").write_text(space + "exits = false\ncascade = false\n")
    monkeypatch.setattr(builder.Scorer, "score", lambda *arguments: TOO_LITTLE)
    monkeypatch.setattr(search, "drop_slower", list)  # int8 is slow in so small a model
    assert main(arguments) == 2
    forms: dict[int, set[str]] = {}
    for found in read_found(tmp_path).systems.values():
        if found.kind == STUDENT:
            forms.setdefault(found.details["epochs"], set()).add(found.details["form"])
    assert forms
    assert set(map(len, forms.values())) == {2}


@pytest.mark.slow
def test_a_training_that_takes_too_long_leaves_the_time_to_shorter_ones(
    tmp_path: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = builder.Builder.plan

    def plan_slowly(self: builder.Builder, system: System) -> tuple[PlannedSystem, float]:
        planned, seconds = plan(self, system)
        return planned, 1e6 if system.title.startswith("2 layers") else seconds

    monkeypatch.setattr(builder.Builder, "plan", plan_slowly)
    monkeypatch.setattr(builder.Scorer, "score", lambda *arguments: TOO_LITTLE)
    monkeypatch.setattr(search, "drop_slower", list)
    assert main(arguments) == 2
    students = [found for found in read_found(tmp_path).systems.values() if found.kind == STUDENT]
    assert {found.details["layers"] for found in students} == {1}
    assert "of the shortest takes 277.8 h" in (tmp_path / "words-fast" / "README.md").read_text()


@pytest.mark.slow
def test_a_search_without_time_for_any_training_ends_soon(
    tmp_path: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One training of a student says for all of its kind that they take too long."""
    space = SPACE.replace("temperature = [2.0]", f"temperature = {[*range(1, 41)]}")
    (tmp_path / "space.toml").write_text(space + "exits = false\ncascade = false\n")
    plan, planned = builder.Builder.plan, []

    def plan_slowly(self: builder.Builder, system: System) -> tuple[PlannedSystem, float]:
        if not system.name.startswith("student"):
            return plan(self, system)
        planned.append(system.name)
        return plan(self, system)[0], 1e6

    monkeypatch.setattr(builder.Builder, "plan", plan_slowly)
    monkeypatch.setattr(builder.Scorer, "score", lambda *arguments: TOO_LITTLE)
    monkeypatch.setattr(search, "drop_slower", list)
    assert main(arguments) == 2
    assert 1 <= len(planned) <= 4, "two sizes of one layer, two of two"
    assert f"{len(planned) * 40} of {len(planned) * 40} trainings of faster students" in (
        (tmp_path / "words-fast" / "README.md").read_text()
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (
            ("--size-mb", "0.001"),
            r"\(2 of 2 shapes: they break a limit \(of all shapes, the least size ",
        ),
        (
            ("--budget", "1s"),
            r"(\d) of \1 trainings of faster students, .* the shortest takes \d+ s, and less of",
        ),
        (("--p99-ms", "0.0001"), r"the p99 of (student|teacher)-\S+ is [\d.]+ ms"),
    ],
)
def test_nothing_within_the_limits_is_one_message_that_says_what_there_is(
    arguments: list[str],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    limits: tuple[str, str],
    message: str,
) -> None:
    space = SPACE.replace("layers = [1, 2]", "layers = [1]")
    (tmp_path / "space.toml").write_text(space + "exits = false\ncascade = false\n")
    assert main([*arguments, *limits]) == 2
    printed = " ".join(capsys.readouterr().err.split())
    assert re.search(message, printed)
    assert "nothing was found (" in printed
    assert not (tmp_path / "words-fast").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("--budget", "an hour"), "is not a duration such as 90s, 60m or 1.5h"),
        (("--budget", "0m"), "is not a duration"),
        (("--keep", "1.5"), "--keep"),
        (("--teacher", "tfidf-logreg", "--model", ""), "tfidf-logreg cannot be the teacher"),
        (("--resume",), "there is no search for"),
        (("--task", ""), "give --task NAME"),
    ],
)
def test_a_wrong_option_is_one_message(
    arguments: list[str],
    capsys: pytest.CaptureFixture[str],
    change: tuple[str, ...],
    message: str,
) -> None:
    assert main([*arguments, *change]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_a_task_without_a_training_split_is_refused(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["search", "--task", "axb", "--out", str(tmp_path / "out")]) == 2
    assert "axb has no training split. Search for --task rte" in capsys.readouterr().err


def test_the_default_space_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "--print-space"]) == 0
    assert "layers = [" in capsys.readouterr().out


def test_a_teacher_that_knows_nothing_is_refused(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in ("train", "selection", "validation"):  # half of the labels are wrong
        path = tmp_path / "words" / f"{split}.jsonl"
        rows = path.read_text().splitlines()
        swapped = [
            row.replace('"yes"', '"?"').replace('"no"', '"yes"').replace('"?"', '"no"')
            for row in rows[::2]
        ]
        path.write_text("\n".join([*swapped, *rows[1::2]]) + "\n")
    assert main(arguments) == 2
    assert "is not better than the constant answer" in capsys.readouterr().err
