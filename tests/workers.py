"""A worker whose loop over messages is given as text, behind each kind of walls."""

import json
import math
import os
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.measure import isolation
from harness.measure.protocol import Cell, Worker

Start = Callable[..., Worker]


@pytest.fixture
def start(tmp_path: Path, cache: Path, request: pytest.FixtureRequest) -> Start:
    """Start a worker from the body of a loop over messages (`line`, `say`), behind the walls of
    `behind_each`, else the strongest that there are.
    """
    kind = getattr(request, "param", isolation.strongest())

    def begin(body: str, memory_gb: float = math.inf, readable: tuple[Path, ...] = ()) -> Worker:
        script = tmp_path / "worker.py"
        script.write_text(
            "import json, os, signal, subprocess, sys, time\n"
            "def say(**reply): print(json.dumps(reply), flush=True)\n"
            "for line in sys.stdin:\n"
            "    message = json.loads(line)\n" + textwrap.indent(textwrap.dedent(body), "    ")
        )
        cell = Cell(kind, (script, *readable), memory_gb=memory_gb)
        return Worker(1, [sys.executable, str(script)], cell)

    return begin


WALLS = [
    pytest.param(
        kind,
        marks=pytest.mark.skipif(
            not isolation.works(kind) and "CI" not in os.environ,
            reason="apt install bubblewrap, and allow user namespaces",
        ),
    )
    for kind in isolation.KINDS[:-1]
]


KINDS = [*WALLS, "process"]


behind_each = pytest.mark.parametrize("start", KINDS, indirect=True)


def query(number: int, count: int = 1) -> bytes:
    return json.dumps({"id": number, "examples": [[["text"]]] * count}).encode() + b"\n"
