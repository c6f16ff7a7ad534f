"""The record: everything measured for (session, task, scenario, system).

What measuring writes and the board reads.

A record is `results/records/<session>/<task>/<scenario>/<system>.json`; beside it
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

INNER = {
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
"""What the board asks of a record's parts; without one of these it is no record."""


@dataclass(frozen=True)
class Timing:
    """How long the windows and waits of a session are, in seconds.

    window: a timed window; short_window: enough where it holds 2,000 queries, or goes through the
    split three times. probe, longest_probe: of a rate in `server`. load_timeout, query_timeout:
    without an answer for so long a worker counts as hung. audit_queries: how long a probe of the
    audit sends single queries; audit_examples: the most examples (a number) that it uses.
    """

    window: float = 1.5
    short_window: float = 0.5
    probe: float = 3.0
    longest_probe: float = 15.0
    load_timeout: float = 300.0
    query_timeout: float = 60.0
    audit_queries: float = 8.0
    audit_examples: int = 1000


STANDARD = dataclasses.asdict(Timing())


@dataclass
class Round:
    """One window: a scenario in one fresh worker; of `server` there is one for each rate.

    block: counts from 1; ratios are taken between rounds of one block.
    load_seconds: from starting the process to its answer that it is ready; load_wh: energy of that.
    seconds: the timed window; examples: answered in it; repeats: how often the set was gone
    through, in whole or in part.
    cpu_seconds: of the worker's process tree within the window; driver_cpu_seconds: the harness'
    own; others: cores that all other processes kept busy; steal: cores that the hypervisor took.
    energy: watt-hours of the window: cpu_wh, and ram_wh and gpu_wh where they are known.
    memory_mb: peak resident memory of the worker's process tree, in 10^6 bytes.
    agreement: share of the answers that equal those of the accuracy pass; None for that pass
    itself.
    left: examples that left at each stage, where they may leave early.
    rate: queries a second that were sent, and late: those that missed the bound; `server` only.
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


@dataclass
class Record:
    """The whole of a row.

    roles: the suite's `reference`, `unpadded_reference` and `null` by name.
    score: metric, value, standard error, majority share and number of examples; None if the system
    failed before.
    energy: `source`, and `idle`: watts of each component before the session, where measured.
    latency_ms: p50, p90, p99 of the queries (None where they are too few), and the number of
    queries; of `server` at the sustained rate.
    sustained: of `server`: `rates`, by block the highest (queries/s) whose p99 is within
    `bound_ms`, None if none is; `offline`, the rate that the search refers to; `capped`, whether
    that is the driver's own limit.
    failure: the reason and the last lines of stderr; None if all went well.
    audit: whether it `passed`, what each of the `probes` found, and which `failed`; None where it
    was not audited.
    timing: the fields of `Timing`; records that do not state it have the standard one.
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
    timing: dict[str, Any] = field(default_factory=STANDARD.copy)
    schema: int = SCHEMA

    @property
    def smoke(self) -> bool:
        """Whether its windows are shorter than the standard ones, so that its figures show that
        everything works and compare nothing.
        """
        return bool(self.timing.get("window", Timing.window) < Timing.window)

    def counts(self, window: Round) -> bool:
        """Whether a window is what figures are taken from: of `server`, the one in which its block
        sustained its rate.
        """
        if self.scenario != "server":
            return True
        sustained = (self.sustained or {})["rates"][str(window.block)]
        held = (window.late or 0) <= 0.01 * window.examples
        return bool(window.rate and window.rate == sustained and held)

    def path(self, records: Path) -> Path:
        """Where the record lies below the folder of all records."""
        folder = records / self.session / str(self.task["name"]) / self.scenario
        return folder / f"{self.system['name']}.json"


def write_record(record: Record, side: dict[str, Any], records: Path) -> None:
    """Write a record and its side file, each atomically; the side file first, so that a record
    never lacks it.
    """
    path = record.path(records)
    packed = gzip.compress(json.dumps(side, separators=(",", ":")).encode(), mtime=0)
    write_atomically(path.with_suffix(".json.gz"), packed)
    stated = dataclasses.asdict(record)
    rounds = ",\n  ".join(json.dumps(_known(each)) for each in stated.pop("rounds"))
    lines = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in stated.items()]
    lines.append(f'"rounds": [\n  {rounds}\n ]')
    write_atomically(path, ("{\n " + ",\n ".join(lines) + "\n}\n").encode())


def _known(values: dict[str, Any]) -> dict[str, Any]:
    """Without what is None, also one level down: records are to stay small."""
    return {
        name: _known(value) if isinstance(value, dict) else value
        for name, value in values.items()
        if value is not None
    }


def read_record(path: Path) -> Record:
    """Raises: RecordError if the file is not a record of this schema."""
    remedy = "Remove it, or measure again."
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecordError(f"{path}: not a record ({error}). {remedy}") from None
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        found = data.get("schema") if isinstance(data, dict) else None
        raise RecordError(f"{path}: schema {found!r}, but this version reads {SCHEMA}. {remedy}")
    rounds = data.pop("rounds", None)
    if not isinstance(rounds, list):
        raise RecordError(f"{path}: rounds are missing. {remedy}")
    record: Record = _build(Record, data, path)
    _check_timing(record, path)
    for name, needed in INNER.items():
        if missing := set(needed) - set(getattr(record, name)):
            raise RecordError(f"{path}: {name} lacks {', '.join(sorted(missing))}. {remedy}")
    if not all("use" in step for step in (record.artifact or {}).get("recipe", [])):
        raise RecordError(f"{path}: a step of the recipe does not say which it is. {remedy}")
    record.rounds = [_build(Round, each, path) for each in rounds]
    return record


def _check_timing(record: Record, path: Path) -> None:
    for name, value in record.timing.items():
        number = type(value) in (int, float) and 0 < value < math.inf
        if name not in STANDARD or not number:
            raise RecordError(
                f"{path}: timing has {name} = {value!r}; it holds seconds above 0 of "
                f"{', '.join(STANDARD)}. Remove it, or measure again."
            )


def read_side(path: Path) -> dict[str, Any]:
    """The side file of a record's path. Raises: RecordError if it cannot be read."""
    side = path.with_suffix(".json.gz")
    try:
        found: dict[str, Any] = json.loads(gzip.decompress(side.read_bytes()))
    except (OSError, EOFError, ValueError) as error:
        raise RecordError(
            f"{side}: not a side file ({error}). Remove the record beside it, or measure again."
        ) from None
    return found


def paths(records: Path) -> Iterator[Path]:
    """All records below a folder, in the order of their names."""
    return iter(sorted(records.glob("*/*/*/*.json")))


@cache
def _plain_types(kind: type) -> dict[str, tuple[type, ...]]:
    """Of each field whose type is a plain one, what its value must be."""
    plain = {float: (int, float), int: (int,), str: (str,)}
    hints = typing.get_type_hints(kind).items()
    found = {name: plain[hint] for name, hint in hints if hint in plain}
    return found | {name: (dict,) for name, hint in hints if typing.get_origin(hint) is dict}


def _build(kind: type, data: Any, path: Path) -> Any:
    """An instance of a dataclass, with its keys and the types of plain values checked."""
    if not isinstance(data, dict):
        raise RecordError(f"{path}: {kind.__name__} is not an object. Remove it, or measure again.")
    needed = {
        each.name
        for each in dataclasses.fields(kind)
        if each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING
    }
    known = {each.name for each in dataclasses.fields(kind)}
    if wrong := (needed - set(data)) | (set(data) - known):
        raise RecordError(
            f"{path}: missing or unknown keys: {', '.join(sorted(wrong))}. Remove it, or measure "
            "again."
        )
    for name, plain in _plain_types(kind).items():
        if name in data and not isinstance(data[name], plain):
            raise RecordError(
                f"{path}: {name} = {data[name]!r} has the wrong type. Remove it, or measure again."
            )
    return kind(**data)
