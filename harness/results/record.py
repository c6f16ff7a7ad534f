"""Records: all measurements of one system on one task in one scenario of a session.

A record is `results/records/<session>/<task>/<scenario>/<system>.json`. Its side file
`<system>.json.gz` holds the values of single examples and queries.
"""

import dataclasses
import gzip
import json
import math
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from harness.errors import RecordError
from harness.store.cache import write_atomically

SCHEMA = 2

DIVISIONS = ("baseline", "closed", "open")
SCENARIOS = ("single_stream", "offline", "server")

REQUIRED_KEYS = {
    "system": ("name", "title", "authors", "licence", "division", "folder", "serve"),
    "task": ("name", "version", "metric"),
    "configuration": (
        *("name", "hash", "title", "cores", "usd_per_hour", "price_source", "price_date"),
        *("country", "grams_co2_per_kwh"),
    ),
    "machine": ("cpu", "flags", "cores", "memory_gb", "quota", "system", "kernel", "isolation"),
    "energy": ("source", "idle"),
    "roles": ("reference", "unpadded_reference", "null"),
}
"""The keys that the leaderboard needs in each part of a record."""


@dataclass(frozen=True)
class Timing:
    """Lengths of the windows and timeouts of a session, in seconds.

    Attributes:
        window: a timed window.
        short_window: long enough if the window has 2,000 queries or three passes over the split.
        probe: a window that tests a rate in `server`.
        longest_probe: the longest such window, for low rates.
        load_timeout: a worker that is not ready by then counts as hung.
        query_timeout: a worker that has not answered by then counts as hung.
        audit_queries: how long a probe of the audit sends single queries.
        audit_examples: the largest number of examples that a probe of the audit uses.
    """

    window: float = 1.5
    short_window: float = 0.5
    probe: float = 3.0
    longest_probe: float = 15.0
    load_timeout: float = 300.0
    query_timeout: float = 60.0
    audit_queries: float = 8.0
    audit_examples: int = 1000


STANDARD_TIMING = dataclasses.asdict(Timing())


@dataclass
class Round:
    """One timed window in a fresh worker; in `server` there is one for each rate.

    Attributes:
        block: number of the block, from 1; ratios are taken between rounds of one block.
        load_seconds: from the start of the worker process until it is ready.
        load_wh: energy of loading.
        seconds: length of the window.
        examples: number of examples that were answered in it.
        repeats: number of passes over the examples, the last of which may be a part of one.
        cpu_seconds: CPU-seconds of the worker's process tree in the window.
        driver_cpu_seconds: CPU-seconds of the harness in the window.
        others: number of cores that all other processes kept busy.
        steal: number of cores that the hypervisor took.
        energy: watt-hours of the window: `cpu_wh`, and `ram_wh` and `gpu_wh` if they are known.
        memory_mb: peak resident memory of the worker's process tree, in 10^6 bytes.
        agreement: share of the answers that equal those of the accuracy pass; None for that pass.
        rate: queries per second that were sent; only in `server`.
        late: number of queries that missed the latency bound; only in `server`.
        left: number of examples that exited at each stage, for systems with early exits.
        gpu_memory_mb: memory of the GPU that the worker used, in 10^6 bytes; None without a GPU.
    """

    block: int
    load_seconds: float
    load_wh: float
    seconds: float
    examples: int
    repeats: float
    cpu_seconds: float
    driver_cpu_seconds: float
    others: float
    steal: float
    energy: dict[str, Any]
    memory_mb: float
    agreement: float | None = None
    rate: float | None = None
    late: int | None = None
    left: list[int] | None = None
    gpu_memory_mb: float | None = None


@dataclass
class Record:
    """All measurements of one system on one task in one scenario of a session.

    Attributes:
        session: name of the session.
        started: when the session started.
        suite: name of the suite.
        roles: names of the systems that are the suite's `reference`, `unpadded_reference` and
            `null`.
        task: name, version and metric of the task.
        scenario: one of `SCENARIOS`.
        system: name, title, authors, licence, division, folder and `[serve]` of the system.
        configuration: the fixed configuration, with `grams_co2_per_kwh` of its country.
        machine: the fingerprint of the machine.
        software: versions of packages, and the revision of the harness.
        artifact: metadata of the artifact; None if there is none.
        energy: `source`, and `idle`: watts of each component before the session, if measured.
        rounds: the timed windows.
        score: metric, value, standard error, value of the majority class and number of examples;
            None if the system failed before it was scored.
        latency_ms: p50, p90 and p99 of the queries (None if they are too few), and the number of
            queries; in `server` those at the sustained rate.
        sustained: only in `server`: `rates`: for each block the highest rate (queries/s) with p99
            within `bound_ms`, None if there is none; `offline`: the rate that the search is
            relative to; `capped`: whether that is the limit of the driver.
        failure: the reason and the last lines of stderr; None if the system did not fail.
        audit: whether it `passed`, the results of its `probes`, and which `failed`; None if the
            system was not audited.
        timing: the fields of `Timing`; the standard ones if a record has none.
        schema: version of this schema.
    """

    session: str
    started: str
    suite: str
    roles: dict[str, str]
    task: dict[str, Any]
    scenario: str
    system: dict[str, Any]
    configuration: dict[str, Any]
    machine: dict[str, Any]
    software: dict[str, str]
    artifact: dict[str, Any] | None
    energy: dict[str, Any]
    rounds: list[Round] = field(default_factory=list)
    score: dict[str, Any] | None = None
    latency_ms: dict[str, Any] | None = None
    sustained: dict[str, Any] | None = None
    failure: dict[str, str] | None = None
    audit: dict[str, Any] | None = None
    timing: dict[str, Any] = field(default_factory=STANDARD_TIMING.copy)
    schema: int = SCHEMA

    @property
    def smoke(self) -> bool:
        """Whether its windows are shorter than the standard ones.

        The figures of such a record show that everything works; they are not for comparisons.
        """
        return bool(self.timing.get("window", Timing.window) < Timing.window)

    def is_reported(self, window: Round) -> bool:
        """Return whether figures are taken from a window.

        In `server` they are taken from the window with the sustained rate of its block.
        """
        if self.scenario != "server":
            return True
        sustained = (self.sustained or {})["rates"][str(window.block)]
        held = (window.late or 0) <= 0.01 * window.examples
        return bool(window.rate and window.rate == sustained and held)

    def path(self, records: Path) -> Path:
        """Return the path of the record below the folder of all records."""
        folder = records / self.session / str(self.task["name"]) / self.scenario
        return folder / f"{self.system['name']}.json"


def write_record(record: Record, side: dict[str, Any], records: Path) -> None:
    """Write a record and its side file, each atomically.

    The side file is written first, so that a record always has one.

    Args:
        record: the record.
        side: the content of the side file.
        records: the folder of all records.
    """
    path = record.path(records)
    packed = gzip.compress(json.dumps(side, separators=(",", ":")).encode(), mtime=0)
    write_atomically(path.with_suffix(".json.gz"), packed)
    values = dataclasses.asdict(record)
    rounds = ",\n  ".join(json.dumps(_drop_none(window)) for window in values.pop("rounds"))
    lines = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in values.items()]
    lines.append(f'"rounds": [\n  {rounds}\n ]')
    write_atomically(path, ("{\n " + ",\n ".join(lines) + "\n}\n").encode())


def _drop_none(values: dict[str, Any]) -> dict[str, Any]:
    """Leave out values that are None, also in nested objects, so that records stay small."""
    return {
        name: _drop_none(value) if isinstance(value, dict) else value
        for name, value in values.items()
        if value is not None
    }


def read_record(path: Path) -> Record:
    """Return the record of a file.

    Raises:
        RecordError: the file is not a record of this schema.
    """
    remedy = "Remove it, or measure again."
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecordError(f"{path}: not a record ({error}). {remedy}") from None
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        schema = data.get("schema") if isinstance(data, dict) else None
        raise RecordError(f"{path}: schema {schema!r}, but this version reads {SCHEMA}. {remedy}")
    rounds = data.pop("rounds", None)
    if not isinstance(rounds, list):
        raise RecordError(f"{path}: rounds are missing. {remedy}")
    record: Record = _build(Record, data, path)
    _check_timing(record, path)
    for name, needed in REQUIRED_KEYS.items():
        if missing := set(needed) - set(getattr(record, name)):
            raise RecordError(f"{path}: {name} lacks {', '.join(sorted(missing))}. {remedy}")
    if not all("use" in step for step in (record.artifact or {}).get("recipe", [])):
        raise RecordError(f"{path}: a step of the recipe has no key 'use'. {remedy}")
    record.rounds = [_build(Round, values, path) for values in rounds]
    return record


def _check_timing(record: Record, path: Path) -> None:
    for name, value in record.timing.items():
        positive = type(value) in (int, float) and 0 < value < math.inf
        if name not in STANDARD_TIMING or not positive:
            raise RecordError(
                f"{path}: timing has {name} = {value!r}; it may have {', '.join(STANDARD_TIMING)}, "
                "each a number above 0. Remove it, or measure again."
            )


def read_side_file(path: Path) -> dict[str, Any]:
    """Return the content of a record's side file.

    Args:
        path: the path of the record.

    Raises:
        RecordError: the side file cannot be read.
    """
    side_path = path.with_suffix(".json.gz")
    try:
        side: dict[str, Any] = json.loads(gzip.decompress(side_path.read_bytes()))
    except (OSError, EOFError, ValueError) as error:
        raise RecordError(
            f"{side_path}: not a side file ({error}). Remove the record beside it, or measure "
            "again."
        ) from None
    return side


def find_record_paths(records: Path) -> Iterator[Path]:
    """Yield the paths of all records below a folder, in order of their names."""
    return iter(sorted(records.glob("*/*/*/*.json")))


@cache
def _checked_types(schema: type) -> dict[str, tuple[type, ...]]:
    """The allowed types of each field whose type is simple or a dict."""
    simple: dict[Any, tuple[type, ...]] = {float: (int, float), int: (int,), str: (str,)}
    types = {}
    for name, hint in typing.get_type_hints(schema).items():
        if hint in simple:
            types[name] = simple[hint]
        elif typing.get_origin(hint) is dict:
            types[name] = (dict,)
    return types


def _build(schema: type, data: Any, path: Path) -> Any:
    """Return an instance of a dataclass, after checks of the keys and the simple types."""
    remedy = "Remove it, or measure again."
    if not isinstance(data, dict):
        raise RecordError(f"{path}: {schema.__name__} is not an object. {remedy}")
    known = {field.name for field in dataclasses.fields(schema)}
    required = {
        field.name
        for field in dataclasses.fields(schema)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }
    if wrong := (required - set(data)) | (set(data) - known):
        names = ", ".join(sorted(wrong))
        raise RecordError(f"{path}: missing or unknown keys: {names}. {remedy}")
    for name, types in _checked_types(schema).items():
        if name in data and not isinstance(data[name], types):
            raise RecordError(f"{path}: {name} = {data[name]!r} has the wrong type. {remedy}")
    return schema(**data)
