"""Rows and labels out of other people's files: what a value means, and what is refused."""

import csv
import datetime
import json
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from harness.errors import SourceError
from harness.tasks.reading import label_of, read_rows
from harness.tasks.task import Task, _examples, task


def declared(folder: Path, suffix: str, labels: Sequence[str], **keys: str) -> Path:
    """A task whose `rows` file has the columns text and label; keys: more of `[fields]`."""
    folder.mkdir(parents=True, exist_ok=True)
    fields = "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())
    path = folder / "task.toml"
    path.write_text(
        f'name = "mine"\ntitle = "Mine"\nmetric = "accuracy"\nlabels = {json.dumps(labels)}\n'
        f'[fields]\ntext = "text"\nlabel = "label"\n{fields}'
        f'[splits]\ntrain = "rows.{suffix}"\nvalidation = "rows.{suffix}"\n'
    )
    return path


def loaded(path: Path) -> Task:
    _examples.cache_clear()
    return task(str(path))


def written(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".parquet":
        from datasets import Dataset

        Dataset.from_list(list(rows)).to_parquet(path)
    else:
        with path.open("w", newline="") as file:
            comma = "," if path.suffix == ".csv" else "\t"
            writer = csv.DictWriter(file, list(rows[0]), delimiter=comma)
            writer.writeheader()
            writer.writerows(rows)


def labels_of(folder: Path, suffix: str, labels: Sequence[str], values: Sequence[Any]) -> list[str]:
    """The names that the values of a file's label column are read as."""
    path = declared(folder, suffix, labels)
    written(folder / f"rows.{suffix}", [{"text": "a text", "label": value} for value in values])
    return [labels[each.label] for each in loaded(path).examples("validation")]


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "tsv", "parquet"])
@pytest.mark.parametrize(
    ("labels", "values", "names"),
    [
        (["1", "2", "3"], [1, 2, 3, 1], ["1", "2", "3", "1"]),
        (["-1", "0", "1"], [0, 1, -1], ["0", "1", "-1"]),
        (["1", "0"], [1, 0, 0], ["1", "0", "0"]),
        (["1", "2", "3"], [1.0, 3.0], ["1", "3"]),
        (["1.0", "2.0", "3.0"], [1, 2], ["1.0", "2.0"]),
        (["0.5", "1", "1.5"], [1.5, 0.5, 1.0], ["1.5", "0.5", "1"]),
        (["neg", "pos"], [1, 0], ["pos", "neg"]),
        (["neg", "pos"], ["1", "0"], ["pos", "neg"]),
        (["neg", "pos"], [1.0, 0.0], ["pos", "neg"]),
        (["neg", "pos"], ["pos", "neg"], ["pos", "neg"]),
        (["neg", "pos"], [True, False], ["pos", "neg"]),
        (["true", "false"], [True, False], ["true", "false"]),
        (["True", "False"], [True, False], ["True", "False"]),
        (["5", "1"], ["1", "5"], ["1", "5"]),
    ],
)
def test_label_is_read_by_name_and_only_then_by_position(
    cache: Path,
    tmp_path: Path,
    suffix: str,
    labels: list[str],
    values: list[Any],
    names: list[str],
) -> None:
    assert labels_of(tmp_path / "own", suffix, labels, values) == names


def test_value_of_any_type_means_the_same_label() -> None:
    for value in (1, 1.0, "1", "1.0", True, "true", "True", "TRUE", Decimal(1), Decimal("1.0")):
        assert label_of(value, ["neg", "pos"]) == (1, True), value
        assert label_of(value, ["1", "0"]) == (0, False), value
    for value in (None, 2, -1, 0.5, "0.5", "", " ", "nan", float("nan"), "inf", "+", [1], {}):
        assert label_of(value, ["neg", "pos"]) is None, value
    for value in (10**400, "9" * 400, float("inf"), ["pos"], b"pos"):
        assert label_of(value, ["neg", "pos", "['pos']", "b'pos'"]) is None, value
    big = [str(2**53), str(2**53 + 2)]
    assert label_of(2**53 + 1, big) is None, "no rounding"
    assert label_of(2**53 + 2, big) == (1, False)
    assert label_of("001", ["01", "1"]) is None, "it equals both"
    assert label_of("²", ["a", "b", "c"]) is None
    assert label_of(1, ["+1", "-1"]) == (0, False)


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_integers_that_are_now_names_and_now_positions_are_refused(
    cache: Path, tmp_path: Path, suffix: str
) -> None:
    with pytest.raises(SourceError, match=r"label: .*0.* is no label's name.*1.* is a name"):
        labels_of(tmp_path / "own", suffix, ["1", "2", "3"], [1, 2, 0])
    with pytest.raises(SourceError, match=r"label: .*0.* is no label's name.*1.* is a name"):
        labels_of(tmp_path / "own", suffix, ["1", "2", "3"], [0, 1, 2])


def test_choices_numbered_from_one_are_refused(cache: Path, tmp_path: Path) -> None:
    path = declared(tmp_path / "own", "jsonl", ["a", "b"])
    text = path.read_text().replace('labels = ["a", "b"]\n', "")
    path.write_text(text.replace("[splits]", 'choices = ["first", "second"]\n[splits]'))
    rows = [{"text": "q", "first": "x", "second": "y", "label": each} for each in (1, 1, 2)]
    written(tmp_path / "own" / "rows.jsonl", rows)
    said = r"line 3: label is 2, not one of first, second \(positions count from 0, to 1\)"
    with pytest.raises(SourceError, match=said):
        loaded(path).examples("validation")
    written(tmp_path / "own" / "rows.jsonl", [row | {"label": row["label"] - 1} for row in rows])
    assert [each.label for each in loaded(path).examples("validation")] == [0, 0, 1]


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
@pytest.mark.parametrize("key", ["text", "pair", "group", "idx", "label"])
def test_declared_column_that_does_not_exist_is_refused_with_the_nearest(
    cache: Path, tmp_path: Path, suffix: str, key: str
) -> None:
    folder = tmp_path / "own"
    path = declared(folder, suffix, ["neg", "pos"])
    columns = {"text": "body", "pair": "subject", "group": "customer", "idx": "id", "label": "team"}
    fields = {name: columns[name] + ("x" if name == key else "") for name in columns}
    text = path.read_text().replace('text = "text"\nlabel = "label"\n', "")
    lines = "".join(f'{name} = "{column}"\n' for name, column in fields.items())
    path.write_text(text.replace("[fields]\n", f"[fields]\n{lines}"))
    row = {"body": "a b", "subject": "c", "customer": "c1", "id": 7, "team": "pos"}
    written(folder / f"rows.{suffix}", [row, row])
    said = f"line [12]: {fields[key]} is missing. Did you mean '{columns[key]}'\\? Mend"
    with pytest.raises(SourceError, match=said):
        loaded(path).examples("validation")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("group", None, "group is missing .it is null"),
        ("group", "", 'group is "", not a text or a number'),
        ("group", ["a"], "not a text or a number"),
        ("idx", None, "idx is missing"),
        ("idx", {"a": 1}, "not a text or a number"),
        ("label", None, "label is missing"),
    ],
)
def test_declared_column_that_is_empty_is_refused(
    cache: Path, tmp_path: Path, key: str, value: Any, said: str
) -> None:
    path = declared(tmp_path / "own", "jsonl", ["neg", "pos"], group="group", idx="idx")
    row = {"text": "a", "label": "neg", "group": 3, "idx": 0}
    written(tmp_path / "own" / "rows.jsonl", [row, row | {key: value}])
    with pytest.raises(SourceError, match=rf"line 2: .*{said}"):
        loaded(path).examples("validation")


def test_missing_numbers_of_pandas_are_no_group(cache: Path, tmp_path: Path) -> None:
    path = declared(tmp_path / "own", "parquet", ["neg", "pos"], group="group")
    rows = [{"text": "a", "label": "neg", "group": each} for each in (1.0, float("nan"))]
    written(tmp_path / "own" / "rows.parquet", rows)
    with pytest.raises(SourceError, match=r"line 2: group is NaN, not a text or a number"):
        loaded(path).examples("validation")


def test_dates_and_decimals_become_json_values(cache: Path, tmp_path: Path) -> None:
    path = declared(tmp_path / "own", "parquet", ["neg", "pos"])
    for value, kept in (
        (datetime.datetime(2026, 1, 2, 3, 4), "2026-01-02T03:04:00"),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (Decimal("7"), 7),
        ("x7", "x7"),
    ):
        rows = [{"text": "a", "label": "neg", "idx": value}]
        written(tmp_path / "own" / "rows.parquet", rows)
        assert loaded(path).examples("validation")[0].idx == kept


def test_transfer_and_test_text_need_no_label_or_group(cache: Path, tmp_path: Path) -> None:
    path = declared(tmp_path / "own", "jsonl", ["neg", "pos"], group="group", idx="idx")
    row = {"text": "a", "label": "neg", "group": 3, "idx": 0}
    written(tmp_path / "own" / "rows.jsonl", [row])
    written(tmp_path / "own" / "test.jsonl", [{"text": "b", "idx": "t1"}])
    written(tmp_path / "own" / "more.jsonl", [{"text": "c"}])
    path.write_text(path.read_text() + 'test = "test.jsonl"\ntransfer = "more.jsonl"\n')
    mine = loaded(path)
    assert [(each.idx, each.label) for each in mine.examples("test")] == [("t1", -1)]
    assert mine.transfer is not None
    assert mine.transfer.load() == [("c",)]


@pytest.mark.parametrize(
    ("suffix", "content", "said"),
    [
        ("csv", "text,label,text\na,pos,b\n", "line 1 has fields 1 and 3 both called 'text'"),
        ("tsv", "text\tlabel\tlabel\na\tpos\tneg\n", "fields 2 and 3 both called 'label'"),
        ("jsonl", '{"text": "a", "label": 0, "label": 1}', "fields 2 and 3 both called 'label'"),
    ],
)
def test_two_columns_of_one_name_are_refused(
    tmp_path: Path, suffix: str, content: str, said: str
) -> None:
    path = tmp_path / f"rows.{suffix}"
    path.write_text(content)
    with pytest.raises(SourceError, match=rf"{path}: line 1 has .*{said}|{said}"):
        list(read_rows(path))


def test_two_columns_of_one_name_in_parquet_are_refused(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    path = tmp_path / "rows.parquet"
    columns = [pyarrow.array(["a"]), pyarrow.array(["pos"]), pyarrow.array(["neg"])]
    parquet.write_table(pyarrow.Table.from_arrays(columns, ["text", "label", "label"]), path)
    with pytest.raises(SourceError, match="it has fields 2 and 3 both called 'label'"):
        list(read_rows(path))


LINES = [
    "sentence\tlabel",
    '"the opening line of it\tneg',
    "one more\tneg",
    'here it closes"\tpos',
    '"all of it"\tpos',
    'said "so" twice\tneg',
    '""hello"" to you\tpos',
    '"\tneg',
]


def test_quotation_marks_in_tsv_are_letters(tmp_path: Path) -> None:
    path = tmp_path / "rows.tsv"
    path.write_text("\n".join(LINES) + "\n")
    rows = [each.values for each in read_rows(path)]
    assert [(row["sentence"], row["label"]) for row in rows] == [
        tuple(line.split("\t")) for line in LINES[1:]
    ]


def test_lines_that_are_quoted_all_over_are_refused_unless_it_is_said(tmp_path: Path) -> None:
    rows = [{"text": 'He said "so"', "label": "pos"}, {"text": "two\nlines", "label": "neg"}]
    path = tmp_path / "rows.tsv"
    written(path, rows)  # doubled marks inside, as pandas writes them, too
    with pytest.raises(SourceError, match=r'line 2 has a field .* quoting = "minimal".* or "none"'):
        list(read_rows(path))
    assert [each.values for each in read_rows(path, quoting="minimal")] == rows
    path.write_text('text\tlabel\n"He said ""so"""\tpos\n')
    assert next(read_rows(path, quoting="none")).values["text"] == '"He said ""so"""'
    path.write_text('"text"\t"label"\n"a"\t"pos"\n')
    with pytest.raises(SourceError, match=r"line 1 has a field that is enclosed"):
        list(read_rows(path))
    path.write_text('text\tlabel\n"two\nlines"\tneg\n')
    with pytest.raises(SourceError, match=r"line 2 has 1 fields.* set quoting = \"minimal\""):
        list(read_rows(path))


def test_quoting_of_the_declaration_is_used(cache: Path, tmp_path: Path) -> None:
    folder = tmp_path / "own"
    path = declared(folder, "tsv", ["neg", "pos"])
    written(folder / "rows.tsv", [{"text": 'He said "so"', "label": "pos"}])
    with pytest.raises(SourceError, match="quoting"):
        loaded(path).examples("validation")
    plain = path.read_text()
    path.write_text(f'quoting = "minimal"\n{plain}')
    assert loaded(path).examples("validation")[0].candidates == (('He said "so"',),)
    path.write_text(f'quoting = "none"\n{plain}')
    assert loaded(path).examples("validation")[0].candidates == (('"He said ""so"""',),)
    path.write_text(f'quoting = "all"\n{plain}')
    with pytest.raises(Exception, match=r"quoting = 'all': choose 'none', 'minimal'"):
        loaded(path)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ('text,label\na,pos\n"never closed,neg\nb,pos\nc,neg\n', 3),
        ('text,label\n"two\nlines",pos\n"never, closed\nb,pos\n', 4),
        ('text,label\n"one\ntwo","three\nfour\n', 3),
        ('text,label\n"closed" and more,neg\n', 2),
        ('text,label\n"opens\ncloses" here,neg\n', 2),
        ('text,label\n"with ""doubled"" ones,neg\n', 2),
    ],
)
def test_quote_that_never_closes_is_said_with_the_line_where_it_opens(
    tmp_path: Path, content: str, line: int
) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(content)
    with pytest.raises(SourceError, match=rf"{path}: line {line}: the quotation mark that opens"):
        list(read_rows(path))


def test_blank_lines_are_skipped_and_places_are_lines(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('\ntext,label\n\n"a\nb",pos\n   \nc,neg\n\n')
    rows = list(read_rows(path))
    assert [each.values for each in rows] == [
        {"text": "a\nb", "label": "pos"},
        {"text": "c", "label": "neg"},
    ]
    assert [each.place.rpartition(" ")[2] for each in rows] == ["4", "7"]


def test_long_field_is_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(f"text,label\n{'x' * 300_000},pos\n")
    assert len(next(read_rows(path)).values["text"]) == 300_000


def test_lone_surrogate_is_said_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "fine \\ud83d\\ude00"}\n{"text": "cut \\ud83d"}\n')
    with pytest.raises(SourceError, match=rf"{path}: line 2 holds half of a character"):
        list(read_rows(path))


def test_class_label_of_parquet_keeps_its_names(cache: Path, tmp_path: Path) -> None:
    from datasets import ClassLabel, Dataset, Features, Value

    folder = tmp_path / "own"
    path = declared(folder, "parquet", ["Sports", "World"])
    features = Features({"text": Value("string"), "label": ClassLabel(names=["World", "Sports"])})
    rows = [{"text": "a", "label": each} for each in (0, 1, 1)]
    Dataset.from_list(rows, features=features).to_parquet(folder / "rows.parquet")
    assert [each.label for each in loaded(path).examples("validation")] == [1, 0, 0]
    numbered = Features({"text": Value("string"), "label": ClassLabel(names=["1", "2"])})
    Dataset.from_list(rows, features=numbered).to_parquet(folder / "rows.parquet")
    with pytest.raises(SourceError, match='line 1: label is "1", not one of Sports, World'):
        loaded(path).examples("validation")
    positions = Features({"text": Value("string"), "label": ClassLabel(names=["0", "1"])})
    Dataset.from_list(rows, features=positions).to_parquet(folder / "rows.parquet")
    assert [each.label for each in loaded(path).examples("validation")] == [0, 1, 1]
    unlabelled = Dataset.from_list([{"text": "a", "label": -1}], features=features)
    unlabelled.to_parquet(folder / "rows.parquet")
    with pytest.raises(SourceError, match="line 1: label is missing"):
        loaded(path).examples("validation")


@pytest.mark.parametrize("count", range(1, 12))
def test_small_training_file_has_a_selection_slice(cache: Path, tmp_path: Path, count: int) -> None:
    folder = tmp_path / "own"
    path = declared(folder, "jsonl", ["neg", "pos"])
    rows = [{"text": f"text {number}", "label": "neg"} for number in range(count)]
    written(folder / "rows.jsonl", rows)
    mine = loaded(path)
    sizes = [len(mine.examples(split)) for split in ("train", "selection")]
    assert sum(sizes) == count
    assert sizes[0] > 0
    assert sizes[1] > 0 or count == 1


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ('{"text": "a", "label": 1' + "0" * 400 + "}", "label is 1000.*, not one of neg, pos"),
        ("[" * 100_000, "recursion"),
        ('{"text": "a", "label": NaN}', "label is NaN, not one of"),
    ],
)
def test_values_that_python_cannot_hold_are_refused(
    cache: Path, tmp_path: Path, row: str, said: str
) -> None:
    path = declared(tmp_path / "own", "jsonl", ["neg", "pos"])
    (tmp_path / "own" / "rows.jsonl").write_text(row + "\n")
    with pytest.raises(SourceError, match=rf"rows.jsonl: .*{said}"):
        loaded(path).examples("validation")


@pytest.mark.parametrize("name", ["~nobody-here/rows.jsonl", "x" * 300])
def test_names_that_no_file_can_have_are_refused(cache: Path, tmp_path: Path, name: str) -> None:
    path = declared(tmp_path / "own", "jsonl", ["neg", "pos"])
    path.write_text(path.read_text().replace("rows.jsonl", name))
    with pytest.raises(SourceError, match="there is no such file"):
        loaded(path).examples("validation")


def test_groups_of_equal_numbers_are_one(cache: Path, tmp_path: Path) -> None:
    path = declared(tmp_path / "own", "jsonl", ["neg", "pos"], group="group")
    rows = [{"text": "a", "label": "neg", "group": each} for each in (1, 1.0, "1", 10**400, 2)]
    written(tmp_path / "own" / "rows.jsonl", rows)
    assert [each.group for each in loaded(path).examples("validation")] == [0, 0, 0, 1, 2]


def test_files_below_home_are_found(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    path = declared(tmp_path / "own", "jsonl", ["neg", "pos"])
    path.write_text(path.read_text().replace('"rows.jsonl"', '"~/rows.jsonl"'))
    written(home / "rows.jsonl", [{"text": "a", "label": "neg"}])
    monkeypatch.setenv("HOME", str(home))
    assert len(loaded(path).examples("validation")) == 1
