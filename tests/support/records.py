"""Records as tests need them."""

import shutil
from pathlib import Path
from typing import Any

from harness.leaderboard.ranking import load_rows, sections
from harness.results import record
from harness.results.record import Record, Round

ROLES = {"reference": "ref", "unpadded_reference": "unpadded", "null": "null"}


def make(
    name: str, seconds: list[float], right: float, **kwargs: Any
) -> tuple[Record, dict[str, Any]]:
    """A record whose blocks took `seconds` for 1,000 examples; `right`: share of right answers."""
    labels = [number % 2 for number in range(1000)]
    answers = [label if n < right * 1000 else 1 - label for n, label in enumerate(labels)]
    rounds = [
        Round(
            block=block,
            load_seconds=0.5,
            load_wh=0.001,
            seconds=each,
            examples=1000,
            repeats=1.0,
            cpu_seconds=each,
            driver_cpu_seconds=0.01,
            others=0.0,
            steal=0.0,
            energy={"cpu_wh": each * 4.27 / 3600},
            memory_mb=100.0,
            agreement=None,
        )
        for block, each in enumerate(seconds, start=1)
    ]
    score = {"metric": "accuracy", "value": right, "se": 0.01, "majority": 0.5, "examples": 1000}
    made = Record(
        session=kwargs.get("session", "s1"),
        started=kwargs.get("started", "2026-01-01T00:00:00Z"),
        suite=kwargs.get("suite", "quick"),
        roles=kwargs.get("roles", ROLES),
        task={
            "name": kwargs.get("task", "sentiment"),
            "version": "1",
            "metric": "accuracy",
            "labels": ["a", "b"],
            "max_length": 128,
        },
        scenario=kwargs.get("scenario", "offline"),
        system={
            "name": name,
            "title": name,
            "authors": ["x"],
            "licence": "MIT",
            "division": kwargs.get("division", "open"),
            "folder": f"submissions/{name}",
            "serve": {},
        },
        configuration={
            "name": kwargs.get("configuration", "cpu-2"),
            "hash": "h",
            "title": "2 cores",
            "cores": 2,
            "usd_per_hour": 0.0846,
            "price_source": "list",
            "price_date": "2020",
            "grams_co2_per_kwh": 369.5,
            "country": "USA",
        },
        machine={
            "cpu": kwargs.get("cpu", "CPU"),
            "flags": ["avx2"],
            "cores": 2,
            "memory_gb": 8.0,
            "quota": None,
            "system": "Linux",
            "kernel": "6",
            "isolation": "process",
        },
        software={"python": "3.11", "wattbench": "0.1.0"},
        artifact={
            "key": "k",
            "size_mb": 12.5,
            "weights_mb": 12.0,
            "parameters": 11_990_000,
            "recipe": [
                {
                    "use": "finetune",
                    "cost": {"seconds": 90.0, "cpu_seconds": 180.0, "energy": {"cpu_wh": 0.2}},
                },
                {
                    "use": "export",
                    "cost": {"seconds": 6.0, "cpu_seconds": 6.0, "energy": {"cpu_wh": 0.01}},
                },
            ],
        },
        energy=kwargs.get("energy", {"source": "modelled: 4.27 W a core", "idle": None}),
        rounds=rounds,
        score=score,
        latency_ms={"p50": 1.0, "p90": 2.0, "p99": None, "queries": 100}
        if kwargs.get("scenario") == "single_stream"
        else None,
    )
    return made, {"labels": labels, "answers": answers, "groups": [-1] * 1000}


def board(tmp_path: Path, *made: tuple[Record, dict[str, Any]]) -> dict[str, Any]:
    for it, side in made:
        record.write_record(it, side, tmp_path / "records")
    rows, faults = load_rows(tmp_path / "records")
    assert not faults
    return {row.name: row for section in sections(rows) for row in section.rows}


def drifting(base: float) -> list[float]:
    return [
        base * drift * wobble
        for drift, wobble in zip((1, 2, 3, 4, 5), (1, 1.01, 0.99, 1, 1.02), strict=True)
    ]


def serve(it: Record, rates: list[float | None]) -> None:
    """Make a record of `server` out of one, of which each block sustained such a rate."""
    held = [each for each in rates if each]
    it.sustained = {
        "rates": {str(block): rate for block, rate in enumerate(rates, start=1)},
        "bound_ms": 50.0,
        "offline": 5000.0 if 4750.0 in rates else 2 * max(held, default=1.0),
        "capped": 4750.0 in rates,
    }
    for each, rate in zip(it.rounds, rates, strict=True):
        each.rate, each.late = rate or 1.0, 0 if rate else 70
    it.latency_ms = {"p50": 5.0, "p90": 20.0, "p99": 45.0, "queries": 700} if held else None


GOLDEN = Path(__file__).parent.parent / "data" / "board"


def golden_records(folder: Path) -> None:
    """The committed ones: a session of `quick` with everything that a board can show, and one of
    `embedded` on another machine whose energy is measured.
    """
    shutil.copytree(GOLDEN / "records", folder, dirs_exist_ok=True)
