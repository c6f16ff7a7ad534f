"""Workers whose loop over messages a test writes, with each kind of isolation."""

import json
import os
from collections.abc import Callable

import pytest

from harness.worker import sandbox
from harness.worker.driver import Worker

Start = Callable[..., Worker]

ENOUGH = 60.0
"""Seconds within which everything ends on a busy machine."""

MISSING = sandbox.check_sandbox()
SANDBOX = pytest.param(
    "bubblewrap",
    marks=pytest.mark.skipif(
        bool(MISSING) and "CI" not in os.environ,
        reason=f"{MISSING.reason}. {MISSING.remedy}" if MISSING else "",
    ),
)
KINDS = [SANDBOX, "process"]
in_sandbox = pytest.mark.parametrize("start", [SANDBOX], indirect=True)
with_each_isolation = pytest.mark.parametrize("start", KINDS, indirect=True)


def query(number: int, count: int = 1) -> bytes:
    """A query of some examples as it goes over the wire."""
    return json.dumps({"id": number, "examples": [[["text"]]] * count}).encode() + b"\n"
