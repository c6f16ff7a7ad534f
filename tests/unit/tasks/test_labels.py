"""Which label a value of a data file stands for."""

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from harness.errors import SourceError
from harness.tasks.labels import parse_label
from tests.support.data_files import load_task, write_rows, write_task


def read_labels(
    folder: Path, suffix: str, labels: Sequence[str], values: Sequence[Any]
) -> list[str]:
    """Return the names of the labels that a file with these values is read as."""
    path = write_task(folder, suffix, labels)
    write_rows(folder / f"rows.{suffix}", [{"text": "a text", "label": value} for value in values])
    return [labels[example.label] for example in load_task(path).examples("validation")]


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
    assert read_labels(tmp_path / "task", suffix, labels, values) == names


def test_values_of_all_types_stand_for_the_same_label() -> None:
    for value in (1, 1.0, "1", "1.0", True, "true", "True", "TRUE", Decimal(1), Decimal("1.0")):
        assert parse_label(value, ["neg", "pos"]) == (1, True), value
        assert parse_label(value, ["1", "0"]) == (0, False), value
    for value in (None, 2, -1, 0.5, "0.5", "", " ", "nan", float("nan"), "inf", "+", [1], {}):
        assert parse_label(value, ["neg", "pos"]) is None, value
    for value in (10**400, "9" * 400, float("inf"), ["pos"], b"pos"):
        assert parse_label(value, ["neg", "pos", "['pos']", "b'pos'"]) is None, value
    big = [str(2**53), str(2**53 + 2)]
    assert parse_label(2**53 + 1, big) is None, "no rounding"
    assert parse_label(2**53 + 2, big) == (1, False)
    assert parse_label("001", ["01", "1"]) is None, "it equals both names"
    assert parse_label("²", ["a", "b", "c"]) is None
    assert parse_label(1, ["+1", "-1"]) == (0, False)


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_file_that_mixes_names_and_positions_is_refused(
    cache: Path, tmp_path: Path, suffix: str
) -> None:
    with pytest.raises(
        SourceError, match=r"label: .*0.* is not the name of a label.*1.* is the name of one"
    ):
        read_labels(tmp_path / "task", suffix, ["1", "2", "3"], [1, 2, 0])
    with pytest.raises(
        SourceError, match=r"label: .*0.* is not the name of a label.*1.* is the name of one"
    ):
        read_labels(tmp_path / "task", suffix, ["1", "2", "3"], [0, 1, 2])


def test_choices_numbered_from_one_are_refused(cache: Path, tmp_path: Path) -> None:
    path = write_task(tmp_path / "task", "jsonl", ["a", "b"])
    text = path.read_text().replace('labels = ["a", "b"]\n', "")
    path.write_text(text.replace("[splits]", 'choices = ["first", "second"]\n[splits]'))
    rows = [{"text": "q", "first": "x", "second": "y", "label": label} for label in (1, 1, 2)]
    write_rows(tmp_path / "task" / "rows.jsonl", rows)
    message = r"line 3: label is 2, not one of first, second \(positions count from 0, to 1\)"
    with pytest.raises(SourceError, match=message):
        load_task(path).examples("validation")
    write_rows(
        tmp_path / "task" / "rows.jsonl", [row | {"label": row["label"] - 1} for row in rows]
    )
    assert [example.label for example in load_task(path).examples("validation")] == [0, 0, 1]


def test_class_label_of_parquet_keeps_its_names(cache: Path, tmp_path: Path) -> None:
    from datasets import ClassLabel, Dataset, Features, Value

    folder = tmp_path / "task"
    path = write_task(folder, "parquet", ["Sports", "World"])
    features = Features({"text": Value("string"), "label": ClassLabel(names=["World", "Sports"])})
    rows = [{"text": "a", "label": label} for label in (0, 1, 1)]
    Dataset.from_list(rows, features=features).to_parquet(folder / "rows.parquet")
    assert [example.label for example in load_task(path).examples("validation")] == [1, 0, 0]
    numbered = Features({"text": Value("string"), "label": ClassLabel(names=["1", "2"])})
    Dataset.from_list(rows, features=numbered).to_parquet(folder / "rows.parquet")
    with pytest.raises(SourceError, match='line 1: label is "1", not one of Sports, World'):
        load_task(path).examples("validation")
    positions = Features({"text": Value("string"), "label": ClassLabel(names=["0", "1"])})
    Dataset.from_list(rows, features=positions).to_parquet(folder / "rows.parquet")
    assert [example.label for example in load_task(path).examples("validation")] == [0, 1, 1]
    unlabelled = Dataset.from_list([{"text": "a", "label": -1}], features=features)
    unlabelled.to_parquet(folder / "rows.parquet")
    with pytest.raises(SourceError, match="line 1: label is missing"):
        load_task(path).examples("validation")
    path.write_text(path.read_text() + 'test = "rows.parquet"\n')
    assert [example.label for example in load_task(path).examples("test")] == [-1]
