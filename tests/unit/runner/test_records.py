"""Records that a session resumes."""

from dataclasses import asdict, replace
from typing import Any

import pytest

from harness.results.record import Timing
from harness.runner.records import _describe_changes
from tests.support.records import make_record

STEP = {"use": "quantize", "dtype": "int8"}
CHANGES: list[tuple[str, dict[str, Any], str]] = [
    (
        "machine",
        {"cores": 4, "isolation": "bubblewrap", "flags": ["avx2", "amx_int8"]},
        "machine (flags avx2 amx_int8 -> avx2, cores 4 -> 2, isolation bubblewrap -> process)",
    ),
    ("machine", {"smt": True}, "machine (smt True -> None)"),
    (
        "artifact",
        {"key": "a" * 70, "recipe": [STEP | {"dtype": "bf16"}]},
        f"artifact (key {'a' * 57}... -> b, recipe 1 dtype bf16 -> int8)",
    ),
    ("system", {"serve": {f"k{number}": 1 for number in range(7)}}, "serve k5 1 -> None, ...)"),
]


@pytest.mark.parametrize(("name", "old_values", "message"), CHANGES)
def test_change_since_a_session_began_is_stated_with_both_values(
    name: str, old_values: dict[str, Any], message: str
) -> None:
    record, _ = make_record("fast", [1.0], 0.9)
    machine = record.machine | {"flags": ["avx2"], "cores": 2, "isolation": "process"}
    artifact = {"key": "b", "recipe": [STEP]}
    new = asdict(replace(record, machine=machine, artifact=artifact))
    new["system"]["serve"] = {}
    assert _describe_changes(new, new) == ""
    old = new | {name: new[name] | old_values}
    assert _describe_changes(old, new).endswith(message)
    old = old | {"timing": asdict(Timing(window=0.5))}
    assert _describe_changes(old, new).endswith("; timing (window 0.5 -> 1.5)")


def test_artifact_that_is_new_is_stated() -> None:
    new = asdict(make_record("fast", [1.0], 0.9)[0]) | {"artifact": {"key": "b"}}
    assert _describe_changes(new | {"artifact": None}, new) == ("artifact (None -> {'key': 'b'})")


def test_session_of_another_measurement_version_cannot_be_continued() -> None:
    new = asdict(make_record("fast", [1.0], 0.9)[0]) | {"measurement": 2}
    assert _describe_changes(new | {"measurement": 1}, new) == "measurement (1 -> 2)"
