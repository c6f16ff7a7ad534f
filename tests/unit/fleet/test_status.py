"""Where the jobs of a fleet stand."""

import json
import time
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.fleet.jobs import Job, Progress
from harness.fleet.status import (
    describe_status,
    get_status_file,
    read_complete_sessions,
    write_status,
)


def make_progress() -> Progress:
    return Progress(
        waiting={"d": Job("d", None)},
        running={"c": Job("c", None)},
        done={"a": "reply"},
        failed={"b": "diverged"},
        tries={"a": 1, "b": 1, "c": 2},
    )


def test_status_names_what_runs_and_what_failed(cache: Path) -> None:
    write_status(get_status_file("old"), Progress(done={"z": ""}), time.time(), {}, False)
    write_status(get_status_file("new"), make_progress(), time.time() - 120, {}, False)
    assert describe_status().splitlines() == [
        "running after 2 min: 1 done, 1 failed, 1 running, 1 waiting",
        "running: c",
        "begun 2 times: c",
        "failed: b: diverged",
    ]


def test_status_of_a_fleet_that_was_killed_or_ended(cache: Path) -> None:
    path = get_status_file("fleet")
    write_status(path, make_progress(), time.time(), {}, False)
    content = json.loads(path.read_bytes())
    path.write_text(json.dumps(content | {"pid": 2**30}))
    assert describe_status().startswith("stopped after 0 min")
    path.write_text(json.dumps(content | {"running": [], "waiting": []}))
    assert describe_status().startswith("ended after 0 min")


def test_status_without_a_fleet_is_one_message(cache: Path) -> None:
    with pytest.raises(HarnessError, match="no fleet was started with this cache"):
        describe_status()


def test_complete_sessions_count_only_while_the_fleet_has_more_to_do(cache: Path) -> None:
    path = get_status_file("fleet")
    assert read_complete_sessions(path) == {}
    sessions = {"digest": "2026-01-01T000000-cpu-2-0000"}
    write_status(path, make_progress(), time.time(), sessions, False)
    assert read_complete_sessions(path) == sessions
    assert read_complete_sessions(get_status_file("another")) == {}
    done = Progress(done={"a": "reply"})
    write_status(path, done, time.time(), sessions, False)
    assert read_complete_sessions(path) == {}, "the next one measures all of it again"
    write_status(path, done, time.time(), sessions, True)
    assert read_complete_sessions(path) == sessions
    write_status(path, Progress(failed={"a": "diverged"}), time.time(), sessions, False)
    assert read_complete_sessions(path) == sessions
