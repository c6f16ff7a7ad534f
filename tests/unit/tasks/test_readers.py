"""Rows of data files: columns, values, and what is refused."""

import datetime
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from harness.errors import SourceError
from harness.tasks import custom
from harness.tasks.readers import DataRow, read_rows
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


def test_blanks_around_names_labels_groups_and_numbers_do_not_count(
    cache: Path, tmp_path: Path
) -> None:
    rows = [
        {" text ": " a ", "label\t": " pos", "group": "1 ", "idx": " x1"},
        {" text ": "b", "label\t": "neg\u00a0", "group": " 1", "idx": "x2 "},
    ]
    for suffix in ("jsonl", "csv", "tsv", "parquet"):
        folder = tmp_path / suffix
        path = write_task(folder, suffix, ["neg ", " pos"], group=" group", idx="idx ")
        write_rows(
            folder / f"rows.{suffix}",
            rows
            if suffix != "tsv"
            else [{key.strip(): value for key, value in row.items()} for row in rows],
        )
        task = load_task(path)
        assert task.labels == ("neg", "pos")
        assert [
            (example.candidates, example.label, example.group, example.idx)
            for example in task.examples("validation")
        ] == [(((" a ",),), 1, 0, "x1"), ((("b",),), 0, 0, "x2")]


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        ("csv", "text, text ,label\na,b,pos\n"),
        ("jsonl", '{"text": "a", " text": "b", "label": 0}'),
    ],
)
def test_names_that_differ_only_in_blanks_are_the_same(
    tmp_path: Path, suffix: str, content: str
) -> None:
    path = tmp_path / f"rows.{suffix}"
    path.write_text(content)
    with pytest.raises(SourceError, match="fields 1 and 2 both called 'text'"):
        list(read_rows(path))


def test_values_that_look_like_others_are_shown_with_escapes(cache: Path, tmp_path: Path) -> None:
    path = write_task(tmp_path / "task", "jsonl", ["neg", "pos"])
    write_rows(tmp_path / "task" / "rows.jsonl", [{"text": "a", "label": "pos\u200b"}])
    with pytest.raises(SourceError, match=r'label is "pos.u200b", not one of'):
        load_task(path).examples("validation")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            '[{"text": "a"}, {"text": "b"}]',
            r"line 1 is \[.*, not an object. Each line must be",
        ),
        ('{\n  "text": "a"\n}\n', r"line 1 is not JSON .* Each line must be an object"),
        ('"a"\n', r'line 1 is "a", not an object\.'),
        ('{"text": "a"}\n{"text": "a\tb"}\n', r"line 2 is not JSON \(Invalid control character"),
    ],
)
def test_other_json_than_lines_of_objects_is_refused(
    tmp_path: Path, content: str, message: str
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(content)
    with pytest.raises(SourceError, match=message):
        list(read_rows(path))


def test_suffix_may_be_in_capitals(cache: Path, tmp_path: Path) -> None:
    path = tmp_path / "ROWS.CSV"
    path.write_text('text,label\n"a, b",pos\n')
    assert next(read_rows(path)).values == {"text": "a, b", "label": "pos"}


@pytest.mark.parametrize("name", ["rows.jsonl.gz", "rows.json", "rows.xlsx", "rows.txt", "rows"])
def test_other_suffix_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text('{"text": "a"}\n')
    with pytest.raises(SourceError, match=r"must end in .jsonl, .csv, .tsv, .parquet. Unpack"):
        list(read_rows(tmp_path / name))


def test_same_content_is_read_again_under_another_suffix(cache: Path, tmp_path: Path) -> None:
    texts = []
    for suffix in ("csv", "tsv"):
        path = write_task(tmp_path / suffix, suffix, ["neg", "pos"])
        (tmp_path / suffix / f"rows.{suffix}").write_text('text\tlabel\n"a"\tpos\n')
        texts.append(load_task(path).examples("validation")[0].candidates[0][0])
    assert texts == ["a", '"a"']


def test_file_that_changes_while_it_is_read_is_refused(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_task(tmp_path / "task", "jsonl", ["neg", "pos"])
    data = tmp_path / "task" / "rows.jsonl"
    write_rows(data, [{"text": "a", "label": "neg"}])

    def read_and_append(*arguments: Any) -> Iterator[DataRow]:
        yield from read_rows(*arguments)
        data.write_text(data.read_text() * 2)

    monkeypatch.setattr(custom, "read_rows", read_and_append)
    with pytest.raises(SourceError, match=r"rows.jsonl: it changed while it was read"):
        load_task(path).examples("validation")
    monkeypatch.undo()
    assert len(load_task(path).examples("validation")) == 2


def test_folder_is_not_a_data_file(cache: Path, tmp_path: Path) -> None:
    path = write_task(tmp_path / "task", "jsonl", ["neg", "pos"])
    (tmp_path / "task" / "rows.jsonl").mkdir()
    with pytest.raises(SourceError, match=r"rows.jsonl: it is not a file. Fix \[splits\] valid"):
        load_task(path).examples("validation")


def test_numbers_of_test_examples_are_different(cache: Path, tmp_path: Path) -> None:
    path = write_task(tmp_path / "task", "jsonl", ["neg", "pos"])
    path.write_text(path.read_text() + 'test = "rows.jsonl"\n')
    rows = [{"text": "a", "label": "neg", "idx": idx} for idx in (1, 2, 1.0)]
    write_rows(tmp_path / "task" / "rows.jsonl", rows)
    assert [example.idx for example in load_task(path).examples("validation")] == [1, 2, 1]
    with pytest.raises(SourceError, match=r"line 3: idx is 1, like that of line 1\."):
        load_task(path).examples("test")


def test_columns_of_parquet_that_are_not_declared_are_not_decoded(
    cache: Path, tmp_path: Path
) -> None:
    import pyarrow
    from pyarrow import parquet

    path = write_task(tmp_path / "task", "parquet", ["neg", "pos"])
    columns = {
        "text": ["a"],
        "label": ["pos"],
        "far": pyarrow.array([10**7], pyarrow.date32()),  # a year that Python does not have
        "map": pyarrow.array([[("key", 1)]], pyarrow.map_(pyarrow.string(), pyarrow.int64())),
    }
    data = tmp_path / "task" / "rows.parquet"
    parquet.write_table(pyarrow.table(columns), data)
    assert len(load_task(path).examples("validation")) == 1
    parquet.write_table(pyarrow.table(columns | {"idx": columns["far"]}), data)
    with pytest.raises(SourceError, match=r"lines 1 to 1: idx cannot be read \(date value out of"):
        load_task(path).examples("validation")
    parquet.write_table(pyarrow.table({"txt": ["a"], "far": columns["far"]}), data)
    with pytest.raises(SourceError, match=r"text is missing. Did you mean 'txt'"):
        load_task(path).examples("validation")


@pytest.mark.parametrize("kind", ["large_string", "string_view", "dictionary"])
def test_strings_of_parquet_are_read_in_every_type(cache: Path, tmp_path: Path, kind: str) -> None:
    import pyarrow
    from pyarrow import parquet

    path = write_task(tmp_path / "task", "parquet", ["neg", "pos"])
    columns = {"text": ["a", "b", "c"], "label": ["pos", "neg", "pos"]}
    types = {"large_string": pyarrow.large_string(), "string_view": pyarrow.string_view()}
    table = pyarrow.table(
        {
            name: pyarrow.array(values, types.get(kind)).dictionary_encode()
            if kind == "dictionary"
            else pyarrow.array(values, types[kind])
            for name, values in columns.items()
        }
    )
    data = tmp_path / "task" / "rows.parquet"
    parquet.write_table(table, data, row_group_size=2, compression="zstd")
    examples = load_task(path).examples("validation")
    assert [(example.candidates[0][0], example.label) for example in examples] == [
        ("a", 1),
        ("b", 0),
        ("c", 1),
    ]


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
    with pytest.raises(SourceError, match=r"there is no such file|File name too long"):
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
