import json
from pathlib import Path
from typing import Any

import pytest

from harness.cli.main import main
from harness.leaderboard.ranking import load_rows
from harness.reports.results_folder import write_board
from harness.results.record import write_record
from tests.support.records import make_record


def test_missing_side_file_removes_only_its_row(tmp_path: Path) -> None:
    for name in ("ref", "fast"):
        write_record(*make_record(name, [1.0], 0.9), tmp_path)
    make_record("fast", [1.0], 0.9)[0].path(tmp_path).with_suffix(".json.gz").unlink()
    rows, faults = load_rows(tmp_path)
    assert [row.name for row in rows] == ["ref"]
    assert "fast.json.gz" in faults[0]


def test_of_thousands_of_unreadable_records_a_few_are_named(
    tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(project)
    for number in range(300):
        path = tmp_path / "records" / "s0" / f"task{number}" / "offline" / "a.json"
        path.parent.mkdir(parents=True)
        path.write_text("{")
    assert main(["board", "--results", str(tmp_path)]) == 2
    message = capsys.readouterr().err
    assert message.count("not a record") == 10
    assert "and 290 more\n" in message
    write_record(*make_record("ref", [1.0], 0.9), tmp_path / "records")
    assert main(["board", "--results", str(tmp_path)]) == 0
    assert len(capsys.readouterr().err.splitlines()) == 11
    assert (tmp_path / "README.md").read_text().endswith("- and 290 more\n")


@pytest.mark.parametrize("inner", ["system", "task", "configuration", "machine", "energy", "roles"])
def test_record_without_a_needed_key_removes_only_its_row(tmp_path: Path, inner: str) -> None:
    for name in ("ref", "fast"):
        write_record(*make_record(name, [1.0], 0.9), tmp_path / "records")
    path = make_record("fast", [1.0], 0.9)[0].path(tmp_path / "records")
    data = json.loads(path.read_text())
    key = next(iter(data[inner]))
    del data[inner][key]
    path.write_text(json.dumps(data))
    board = write_board(tmp_path)
    assert [fault for fault in board.faults if str(path) in fault and key in fault]
    assert [row.name for section in board.sections for row in section.rows] == ["ref"]


@pytest.mark.parametrize(
    "change",
    [
        lambda record: setattr(record.rounds[0], "seconds", 0.0),
        lambda record: setattr(record.rounds[0], "seconds", -1.0),
        lambda record: setattr(record.rounds[0], "memory_mb", float("nan")),
        lambda record: setattr(record, "score", None),
        lambda record: setattr(record, "score", {"value": 0.5}),
        lambda record: record.score.update(value="x"),
        lambda record: record.score.update(examples=7),
        lambda record: record.rounds[0].energy.update(cpu_wh="x"),
        lambda record: setattr(record, "artifact", {"recipe": []}),
        lambda record: record.artifact["recipe"][0].update(cost={}),
        lambda record: setattr(record.rounds[0], "left", [0, 0]),
        lambda record: record.system.update(division="weird"),
        lambda record: setattr(record, "scenario", "batchy"),
        lambda record: record.system.update(serve=None),
        lambda record: record.system.update(serve={"batch": "x"}),
        lambda record: record.system.update(serve={"batch": 2, "instances": None}),
        lambda record: record.system.update(authors="me"),
        lambda record: record.configuration.update(usd_per_hour=None),
    ],
)
def test_record_with_impossible_values_removes_only_its_row(tmp_path: Path, change: Any) -> None:
    write_record(*make_record("ref", [1.0, 1.1], 0.9), tmp_path / "records")
    record, side = make_record("odd", [1.0, 1.1], 0.9)
    change(record)
    write_record(record, side, tmp_path / "records")
    board = write_board(tmp_path)
    assert [row.name for section in board.sections for row in section.rows] == ["ref"]
    assert [fault for fault in board.faults if "odd.json" in fault]
