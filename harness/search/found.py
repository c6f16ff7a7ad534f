"""What a search has built and scored, and which of it is the best."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from harness.search.scoring import SelectionScore
from harness.search.speed import Speed
from harness.store.cache import write_atomically

TEACHER, CONVERTED, STUDENT, STATIC, EXITS, CASCADE = (
    *("teacher", "converted", "student", "static", "early exits", "cascade"),
)

ENCODERS = (CONVERTED, STUDENT)
"""The teacher itself in another form, and its students."""


@dataclass(frozen=True)
class Limits:
    """What the chosen system must satisfy; None for no limit.

    Attributes:
        keep: the share of the teacher's gain over the constant answer.
        p50_ms: median latency of single queries in ms.
        p99_ms: 99th percentile of these latencies in ms.
        memory_mb: peak memory in 10^6 bytes.
        size_mb: size of the artifact in 10^6 bytes.
    """

    keep: float = 0.95
    p50_ms: float | None = None
    p99_ms: float | None = None
    memory_mb: float | None = None
    size_mb: float | None = None

    def admit(self, speed: Speed, teacher_p50_ms: float) -> bool:
        """Return whether a speed satisfies all limits but that of the 99th percentile."""
        return all(value <= limit for _, _, limit, value in self._pair(speed, teacher_p50_ms))

    def describe_least(self, speeds: Iterable[Speed], teacher_p50_ms: float) -> str:
        """Return the least of some speeds for each quantity with a limit, beside the limit."""
        least: dict[str, tuple[float, str]] = {}
        for speed in speeds:
            for name, unit, limit, value in self._pair(speed, teacher_p50_ms):
                text = f"the least {name} is {value:.3g} {unit}, the limit {limit:g}"
                least[name] = min(least.get(name, (value, text)), (value, text))
        return "; ".join(text for _, text in least.values())

    def _pair(self, speed: Speed, teacher_p50_ms: float) -> Iterator[tuple[str, str, float, float]]:
        """Yield name, unit, limit and value of each quantity with a limit, but the p99."""
        for name, unit, limit, value in (
            ("p50", "ms", self.p50_ms, teacher_p50_ms / speed.single_stream),
            ("memory", "MB", self.memory_mb, speed.memory_mb),
            ("size", "MB", self.size_mb, speed.size_mb),
        ):
            if limit is not None:
                yield name, unit, limit, value


@dataclass(frozen=True)
class Found:
    """A system that the search has built.

    Attributes:
        name: of its folder in the workspace.
        kind: what it is: `TEACHER`, `STUDENT`, ...
        details: the columns of a table that describe it.
        seconds: how long its build took.
        score: on the selection slice.
        speed: against the teacher.
    """

    name: str
    kind: str
    details: dict[str, Any]
    seconds: float
    score: SelectionScore
    speed: Speed


@dataclass
class FoundSystems:
    """All of them, in a file that is written after each.

    Attributes:
        path: the file.
        systems: by name.
    """

    path: Path
    systems: dict[str, Found] = field(default_factory=dict)

    @staticmethod
    def read(path: Path) -> "FoundSystems":
        """Read the file, if it exists."""
        entries = json.loads(path.read_text()) if path.is_file() else []
        systems = [
            Found(
                entry["name"],
                entry["kind"],
                entry["details"],
                entry["seconds"],
                SelectionScore(**entry["score"]),
                Speed(**entry["speed"]),
            )
            for entry in entries
        ]
        return FoundSystems(path, {found.name: found for found in systems})

    def add(self, found: Found) -> None:
        """Add a system, or replace the one of its name, and write the file."""
        self.systems[found.name] = found
        entries = [asdict(system) for system in self.systems.values()]
        write_atomically(self.path, json.dumps(entries, indent=1).encode())

    def find_admitted(self, limits: Limits, teacher_p50_ms: float) -> list[Found]:
        """Return the systems within the limits, the best first: those that keep enough by speed,
        then the others by what they keep, and by speed where that is equal.
        """
        admitted = [
            found
            for found in self.systems.values()
            if found.kind != TEACHER and limits.admit(found.speed, teacher_p50_ms)
        ]
        return sorted(
            admitted,
            key=lambda found: (
                not found.score.keeps_enough,
                0.0 if found.score.keeps_enough else -found.score.retained,
                -found.speed.offline,
                found.name,
            ),
        )

    def find_frontier(self) -> list[Found]:
        """Return the systems that no other one beats in speed and score at once, fastest first."""
        return find_frontier(self.systems.values())


def find_frontier(systems: Iterable[Found]) -> list[Found]:
    """Return the systems that no other one beats in speed and score at once, fastest first."""
    frontier: list[Found] = []
    for found in sorted(systems, key=lambda found: (-found.speed.offline, -found.score.value)):
        if not frontier or found.score.value > frontier[-1].score.value:
            frontier.append(found)
    return frontier


def split_details(systems: Sequence[Found]) -> tuple[list[str], dict[str, Any]]:
    """Return which details differ between systems, and the others with their value.

    A detail that only one system has counts as different.
    """
    values: dict[str, list[Any]] = {}
    for found in systems:
        for key, value in found.details.items():
            values.setdefault(key, []).append(value)
    common = {
        key: several[0]
        for key, several in values.items()
        if len(several) > 1 and len(set(map(str, several))) == 1
    }
    return [key for key in values if key not in common], common
