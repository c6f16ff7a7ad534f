"""What a search has time for."""

from types import SimpleNamespace
from typing import Any

import pytest

from harness.search import builder, search
from harness.search.builder import MAX_FINALISTS, Builder
from harness.search.search import STATIC_SHARE, Search


class Clock:
    """Goes on only when it is told to."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(builder, "time", clock)
    return clock


@pytest.fixture
def idle(clock: Clock) -> Any:
    """A builder whose budget ends in 600 s, and which takes 3 s to time a system."""
    idle: Any = object.__new__(Builder)
    idle._deadline = clock.now + 600
    idle.speed_meter = SimpleNamespace(seconds_per_system=3.0)
    idle.found = SimpleNamespace(systems={})
    idle._request = SimpleNamespace(task=None, seed=0, configuration=None)
    idle._estimated = idle._taken = 30.0
    return idle


@pytest.mark.parametrize(("systems", "timed"), [(0, 1), (4, 5), (50, 1 + MAX_FINALISTS)])
def test_time_is_left_to_time_the_finalists_again(
    idle: Any, clock: Clock, systems: int, timed: int
) -> None:
    idle.found.systems = dict.fromkeys(range(systems))
    clock.now += 100
    assert idle.get_seconds_left() == 500 - 3 * timed


def test_an_estimate_is_corrected_by_what_earlier_builds_took(
    idle: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned: Any = SimpleNamespace(steps=(), find_artifact=object)

    def build_slowly(*arguments: object) -> None:
        clock.now += 150

    monkeypatch.setattr(builder, "plan_system", lambda *arguments: planned)
    monkeypatch.setattr(builder, "estimate_build_seconds", lambda steps: {"a": 20.0, "b": 30.0})
    monkeypatch.setattr(builder, "build_missing", build_slowly)
    idle._log = None
    assert idle.plan(None) == (planned, 50.0)
    idle._build(planned)
    assert idle.plan(None) == (planned, 50 * (30 + 150) / (30 + 50))
    monkeypatch.setattr(builder, "estimate_build_seconds", lambda steps: {})
    idle._build(planned)  # there already
    assert (idle._estimated, idle._taken) == (80, 180)


@pytest.mark.parametrize(("seconds", "first"), [(99.0, True), (101.0, False)])
def test_a_static_student_that_takes_long_comes_after_the_others(
    monkeypatch: pytest.MonkeyPatch, seconds: float, first: bool
) -> None:
    tried: list[str] = []
    monkeypatch.setattr(search, "make_static_manifest", lambda request: {})
    request: Any = SimpleNamespace(space=SimpleNamespace(static=True))
    running = Search(request, print)
    running._builder = SimpleNamespace(  # type: ignore[assignment]
        found=SimpleNamespace(systems={}),
        write=lambda name, manifest: None,
        plan=lambda system: (None, seconds),
        get_seconds_left=lambda: 100 / STATIC_SHARE,
        try_manifest=lambda name, *arguments: tried.append(name),
    )
    assert running._try_static(STATIC_SHARE) == first
    assert tried == ["static"] * first
    assert running._try_static(1.0)
    assert tried[-1] == "static"
