"""The registry of columns: an entry is all that a new figure needs."""

import csv
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest

from harness.leaderboard.column import Column, Table
from harness.leaderboard.columns import (
    COLUMNS,
    CSV_COLUMNS,
    find_columns,
    get_column,
    get_figures,
)
from harness.leaderboard.ranking import load_sections
from harness.leaderboard.row import Row
from harness.reports.comparison import compare_systems
from harness.reports.results_folder import write_board
from tests.support.figures import table_rows
from tests.support.records import golden_records, make_record, rows_by_name


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("board")
    golden_records(folder / "records")
    write_board(folder)
    return folder


def page_data(board: Path) -> Any:
    page = (board / "index.html").read_text()
    (data,) = re.findall(r'<script id="data" type="application/json">(.*?)</script>', page, re.S)
    return json.loads(data)


def test_every_column_is_written_once_to_csv_and_json(board: Path) -> None:
    assert sorted(CSV_COLUMNS) == sorted(column.key for column in COLUMNS)
    with (board / "leaderboard.csv").open() as file:
        assert tuple(next(csv.reader(file))) == CSV_COLUMNS
    for row in json.loads((board / "leaderboard.json").read_text()):
        assert tuple(row) == CSV_COLUMNS


@pytest.mark.parametrize("column", COLUMNS, ids=[column.key for column in COLUMNS])
def test_column_can_be_shown_where_it_says(column: Column) -> None:
    assert set(column.tables) <= set(get_args(Table))
    assert bool(column.label) == bool(column.tables), "a column of a table has a heading"
    assert not column.axis or (column.unit and "page" in column.tables)


def test_row_without_measurements_has_a_value_or_a_dash_in_every_column(tmp_path: Path) -> None:
    rows = rows_by_name(
        tmp_path, make_record("ref", [1.0, 1.0], 0.9), make_record("failed", [], 0.9)
    )
    for column in COLUMNS:
        text = column.text(rows["failed"])
        assert text == "-" if column.timed else text, column.key


def test_queries_per_watt_hour_are_in_csv_page_comparison_and_energy_report(board: Path) -> None:
    sections, _ = load_sections(board / "records")
    with (board / "leaderboard.csv").open() as file:
        for line in csv.DictReader(file):
            energy, queries = line["energy_wh_per_1k"], line["queries_per_wh"]
            assert bool(energy) == bool(queries)
            if energy:
                assert float(queries) == pytest.approx(1000 / float(energy), rel=1e-5)
    shown = page_data(board)[0]
    (on_page,) = [column for column in shown["columns"] if column["key"] == "queries_per_wh"]
    assert (on_page["better"], on_page["axis"]) == ("higher", "queries per watt-hour")
    assert {len(row["cells"]) for row in shown["rows"]} == {len(shown["columns"])}
    assert {len(row["values"]) for row in shown["rows"]} == {1 + len(shown["columns"])}
    compared = compare_systems(sections, "minilm-l6", "onnx-int8", "sentiment")
    assert "queries/Wh (measured)" in compared
    assert "queries/Wh (modelled)" in (board / "energy-report.md").read_text()


def test_queries_per_watt_hour_of_a_row_without_energy_are_unknown(tmp_path: Path) -> None:
    record, side = make_record("ref", [1.0, 1.0], 0.9)
    for window in record.rounds:
        window.energy.clear()
    rows = rows_by_name(tmp_path, (record, side))
    assert get_figures(rows["ref"])["queries_per_wh"] is None
    assert get_column("queries_per_wh").text(rows["ref"]) == "-"


def test_new_column_is_one_entry(
    tmp_path: Path, board: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in the tables that it names, and in no other."""

    def count_blocks(row: Row) -> int:
        return len(row.rounds)

    blocks = Column("blocks", count_blocks, label="blocks measured", tables=("offline",))
    monkeypatch.setattr("harness.leaderboard.columns.COLUMNS", (*COLUMNS, blocks))
    golden_records(tmp_path / "records")
    write_board(tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert "blocks measured" in text
    assert len(table_rows(text)) == len(table_rows((board / "README.md").read_text()))
    assert "blocks measured" not in (tmp_path / "index.html").read_text()


def test_columns_of_a_table_are_those_of_its_scenarios(tmp_path: Path) -> None:
    rows = [*rows_by_name(tmp_path, make_record("ref", [1.0, 1.0], 0.9)).values()]
    offline = [column.key for column in find_columns("overview", rows)]
    both = [column.key for column in find_columns("overview", rows, ["offline", "single_stream"])]
    assert "usd_per_100m" in offline
    assert "latency_p50_ms" not in offline
    assert {"usd_per_100m", "latency_p50_ms"} <= set(both)
    hidden = replace(get_column("gpu_memory_mb"), hidden_if_unknown=False)
    assert hidden.text(rows[0]) == "-"
    assert "gpu_memory_mb" not in [column.key for column in find_columns("page", rows)]
