"""Records for tests of the leaderboard and the reports."""

import shutil
from pathlib import Path
from typing import Any

from harness.leaderboard.ranking import group_sections, load_rows
from harness.results.record import Record, Round, write_record

ROLES = {"reference": "ref", "unpadded_reference": "unpadded", "null": "null"}


def make_record(
    name: str, seconds: list[float], accuracy: float, **kwargs: Any
) -> tuple[Record, dict[str, Any]]:
    """Return a record of 1,000 examples and its side file.

    Args:
        name: the system's name.
        seconds: how long each block took.
        accuracy: the share of correct answers.
        kwargs: values that differ from those below.
    """
    labels = [index % 2 for index in range(1000)]
    answers = [
        label if index < accuracy * 1000 else 1 - label for index, label in enumerate(labels)
    ]
    rounds = [
        Round(
            block=block,
            load_seconds=0.5,
            load_wh=0.001,
            seconds=block_seconds,
            examples=1000,
            repeats=1.0,
            cpu_seconds=block_seconds,
            driver_cpu_seconds=0.01,
            others=0.0,
            steal=0.0,
            energy={"cpu_wh": block_seconds * 4.27 / 3600},
            memory_mb=100.0,
            agreement=None,
        )
        for block, block_seconds in enumerate(seconds, start=1)
    ]
    score = {
        "metric": "accuracy",
        "value": accuracy,
        "se": 0.01,
        "majority": 0.5,
        "examples": 1000,
    }
    record = Record(
        session=kwargs.get("session", "s1"),
        started=kwargs.get("started", "2026-01-01T00:00:00Z"),
        suite=kwargs.get("suite", "quick"),
        roles=kwargs.get("roles", ROLES),
        task={
            "name": kwargs.get("task", "sentiment"),
            "version": kwargs.get("version", "1"),
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
    return record, {"labels": labels, "answers": answers, "groups": [-1] * 1000}


def rows_by_name(folder: Path, *records: tuple[Record, dict[str, Any]]) -> dict[str, Any]:
    """Write records below a folder, and return the compared rows."""
    for record, side in records:
        write_record(record, side, folder / "records")
    rows, faults = load_rows(folder / "records")
    assert not faults
    return {row.name: row for section in group_sections(rows) for row in section.rows}


def drifting_times(base: float) -> list[float]:
    """The seconds of five blocks on a machine that becomes slower, with noise."""
    return [
        base * drift * noise
        for drift, noise in zip((1, 2, 3, 4, 5), (1, 1.01, 0.99, 1, 1.02), strict=True)
    ]


def set_server_rates(record: Record, rates: list[float | None]) -> None:
    """Turn a record into one of `server` whose blocks sustained these rates (None: no rate)."""
    sustained = [rate for rate in rates if rate]
    record.sustained = {
        "rates": {str(block): rate for block, rate in enumerate(rates, start=1)},
        "bound_ms": 50.0,
        "offline": 5000.0 if 4750.0 in rates else 2 * max(sustained, default=1.0),
        "capped": 4750.0 in rates,
    }
    for window, rate in zip(record.rounds, rates, strict=True):
        window.rate, window.late = rate or 1.0, 0 if rate else 70
    latency = {"p50": 5.0, "p90": 20.0, "p99": 45.0, "queries": 700}
    record.latency_ms = latency if sustained else None


GOLDEN = Path(__file__).parent.parent / "data" / "board"


def golden_records(folder: Path) -> None:
    """Copy the committed records: a session of `quick` with everything that a board can show, and a
    session of `embedded` on another machine whose energy is measured.
    """
    shutil.copytree(GOLDEN / "records", folder, dirs_exist_ok=True)
