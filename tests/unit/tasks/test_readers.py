"""Rows of data files: columns, values, and what is refused."""

import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from harness.errors import SourceError
from harness.tasks.readers import read_rows
from tests.support.data_files import load_task, write_rows, write_task


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
@pytest.mark.parametrize("key", ["text", "pair", "group", "idx", "label"])
def test_declared_column_that_does_not_exist_is_refused_with_the_nearest(
    cache: Path, tmp_path: Path, suffix: str, key: str
) -> None:
    folder = tmp_path / "task"
    path = write_task(folder, suffix, ["neg", "pos"])
    columns = {"text": "body", "pair": "subject", "group": "customer", "idx": "id", "label": "team"}
    fields = {name: columns[name] + ("x" if name == key else "") for name in columns}
    text = path.read_text().replace('text = "text"\nlabel = "label"\n', "")
    lines = "".join(f'{name} = "{column}"\n' for name, column in fields.items())
    path.write_text(text.replace("[fields]\n", f"[fields]\n{lines}"))
    row = {"body": "a b", "subject": "c", "customer": "c1", "id": 7, "team": "pos"}
    write_rows(folder / f"rows.{suffix}", [row, row])
    message = f"line [12]: {fields[key]} is missing. Did you mean '{columns[key]}'\\? Correct"
    with pytest.raises(SourceError, match=message):
        load_task(path).examples("validation")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("group", None, "group is missing .it is null"),
        ("group", "", "group is empty"),
        ("group", ["a"], "not a string or a number"),
        ("idx", None, "idx is missing"),
        ("idx", {"a": 1}, "not a string or a number"),
        ("label", None, "label is missing"),
    ],
)
def test_declared_column_that_is_empty_is_refused(
    cache: Path, tmp_path: Path, key: str, value: Any, message: str
) -> None:
    path = write_task(tmp_path / "task", "jsonl", ["neg", "pos"], group="group", idx="idx")
    row = {"text": "a", "label": "neg", "group": 3, "idx": 0}
    write_rows(tmp_path / "task" / "rows.jsonl", [row, row | {key: value}])
    with pytest.raises(SourceError, match=rf"line 2: .*{message}"):
        load_task(path).examples("validation")


def test_missing_number_of_pandas_is_not_a_group(cache: Path, tmp_path: Path) -> None:
    path = write_task(tmp_path / "task", "parquet", ["neg", "pos"], group="group")
    rows = [{"text": "a", "label": "neg", "group": group} for group in (1.0, float("nan"))]
    write_rows(tmp_path / "task" / "rows.parquet", rows)
    with pytest.raises(SourceError, match=r"line 2: group is NaN, not a string or a number"):
        load_task(path).examples("validation")


def test_dates_and_decimals_become_json_values(cache: Path, tmp_path: Path) -> None:
    path = write_task(tmp_path / "task", "parquet", ["neg", "pos"])
    for value, idx in (
        (datetime.datetime(2026, 1, 2, 3, 4), "2026-01-02T03:04:00"),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (Decimal("7"), 7),
        ("x7", "x7"),
    ):
        rows = [{"text": "a", "label": "neg", "idx": value}]
        write_rows(tmp_path / "task" / "rows.parquet", rows)
        assert load_task(path).examples("validation")[0].idx == idx


def test_transfer_and_test_text_need_no_label_or_group(cache: Path, tmp_path: Path) -> None:
    path = write_task(tmp_path / "task", "jsonl", ["neg", "pos"], group="group", idx="idx")
    row = {"text": "a", "label": "neg", "group": 3, "idx": 0}
    write_rows(tmp_path / "task" / "rows.jsonl", [row])
    write_rows(tmp_path / "task" / "test.jsonl", [{"text": "b", "idx": "t1"}])
    write_rows(tmp_path / "task" / "more.jsonl", [{"text": "c"}])
    path.write_text(path.read_text() + 'test = "test.jsonl"\ntransfer = "more.jsonl"\n')
    task = load_task(path)
    assert [(example.idx, example.label) for example in task.examples("test")] == [("t1", -1)]
    assert task.transfer is not None
    assert task.transfer.load() == [("c",)]


@pytest.mark.parametrize(
    ("suffix", "content", "message"),
    [
        ("csv", "text,label,text\na,pos,b\n", "fields 1 and 3 both called 'text'"),
        ("tsv", "text\tlabel\tlabel\na\tpos\tneg\n", "fields 2 and 3 both called 'label'"),
        ("jsonl", '{"text": "a", "label": 0, "label": 1}', "fields 2 and 3 both called 'label'"),
    ],
)
def test_two_columns_with_the_same_name_are_refused(
    tmp_path: Path, suffix: str, content: str, message: str
) -> None:
    path = tmp_path / f"rows.{suffix}"
    path.write_text(content)
    with pytest.raises(SourceError, match=rf"{path}: line 1 has {message}"):
        list(read_rows(path))


def test_two_columns_with_the_same_name_in_parquet_are_refused(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    path = tmp_path / "rows.parquet"
    columns = [pyarrow.array(["a"]), pyarrow.array(["pos"]), pyarrow.array(["neg"])]
    parquet.write_table(pyarrow.Table.from_arrays(columns, ["text", "label", "label"]), path)
    with pytest.raises(SourceError, match="it has fields 2 and 3 both called 'label'"):
        list(read_rows(path))


def test_lone_surrogate_is_reported_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "fine \\ud83d\\ude00"}\n{"text": "cut \\ud83d"}\n')
    with pytest.raises(SourceError, match=rf"{path}: line 2 holds half of a character"):
        list(read_rows(path))


@pytest.mark.parametrize("count", range(1, 12))
def test_small_training_file_has_a_selection_slice(cache: Path, tmp_path: Path, count: int) -> None:
    folder = tmp_path / "task"
    path = write_task(folder, "jsonl", ["neg", "pos"])
    rows = [{"text": f"text {number}", "label": "neg"} for number in range(count)]
    write_rows(folder / "rows.jsonl", rows)
    task = load_task(path)
    sizes = [len(task.examples(split)) for split in ("train", "selection")]
    assert sum(sizes) == count
    assert sizes[0] > 0
    assert sizes[1] > 0 or count == 1


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"text": "a", "label": 1' + "0" * 400 + "}", "label is 1000.*, not one of neg, pos"),
        ("[" * 100_000, "recursion"),
        ('{"text": "a", "label": NaN}', "label is NaN, not one of"),
    ],
)
def test_values_that_python_cannot_hold_are_refused(
    cache: Path, tmp_path: Path, row: str, message: str
) -> None:
    path = write_task(tmp_path / "task", "jsonl", ["neg", "pos"])
    (tmp_path / "task" / "rows.jsonl").write_text(row + "\n")
    with pytest.raises(SourceError, match=rf"rows.jsonl: .*{message}"):
        load_task(path).examples("validation")


@pytest.mark.parametrize("name", ["~nobody-here/rows.jsonl", "x" * 300])
def test_impossible_file_names_are_refused(cache: Path, tmp_path: Path, name: str) -> None:
    path = write_task(tmp_path / "task", "jsonl", ["neg", "pos"])
    path.write_text(path.read_text().replace("rows.jsonl", name))
    with pytest.raises(SourceError, match="there is no such file"):
        load_task(path).examples("validation")


def test_groups_of_equal_numbers_are_one(cache: Path, tmp_path: Path) -> None:
    path = write_task(tmp_path / "task", "jsonl", ["neg", "pos"], group="group")
    values = (1, 1.0, "1", 10**400, 2)
    rows = [{"text": "a", "label": "neg", "group": group} for group in values]
    write_rows(tmp_path / "task" / "rows.jsonl", rows)
    assert [example.group for example in load_task(path).examples("validation")] == [0, 0, 0, 1, 2]


def test_paths_below_the_home_folder_are_expanded(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    path = write_task(tmp_path / "task", "jsonl", ["neg", "pos"])
    path.write_text(path.read_text().replace('"rows.jsonl"', '"~/rows.jsonl"'))
    write_rows(home / "rows.jsonl", [{"text": "a", "label": "neg"}])
    monkeypatch.setenv("HOME", str(home))
    assert len(load_task(path).examples("validation")) == 1
