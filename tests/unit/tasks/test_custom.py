"""Custom tasks: what a `task.toml` declares, and its data."""

from pathlib import Path
from typing import Any, get_args

import pytest

from harness.errors import ManifestError, SourceError
from harness.tasks import custom
from harness.tasks.metrics import METRICS
from harness.tasks.registry import get_task
from harness.tasks.task import _load_examples
from tests.support.data_files import load_task, write_rows

DECLARATION = """
name = "tickets"
title = "Which team a ticket goes to"
labels = ["billing", "technical"]
metric = "accuracy"
max_length = 64
[fields]
text = "body"
pair = "subject"
label = "team"
group = "customer"
[splits]
train = "train.{suffix}"
validation = "dev.{suffix}"
"""


def make_tickets(count: int, customers: int = 40) -> list[dict[str, Any]]:
    return [
        {
            "body": f"Ticket {number}, line one.",
            "subject": ["The bill", "It is slow"][number % 2],
            "team": ["billing", "technical"][number % 2],
            "customer": f"c{number % customers}",
        }
        for number in range(count)
    ]


def write_task(folder: Path, suffix: str = "jsonl", text: str = DECLARATION) -> Path:
    _load_examples.cache_clear()
    folder.mkdir(exist_ok=True)
    write_rows(folder / f"train.{suffix}", make_tickets(200))
    write_rows(folder / f"dev.{suffix}", make_tickets(30))
    path = folder / "task.toml"
    path.write_text(text.format(suffix=suffix))
    return path


def test_title_is_the_name_by_default(cache: Path, tmp_path: Path) -> None:
    text = DECLARATION.replace('title = "Which team a ticket goes to"\n', "")
    assert load_task(write_task(tmp_path, text=text)).title == "tickets"


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "tsv", "parquet"])
def test_every_format_gives_the_same_examples(cache: Path, tmp_path: Path, suffix: str) -> None:
    expected = load_task(write_task(tmp_path / "expected"))
    task = load_task(write_task(tmp_path / suffix, suffix))
    for split in ("train", "selection", "validation"):
        assert list(task.examples(split)) == list(expected.examples(split))
    assert task.examples("validation")[1].candidates == (("Ticket 1, line one.", "It is slow"),)
    assert [example.label for example in task.examples("validation")[:2]] == [0, 1]


def test_groups_fall_into_one_slice(cache: Path, tmp_path: Path) -> None:
    task = load_task(write_task(tmp_path / "task"))
    train, selection = (
        {example.group for example in task.examples(split)} for split in ("train", "selection")
    )
    assert train
    assert selection
    assert not train & selection


def test_version_follows_the_data_and_the_declaration(cache: Path, tmp_path: Path) -> None:
    path = write_task(tmp_path / "task")
    first = load_task(path).version
    assert load_task(path).version == first
    write_rows(tmp_path / "task" / "dev.jsonl", make_tickets(31))
    second = load_task(path).version
    path.write_text(path.read_text().replace('pair = "subject"\n', ""))
    assert len({first, second, load_task(path).version}) == 3


def test_choices_are_scored_one_by_one(cache: Path, tmp_path: Path) -> None:
    text = """
name = "which"
title = "Which answer"
metric = "accuracy"
[fields]
text = "question"
choices = ["a", "b", "c"]
label = "answer"
[splits]
train = "rows.jsonl"
validation = "rows.jsonl"
test = "rows.jsonl"
"""
    folder = tmp_path / "task"
    path = write_task(folder, text=text)
    rows = [
        {"question": f"q{number}", "a": "x", "b": "y", "c": "z", "answer": "b"}
        for number in range(20)
    ]
    write_rows(folder / "rows.jsonl", rows)
    task = load_task(path)
    example = task.examples("validation")[0]
    assert example.candidates == (("q0", "x"), ("q0", "y"), ("q0", "z"))
    assert (example.label, example.candidate_labels) == (1, [0, 1, 0])
    assert task.prediction_format is not None
    predictions = task.prediction_format(task.examples("test")[:1], [2])
    assert list(predictions) == [{"idx": 0, "label": "c"}]


def test_metrics_of_custom_tasks_exist_and_need_only_labels() -> None:
    for name in get_args(custom.TaskFile.model_fields["metric"].annotation):
        assert -1 <= METRICS[name].score([0, 1, 1], [0, 1, 0], [-1] * 3).value <= 1


def test_all_faults_of_the_declaration_are_reported_at_once(tmp_path: Path) -> None:
    path = write_task(tmp_path / "task")
    text = path.read_text().replace("max_length = 64", 'max_length = 3\nmetrik = "f1"')
    text = text.replace('metric = "accuracy"', 'metric = "f2"').replace('text = "body"', "text = 3")
    path.write_text(text.replace('validation = "dev.jsonl"\n', ""))
    with pytest.raises(ManifestError) as raised:
        get_task(str(path))
    message = str(raised.value)
    for part in (
        "unknown key 'metrik'. Did you mean 'metric'?",
        "metric = 'f2': choose 'accuracy'",
        "max_length = 3: choose 8..8192",
        "[fields] text = 3 must be the name of a field",
        "[splits] validation is missing",
    ):
        assert part in message
    assert all(line.startswith(str(path)) for line in message.splitlines())


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (
            'labels = ["billing", "technical"]',
            'labels = ["billing"]',
            "two or more different strings",
        ),
        ('metric = "accuracy"', 'metric = "f1"', ""),
        ('name = "tickets"', 'name = "rte"', "is that of a built-in task"),
        ('name = "tickets"', 'name = "../x"', "use only letters, digits"),
        ('pair = "subject"', 'pair = "subject"\nchoices = ["a", "b"]', "choices must be a list"),
        ('pair = "subject"', 'choices = ["a"]', "two or more different fields"),
        ('pair = "subject"', 'choices = ["a", "a"]', "two or more different fields"),
        ('pair = "subject"', 'choices = ["a", 1]', "two or more different fields"),
        ('group = "customer"', "group = 3", r"\[fields\] group = 3 must be the name of a field"),
        (
            'validation = "dev',
            'test = 3\nvalidation = "dev',
            r"\[splits\] test = 3 must be",
        ),
        ("max_length = 64", "max_length = 64.5", "max_length = 64.5 must be an integer"),
        (
            'labels = ["billing", "technical"]',
            "labels = [0.5, 1]",
            r"labels = \[0.5, 1\] must be a list of strings",
        ),
    ],
)
def test_declaration_is_checked(tmp_path: Path, old: str, new: str, reason: str) -> None:
    path = write_task(tmp_path / "task", text=DECLARATION.replace(old, new))
    if not reason:
        assert get_task(str(path)).metric == "f1"
        return
    with pytest.raises(ManifestError, match=reason):
        get_task(str(path))


def test_labels_may_be_written_as_integers(cache: Path, tmp_path: Path) -> None:
    old = 'labels = ["billing", "technical"]'
    path = write_task(tmp_path, text=DECLARATION.replace(old, "labels = [1, 0]"))
    rows = make_tickets(4)
    for row, team in zip(rows, (1, 0, "1", 0.0), strict=True):
        row["team"] = team
    write_rows(tmp_path / "dev.jsonl", rows)
    task = load_task(path)
    assert task.labels == ("1", "0")
    assert [example.label for example in task.examples("validation")] == [0, 1, 0, 1]


@pytest.mark.parametrize(
    ("suffix", "old", "new", "reason"),
    [
        ("jsonl", '"team": "technical"', '"team": "sales"', 'line 2: team is "sales", not one of'),
        ("jsonl", '"body"', '"text"', "line 1: body is missing. Known: customer, subject, te"),
        ("csv", "It is slow,technical,c1", "It is slow,technical", "line 3 has 3 fields, but .* 4"),
        (
            "csv",
            "It is slow,technical,c1",
            '"It is slow,technical,c1',
            "line 3: the quotation",
        ),
        ("tsv", "technical\tc1", "sales\tc1", 'line 3: team is "sales"'),
    ],
)
def test_faulty_data_is_refused_with_its_line(
    cache: Path, tmp_path: Path, suffix: str, old: str, new: str, reason: str
) -> None:
    path = write_task(tmp_path / "task", suffix)
    data = tmp_path / "task" / f"dev.{suffix}"
    data.write_text(data.read_text().replace(old, new, 1))
    with pytest.raises(SourceError, match=reason):
        load_task(path).examples("validation")


def test_truncated_parquet_is_refused(cache: Path, tmp_path: Path) -> None:
    path = write_task(tmp_path / "task", "parquet")
    data = tmp_path / "task" / "dev.parquet"
    data.write_bytes(data.read_bytes()[:-30])
    with pytest.raises(SourceError, match=rf"{data}: not a Parquet file"):
        load_task(path).examples("validation")


def test_missing_split_and_missing_file_are_reported(cache: Path, tmp_path: Path) -> None:
    path = write_task(tmp_path / "task")
    with pytest.raises(SourceError, match=r"there is no test split. Add it to"):
        load_task(path).examples("test")
    (tmp_path / "task" / "dev.jsonl").unlink()
    assert not load_task(path).available_locally()
    with pytest.raises(SourceError, match=r"dev.jsonl: there is no such file. Fix"):
        load_task(path).examples("validation")
    path.write_text(path.read_text() + 'transfer = "more.jsonl"\n')
    with pytest.raises(SourceError, match=r"more.jsonl: there is no such file. Fix .splits. trans"):
        load_task(path)
