"""The folder that a search leaves."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from harness.schema import read_toml
from harness.search.found import CASCADE, STATIC, STUDENT, TEACHER, Found, FoundSystems, Limits
from harness.search.report import list_commands, list_rows, summarize, write_system
from harness.search.request import Outcome, SearchRequest
from harness.search.scoring import SelectionScore
from harness.search.space import read_space
from harness.search.speed import Speed
from harness.submissions.lookup import get_system
from harness.submissions.manifest import read_system
from harness.submissions.plan import plan_system
from harness.tasks.registry import get_task
from harness.telemetry.configuration import choose_configuration
from tests.support.words_task import write_words_task

HEAD = {"title": "a", "authors": ["a"], "licence": "MIT", "division": "open"}


def write_manifest(folder: Path, task: Path, **tables: Any) -> None:
    folder.mkdir(parents=True)
    manifest = {**HEAD, "tasks": [str(task)], **tables}
    (folder / "submission.toml").write_text(tomli_w.dumps(manifest))


@pytest.fixture
def request_(tmp_path: Path, cache: Path, tiny_encoder: Path) -> SearchRequest:
    """A workspace with a cascade of a static student and another one, of a teacher in it."""
    task = write_words_task(tmp_path / "words")
    systems = tmp_path / "workspace" / "systems"
    write_manifest(
        systems / "teacher",
        task,
        model={"pretrained": str(tiny_encoder)},
        step=[{"use": "finetune"}],
        serve={"engine": "pytorch"},
    )
    model = {"teacher": "../teacher"}
    static, exported = [{"use": "static"}], [{"use": "export"}]
    write_manifest(systems / "static", task, model=model, step=static, serve={"engine": "static"})
    serve = {"engine": "onnxruntime"}
    write_manifest(systems / "student-0", task, model=model, step=exported, serve=serve)
    write_manifest(
        systems / "cascade",
        task,
        model={"members": ["../static", "../student-0"]},
        step=[{"use": "cascade"}],
        serve={"engine": "cascade"},
    )
    return SearchRequest(
        get_task(str(task)),
        read_system(systems / "teacher"),
        "../teacher",
        read_space(),
        Limits(p50_ms=5, size_mb=100),
        60.0,
        choose_configuration("cpu-1"),
        "process",
        tmp_path / "workspace",
    )


def make_found(name: str, kind: str, speedup: float, score: float, enough: bool = True) -> Found:
    margin = 0.01 if enough else -0.01
    return Found(
        name,
        kind,
        {} if kind == TEACHER else {"of": name},
        12.0,
        SelectionScore(score, 0.01, (score - 0.5) / 0.4, margin, 0.95 + margin / 0.4),
        Speed(speedup, speedup, 100.0, 20.0),
    )


@pytest.fixture
def outcome(tmp_path: Path) -> Outcome:
    found = FoundSystems(tmp_path / "found.json")
    for system in (
        make_found("teacher", TEACHER, 1, 0.9),
        make_found("static", STATIC, 1000, 0.8, enough=False),
        make_found("student-0", STUDENT, 50, 0.88),
        make_found("cascade", CASCADE, 200, 0.88),
    ):
        found.add(system)
    return Outcome(found, "cascade", None, 30.0, 40.0, ("exits: it would take 9 min",))


def test_the_folder_holds_all_that_the_system_is_made_of(
    tmp_path: Path, request_: SearchRequest, outcome: Outcome
) -> None:
    out = tmp_path / "results" / "words-fast"
    write_system(request_, outcome, out)
    assert {path.parent.relative_to(out).as_posix() for path in out.rglob("submission.toml")} == {
        *(".", "static", "static/teacher", "student-0", "student-0/teacher"),
    }
    moved = out.rename(tmp_path / "results" / "moved")
    system, before = read_system(moved), read_system(request_.get_folder("cascade"))
    assert [step.key for step in plan_system(system, request_.task, 0).steps] == [
        step.key for step in plan_system(before, request_.task, 0).steps
    ]
    assert read_toml(moved / "submission.toml")["tasks"] == ["../../words/task.toml"]


def test_a_teacher_of_the_project_keeps_its_name(
    tmp_path: Path, request_: SearchRequest, outcome: Outcome
) -> None:
    write_manifest(
        request_.get_folder("named"),
        request_.task.path or Path(),
        model={"teacher": "minilm-l6"},
        step=[{"use": "export"}],
        serve={"engine": "onnxruntime"},
    )
    outcome.found.add(make_found("named", STUDENT, 60, 0.88))
    changed = Outcome(outcome.found, "named", None, 30.0, 40.0, ())
    write_system(request_, changed, tmp_path / "fast")
    teacher = read_system(tmp_path / "fast").teacher
    assert teacher is not None
    assert teacher.folder == get_system("minilm-l6", tmp_path).folder


def test_readme_states_what_was_found_and_what_was_not_tried(
    tmp_path: Path, request_: SearchRequest, outcome: Outcome
) -> None:
    out = tmp_path / "words-fast"
    write_system(request_, outcome, out)
    readme = (out / "README.md").read_text()
    assert f"{summarize(request_, outcome)}\n" in readme
    assert re.search(r"^Found on \d{4}-\d\d-\d\d by `wattbench search` for ", readme, re.M)
    assert "the fastest of 3 systems that keeps at least 95% of the" in readme
    assert "Limits: p50 at most 5 ms; size at most 100 MB." in readme
    assert "- exits: it would take 9 min" in readme
    assert "| cascade * | cascade |" in readme
    assert "It keeps too little" not in readme
    model = Path(request_.teacher.encoder).name
    assert f"If {model} was trained on these examples, too, its score on them is too high" in readme
    for command in list_commands(request_, out):
        assert command in readme


def test_systems_are_listed_by_speed_and_the_frontier_is_marked(outcome: Outcome) -> None:
    rows = list_rows(outcome)
    assert [row["system"] for row in rows] == ["static *", "cascade *", "student-0", "teacher *"]
    assert [row["speed-up"] for row in rows] == ["1,000x", "200x", "50.0x", "1.00x"]


def test_a_sentence_sums_it_up(request_: SearchRequest, outcome: Outcome) -> None:
    model = Path(request_.teacher.encoder).name
    assert summarize(request_, outcome) == (
        f"Keeps 95% of the gain of {model} at 200x; 0.150 ms instead of 30.0, 20.0 MB."
    )
    score = replace(outcome.found.systems["cascade"].score, retained_low=0.66)
    outcome.found.add(replace(outcome.found.systems["cascade"], score=score))
    count = len(request_.task.examples("selection"))
    assert summarize(request_, outcome).endswith(
        f" This cannot promise much: on {count} examples the standard error of that share is 29%."
    )
    named = replace(request_, teacher_name="teacher")
    assert "the gain of teacher at 200x" in summarize(named, outcome)


def test_a_system_of_the_workspace_may_have_the_name_of_a_submission(
    request_: SearchRequest,
) -> None:
    system = read_system(request_.get_folder("static"), request_.workspace)
    assert get_system("static", request_.workspace).folder != system.folder
    cascade = read_system(request_.get_folder("cascade"), request_.workspace)
    assert cascade.members[0].folder.resolve() == system.folder.resolve()
