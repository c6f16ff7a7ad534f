"""Records: all measurements of one system on one task in one scenario of a session.

A record is `results/records/<session>/<task>/<scenario>/<system>.json`. Its side file
`<system>.json.gz` holds the values of single examples and queries.
"""

import dataclasses
import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import pydantic_core
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config

from harness.errors import RecordError
from harness.results.record_parts import (
    AccuracyPassPart,
    ConfigurationPart,
    EnergyPart,
    InputsPart,
    MachinePart,
    RolesPart,
    Scenario,
    SystemPart,
    TaskPart,
)
from harness.store.cache import write_atomically

SCHEMA = 5
READ_SCHEMAS = (2, 3, 4, 5)
"""Schema 3 has `extensions` and `measurement`, 4 `inputs`, 5 `accuracy_pass`; all have defaults."""

MEASUREMENT_VERSION = 2
"""Increases whenever the same system would get other figures than before on the same machine.

In version 2 onnxruntime's threads spin during the calls of `single_stream` and `offline`; the
accuracy pass is not the first window of `offline` any more, so that the memory of that window is
that of a usual one; an engine gives its memory back before the worker loads the next one; and the
warm-up is bounded by time. Sessions of two versions do not compare.
"""

LEAST_BATCHES = 4
"""Full batches that each instance has at least in a window of `offline`.

In a window of one batch all texts are padded to the longest of the window, and order by length does
not help. Rows of sessions before this rule are named in a warning.
"""

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def count_least_examples(batch: int, instances: int) -> int:
    """Return the least number of examples of a window of `offline`: `LEAST_BATCHES` full batches
    for each instance, or one example where there are no batches.
    """
    return LEAST_BATCHES * batch * instances if batch > 1 else 1


@with_config(ConfigDict(extra="forbid", strict=True))
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

    window: Seconds = 1.5
    short_window: Seconds = 0.5
    probe: Seconds = 3.0
    longest_probe: Seconds = 15.0
    load_timeout: Seconds = 300.0
    query_timeout: Seconds = 60.0
    audit_queries: Seconds = 8.0
    audit_examples: Annotated[int, Field(gt=0)] = 1000


@with_config(ConfigDict(extra="forbid", strict=True))
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
        agreement: share of the answers that equal those of the accuracy pass; None where a window
            was that pass itself, as the first one of `offline` in measurement version 1.
        rate: queries per second that were sent; only in `server`.
        late: number of queries that missed the latency bound; only in `server`.
        left: number of examples that exited at each stage, for systems with early exits.
        gpu_memory_mb: memory of the GPU that the worker used, in 10^6 bytes; None without a GPU.
        throttled: share of the scheduler's periods in which the CPU limit of a control group paused
            its processes; None without a limit.
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
    throttled: float | None = None


@with_config(ConfigDict(extra="forbid", strict=True))
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
        timing: lengths of windows and timeouts; the standard ones if a record states none.
        schema: version of this schema.
        extensions: the packages, with their versions, that took part in building or serving the
            system besides wattbench.
        measurement: `MEASUREMENT_VERSION` when it was measured; 1 if a record states none.
        inputs: the task and the model as a command names them, to measure the system again.
        accuracy_pass: where the answers come from that the score is computed from; None if the
            system failed before, and in records before schema 5: from its own first window.
    """

    session: str
    started: str
    suite: str
    roles: RolesPart
    task: TaskPart
    scenario: Scenario
    system: SystemPart
    configuration: ConfigurationPart
    machine: MachinePart
    software: dict[str, str]
    artifact: dict[str, Any] | None
    energy: EnergyPart
    rounds: list[Round] = field(default_factory=list)
    score: dict[str, Any] | None = None
    latency_ms: dict[str, Any] | None = None
    sustained: dict[str, Any] | None = None
    failure: dict[str, str] | None = None
    audit: dict[str, Any] | None = None
    timing: Timing = Timing()
    schema: int = SCHEMA
    extensions: list[str] = field(default_factory=list)
    measurement: int = 1
    inputs: InputsPart = field(default_factory=InputsPart)
    accuracy_pass: AccuracyPassPart | None = None

    @property
    def smoke(self) -> bool:
        """Whether its windows are shorter than the standard ones.

        The figures of such a record show that everything works; they are not for comparisons.
        """
        return self.timing.window < Timing.window

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
        RecordError: the file is not a record of a schema that this version reads.
    """
    try:
        record = _adapter().validate_json(path.read_bytes())
    except OSError as error:
        raise RecordError(f"{path}: not a record ({error}). {REMEDY}") from None
    except ValidationError as error:
        raise RecordError(f"{path}: {_describe_faults(path, error)}. {REMEDY}") from None
    if record.schema not in READ_SCHEMAS:
        raise RecordError(f"{path}: {_describe_schema(record.schema)}. {REMEDY}")
    if not all("use" in step for step in (record.artifact or {}).get("recipe", [])):
        raise RecordError(f"{path}: a step of the recipe has no key 'use'. {REMEDY}")
    return record


REMEDY = "Remove it, or measure again."


@cache
def _adapter() -> TypeAdapter[Record]:
    return TypeAdapter(Record)


def _describe_schema(schema: object) -> str:
    *others, last = map(str, READ_SCHEMAS)
    known = f"{', '.join(others)} and {last}"
    return f"schema {schema!r}, but this version reads {known}"


def _describe_faults(path: Path, error: ValidationError) -> str:
    """Return what is wrong with a file that is not a record, without a full stop."""
    try:
        data = json.loads(path.read_bytes())
    except ValueError as reason:
        return f"not a record ({reason})"
    schema = data.get("schema") if isinstance(data, dict) else None
    if schema not in READ_SCHEMAS:
        return _describe_schema(schema)
    faults = []
    for fault in error.errors(include_url=False):
        place = " ".join(str(part) for part in fault["loc"])
        if fault["type"] == "missing":
            faults.append(f"{place} is missing")
        elif fault["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
            faults.append(f"{place} is unknown")
        else:
            faults.append(f"{place} = {fault['input']!r}: {fault['msg']}")
    further = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
    return "; ".join(faults[:3]) + further


def read_side_file(path: Path) -> dict[str, Any]:
    """Return the content of a record's side file.

    Args:
        path: the path of the record.

    Raises:
        RecordError: the side file cannot be read.
    """
    side_path = path.with_suffix(".json.gz")
    try:
        side: dict[str, Any] = pydantic_core.from_json(gzip.decompress(side_path.read_bytes()))
    except (OSError, EOFError, ValueError) as error:
        raise RecordError(
            f"{side_path}: not a side file ({error}). Remove the record beside it, or measure "
            "again."
        ) from None
    return side


def find_record_paths(records: Path) -> Iterator[Path]:
    """Yield the paths of all records below a folder, in order of their names."""
    return iter(sorted(records.glob("*/*/*/*.json")))
