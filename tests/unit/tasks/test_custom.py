"""A task that a `task.toml` declares."""

from pathlib import Path
from typing import Any

import pytest

from harness.errors import ManifestError, SourceError
from harness.tasks import custom
from harness.tasks.metrics import METRICS
from harness.tasks.registry import get_task
from harness.tasks.task import _examples
from tests.support.data_files import loaded, written

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


def tickets(count: int, customers: int = 40) -> list[dict[str, Any]]:
    return [
        {
            "body": f"Ticket {number}, line one.",
            "subject": ["The bill", "It is slow"][number % 2],
            "team": ["billing", "technical"][number % 2],
            "customer": f"c{number % customers}",
        }
        for number in range(count)
    ]


def declared(folder: Path, suffix: str = "jsonl", text: str = DECLARATION) -> Path:
    _examples.cache_clear()
    folder.mkdir(exist_ok=True)
    written(folder / f"train.{suffix}", tickets(200))
    written(folder / f"dev.{suffix}", tickets(30))
    path = folder / "task.toml"
    path.write_text(text.format(suffix=suffix))
    return path


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "tsv", "parquet"])
def test_every_format_gives_the_same_examples(cache: Path, tmp_path: Path, suffix: str) -> None:
    expected = loaded(declared(tmp_path / "expected"))
    found = loaded(declared(tmp_path / suffix, suffix))
    for split in ("train", "selection", "validation"):
        assert list(found.examples(split)) == list(expected.examples(split))
    assert found.examples("validation")[1].candidates == (("Ticket 1, line one.", "It is slow"),)
    assert [each.label for each in found.examples("validation")[:2]] == [0, 1]


def test_groups_fall_into_one_slice(cache: Path, tmp_path: Path) -> None:
    found = loaded(declared(tmp_path / "own"))
    train, selection = (
        {each.group for each in found.examples(split)} for split in ("train", "selection")
    )
    assert train
    assert selection
    assert not train & selection


def test_version_follows_the_data_and_the_declaration(cache: Path, tmp_path: Path) -> None:
    path = declared(tmp_path / "own")
    first = loaded(path).version
    assert loaded(path).version == first
    written(tmp_path / "own" / "dev.jsonl", tickets(31))
    second = loaded(path).version
    path.write_text(path.read_text().replace('pair = "subject"\n', ""))
    assert len({first, second, loaded(path).version}) == 3


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
    folder = tmp_path / "own"
    path = declared(folder, text=text)
    rows = [{"question": f"q{n}", "a": "x", "b": "y", "c": "z", "answer": "b"} for n in range(20)]
    written(folder / "rows.jsonl", rows)
    found = loaded(path)
    example = found.examples("validation")[0]
    assert example.candidates == (("q0", "x"), ("q0", "y"), ("q0", "z"))
    assert (example.label, example.row_labels) == (1, [0, 1, 0])
    assert found.prediction_format is not None
    assert list(found.prediction_format(found.examples("test")[:1], [2])) == [
        {"idx": 0, "label": "c"}
    ]


def test_metrics_on_offer_exist_and_need_only_labels() -> None:
    for name in custom.PLAIN:
        assert -1 <= METRICS[name].score([0, 1, 1], [0, 1, 0], [-1] * 3).value <= 1


def test_all_faults_of_the_declaration_are_said_at_once(tmp_path: Path) -> None:
    path = declared(tmp_path / "own")
    text = path.read_text().replace("max_length = 64", 'max_length = 3\nmetrik = "f1"')
    text = text.replace('metric = "accuracy"', 'metric = "f2"').replace('text = "body"', "text = 3")
    path.write_text(text.replace('validation = "dev.jsonl"\n', ""))
    with pytest.raises(ManifestError) as found:
        get_task(str(path))
    said = str(found.value)
    for part in (
        "unknown key 'metrik'. Did you mean 'metric'?",
        "metric = 'f2': choose 'accuracy'",
        "max_length = 3: choose 8..8192",
        "[fields] text = 3 must be the name of a field",
        "[splits] validation is missing",
    ):
        assert part in said
    assert all(line.startswith(str(path)) for line in said.splitlines())


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('labels = ["billing", "technical"]', 'labels = ["billing"]', "at least two different"),
        ('metric = "accuracy"', 'metric = "f1"', ""),
        ('name = "tickets"', 'name = "rte"', "is a built-in task's"),
        ('name = "tickets"', 'name = "../x"', "not made of letters"),
        ('pair = "subject"', 'pair = "subject"\nchoices = ["a", "b"]', "choices must be a list"),
        ('pair = "subject"', 'choices = ["a"]', "two or more different fields"),
        ('pair = "subject"', 'choices = ["a", "a"]', "two or more different fields"),
        ('pair = "subject"', 'choices = ["a", 1]', "two or more different fields"),
        ('group = "customer"', "group = 3", r"\[fields\] group = 3 must be the name of a field"),
        ('validation = "dev', 'test = 3\nvalidation = "dev', r"\[splits\] test = 3 must be a file"),
        ("max_length = 64", "max_length = 64.5", "max_length = 64.5 must be a whole number"),
        (
            'labels = ["billing", "technical"]',
            "labels = [0, 1]",
            r'labels = \[0, 1\] must be a list of texts. Write \["0", "1"\]',
        ),
    ],
)
def test_declaration_is_checked(tmp_path: Path, old: str, new: str, reason: str) -> None:
    path = declared(tmp_path / "own", text=DECLARATION.replace(old, new))
    if not reason:
        assert get_task(str(path)).metric == "f1"
        return
    with pytest.raises(ManifestError, match=reason):
        get_task(str(path))


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
    path = declared(tmp_path / "own", suffix)
    data = tmp_path / "own" / f"dev.{suffix}"
    data.write_text(data.read_text().replace(old, new, 1))
    with pytest.raises(SourceError, match=reason):
        loaded(path).examples("validation")


def test_truncated_parquet_is_refused(cache: Path, tmp_path: Path) -> None:
    path = declared(tmp_path / "own", "parquet")
    data = tmp_path / "own" / "dev.parquet"
    data.write_bytes(data.read_bytes()[:-30])
    with pytest.raises(SourceError, match=rf"{data}: not a Parquet file"):
        loaded(path).examples("validation")


def test_missing_split_and_file_are_said(cache: Path, tmp_path: Path) -> None:
    path = declared(tmp_path / "own")
    with pytest.raises(SourceError, match=r"there is no test split. Add it to"):
        loaded(path).examples("test")
    (tmp_path / "own" / "dev.jsonl").unlink()
    assert not loaded(path).available_locally()
    with pytest.raises(SourceError, match=r"dev.jsonl: there is no such file. Mend"):
        loaded(path).examples("validation")
