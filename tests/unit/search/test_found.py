"""Which of the systems found is the best, and the file that they are kept in."""

from dataclasses import replace
from pathlib import Path

import pytest

from harness.search.found import STUDENT, TEACHER, Found, FoundSystems, Limits, split_details
from harness.search.scoring import SelectionScore
from harness.search.speed import Speed


def make(name: str, speedup: float, score: float, enough: bool = True, **changes: float) -> Found:
    """A system whose gain over 0.5 is measured against a teacher with 0.9."""
    speed = {"single_stream": speedup, "memory_mb": 100.0, "size_mb": 20.0} | changes
    margin = 0.01 if enough else -0.01
    return Found(
        name,
        STUDENT,
        {"layers": 3},
        60.0,
        SelectionScore(score, 0.01, (score - 0.5) / 0.4, margin, 0.95 + margin / 0.4),
        Speed(speedup, **speed),
    )


@pytest.fixture
def found(tmp_path: Path) -> FoundSystems:
    systems = FoundSystems(tmp_path / "found.json")
    for system in (
        make("slow", 10, 0.89),
        make("fast", 30, 0.88),
        make("bad", 90, 0.80, enough=False),
        make("worse", 95, 0.75, enough=False),
        make("large", 40, 0.88, size_mb=60.0),
        Found(
            "teacher", TEACHER, {}, 0, SelectionScore(0.9, 0.01, 1, 0.02, 1), Speed(1, 1, 300, 90)
        ),
    ):
        systems.add(system)
    return systems


def names(systems: list[Found]) -> list[str]:
    return [system.name for system in systems]


def test_the_fastest_that_keeps_enough_comes_first_then_what_keeps_most(
    found: FoundSystems,
) -> None:
    assert names(found.find_admitted(Limits(), 30)) == ["large", "fast", "slow", "bad", "worse"]


def test_of_systems_that_keep_as_much_but_not_enough_the_fastest_comes_first(
    found: FoundSystems,
) -> None:
    found.add(make("also bad", 50, 0.80, enough=False))
    assert names(found.find_admitted(Limits(), 30))[3:] == ["bad", "also bad", "worse"]


@pytest.mark.parametrize(
    ("limits", "first"),
    [
        (Limits(size_mb=50), "fast"),
        (Limits(size_mb=60), "large"),
        (Limits(p50_ms=0.5), "bad"),  # 30 ms / 90
        (Limits(p50_ms=0.9), "large"),
    ],
)
def test_limits_come_before_speed(found: FoundSystems, limits: Limits, first: str) -> None:
    assert found.find_admitted(limits, 30)[0].name == first


def test_nothing_is_within_impossible_limits(found: FoundSystems) -> None:
    assert found.find_admitted(Limits(memory_mb=50), 30) == []


def test_the_frontier_has_no_system_that_another_one_beats(found: FoundSystems) -> None:
    assert names(found.find_frontier()) == ["worse", "bad", "large", "slow", "teacher"]


def test_the_file_holds_what_was_found(found: FoundSystems) -> None:
    assert FoundSystems.read(found.path) == found
    assert FoundSystems.read(found.path.with_name("none.json")).systems == {}


def test_what_is_the_same_for_all_that_have_it_is_told_from_what_differs() -> None:
    students = [
        replace(make(str(layers), 1, 1), details={"layers": layers, "form": "int8"})
        for layers in (2, 3)
    ]
    cascade = replace(make("cascade", 1, 1), details={"of": "2 > 3"})
    assert split_details([*students, cascade]) == (["layers", "of"], {"form": "int8"})
