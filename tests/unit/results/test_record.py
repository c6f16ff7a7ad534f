"""Records: invalid ones, and the round trip."""

import copy
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from harness.errors import RecordError
from harness.results.record import (
    MEASUREMENT_VERSION,
    read_record,
    read_side_file,
    write_record,
)
from tests.support.records import make_record


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data | {"schema": 0}, r"schema 0, but this version reads 2, 3, 4 and 5"),
        (lambda data: data | {"extra": 1}, r"extra is unknown"),
        (lambda data: {k: v for k, v in data.items() if k != "task"}, r"task is missing"),
        (lambda data: data | {"session": 3}, r"session = 3: .*valid string"),
        (lambda data: data | {"timing": {"window": "x"}}, r"timing window = 'x': .*valid number"),
        (lambda data: data | {"timing": {"window": None}}, r"timing window = None: .*valid number"),
        (lambda data: data | {"timing": {"windw": 1.5}}, r"timing windw is unknown"),
        (lambda data: data | {"timing": {"window": 0}}, r"timing window = 0: .*greater than 0"),
        (lambda data: data | {"rounds": [{"block": 1}]}, r"rounds 0 load_seconds is missing.*more"),
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


def test_record_of_schema_2_is_read_with_the_defaults_of_later_ones(tmp_path: Path) -> None:
    record, side = make_record("ref", [1.0], 0.9)
    write_record(record, side, tmp_path)
    path = record.path(tmp_path)
    data = json.loads(path.read_text())
    new = {"extensions", "measurement", "inputs", "accuracy_pass"}
    assert data["schema"] == 5
    assert new <= set(data)
    path.write_text(json.dumps({k: v for k, v in data.items() if k not in new} | {"schema": 2}))
    old = read_record(path)
    assert (old.schema, old.extensions, old.measurement, old.inputs) == (2, [], 1, {})
    assert old.accuracy_pass is None
    assert old == replace(record, schema=2)


@pytest.mark.parametrize("schema", [3, 4])
def test_record_states_the_version_that_it_was_measured_with(tmp_path: Path, schema: int) -> None:
    record, side = make_record("ref", [1.0], 0.9)
    write_record(replace(record, schema=schema, measurement=1), side, tmp_path)
    assert read_record(record.path(tmp_path)).measurement == 1
    assert MEASUREMENT_VERSION == 2
    write_record(replace(record, measurement=MEASUREMENT_VERSION), side, tmp_path)
    assert read_record(record.path(tmp_path)).measurement == 2


def test_numbers_of_a_record_stay_as_they_are_written(tmp_path: Path) -> None:
    record, side = make_record("ref", [1.0], 0.9)
    record.configuration["usd_per_hour"] = 4
    write_record(record, side, tmp_path)
    assert isinstance(read_record(record.path(tmp_path)).configuration["usd_per_hour"], int)
