"""Records: invalid ones, and the round trip."""

import copy
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from harness.errors import RecordError
from harness.results.record import read_record, read_side_file, write_record
from tests.support.records import make_record


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data | {"schema": 0}, r"schema 0, but this version reads 2"),
        (lambda data: data | {"extra": 1}, r"unknown keys: extra"),
        (lambda data: {k: v for k, v in data.items() if k != "task"}, r"missing .*task"),
        (lambda data: data | {"session": 3}, r"session = 3 has the wrong type"),
        (lambda data: data | {"timing": {"window": "x"}}, r"timing has window = 'x'"),
        (lambda data: data | {"timing": {"window": None}}, r"timing has window = None"),
        (lambda data: data | {"timing": {"windw": 1.5}}, r"timing has windw = 1.5"),
        (lambda data: data | {"rounds": [{"block": 1}]}, r"missing"),
        (lambda data: [data], r"schema None"),
    ],
)
def test_invalid_record_is_rejected_with_its_path(
    tmp_path: Path, change: Any, message: str
) -> None:
    record, side = make_record("ref", [1.0], 0.9)
    write_record(record, side, tmp_path)
    path = record.path(tmp_path)
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(RecordError, match=message) as caught:
        read_record(path)
    assert str(path) in str(caught.value)


def test_record_survives_the_round_trip(tmp_path: Path) -> None:
    record, side = make_record("ref", [1.0, 2.0], 0.9)
    expected = copy.deepcopy(asdict(record))
    write_record(record, side, tmp_path)
    assert asdict(read_record(record.path(tmp_path))) == expected
    assert read_side_file(record.path(tmp_path)) == side
