"""The records of a session: begun, written after each block, and read back to resume it."""

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import HarnessError
from harness.optimize.base import Artifact
from harness.results import record, statistics
from harness.results.record import Record
from harness.results.record_parts import InputsPart, SystemPart, TaskPart
from harness.runner.config import RunConfig
from harness.runner.evaluate import has_custom_code
from harness.runner.system_run import EvalData, SystemRun
from harness.store.cache import folder_digest, folder_size
from harness.submissions.checkpoint import get_model_digest
from harness.submissions.lookup import NULL_SYSTEM
from harness.submissions.plan import PlannedSystem
from harness.submissions.project import find_project, get_system_folders, shorten_path
from harness.submissions.system import System
from harness.tasks.metrics import METRICS
from harness.tasks.suites import Suite
from harness.tasks.task import Task
from harness.telemetry import machine
from harness.telemetry.configuration import Configuration
from harness.telemetry.energy import EnergyMeter, get_grams_co2_per_kwh

FIXED_FIELDS = (
    *("suite", "machine", "configuration", "task", "artifact", "system", "roles", "timing"),
    "measurement",
)
"""Fields of a record that must not change while a session is resumed."""

MAX_CHANGES = 6
"""Changes of a field that a message lists."""

WEIGHT_SUFFIXES = (".safetensors", ".onnx", ".onnx_data", ".data", ".bin", ".npz")
ARTIFACT_FIELDS = ("key", "format", "dtype", "model", "recipe", "seed")


def make_session_fields(
    configuration: Configuration,
    suite: Suite,
    meter: EnergyMeter,
    isolation: str,
    config: RunConfig,
) -> dict[str, Any]:
    """Return the fields that all records of a session share.

    The session is `config.resume`, else a new name. Without a session to resume the meter reads the
    idle power of the machine, which takes seconds.
    """
    started = datetime.now(UTC)
    new_name = f"{started:%Y-%m-%dT%H%M%S}-{configuration.name}-{secrets.token_hex(2)}"
    return {
        "session": config.resume or new_name,
        "started": f"{started:%Y-%m-%dT%H:%M:%SZ}",
        "suite": suite.name,
        "roles": {
            "reference": suite.reference,
            "unpadded_reference": suite.unpadded_reference,
            "null": NULL_SYSTEM,
        },
        "configuration": {
            **configuration.model_dump(),
            "hash": configuration.hash,
            "grams_co2_per_kwh": round(get_grams_co2_per_kwh(configuration.country), 1),
        },
        "machine": machine.build_fingerprint(isolation, meter.gpu),
        "software": machine.get_software(),
        "energy": {
            "source": meter.source,
            "idle": None if config.resume else meter.measure_idle_watts(),
        },
        "timing": config.timing,
        "measurement": record.MEASUREMENT_VERSION,
        "inputs": _describe_model(suite),
    }


def make_run(
    planned: PlannedSystem, session_fields: dict[str, Any], config: RunConfig
) -> SystemRun:
    """Return a system on a task, with a record without rounds for each scenario.

    Raises:
        HarnessError: the system is not built for the task.
    """
    system, task, artifact = planned.system, planned.task, planned.find_artifact()
    inputs = session_fields.get("inputs", {}) | describe_inputs(system, task)
    session_fields = session_fields | {"inputs": inputs}
    records: dict[str, Record] = {
        scenario: Record(
            **session_fields,
            task=_describe_task(task),
            scenario=scenario,
            system=_describe_system(system, scenario),
            artifact=_describe_artifact(artifact) if artifact else None,
            extensions=planned.find_extensions(),
        )
        for scenario in config.scenarios
    }
    return SystemRun(system, task, artifact, records)


def _describe_system(system: System, scenario: str) -> SystemPart:
    fields: SystemPart = {
        "name": system.name,
        "title": system.title,
        "authors": list(system.authors),
        "licence": system.licence,
        "division": system.division,
        "folder": f"{system.folder.parent.name}/{system.folder.name}",
        "serve": system.serve[scenario].to_dict(),
    }
    if model := get_model_digest(system.folder):
        fields["folder"], fields["model"] = f"models/{system.folder.name}", model
    if has_custom_code(system):
        fields["code"] = folder_digest(system.folder)
    if system.point:
        fields["point"] = system.point
    if system.seed is not None:
        fields["seed"] = system.seed
    return fields


def _describe_model(suite: Suite) -> InputsPart:
    inputs: InputsPart = {"model": suite.model} if suite.model else {}
    return inputs | {"name": suite.model_name} if suite.model_name else inputs


def describe_inputs(system: System, task: Task) -> InputsPart:
    """Return what names a task and a system in a command, as a record states it."""
    inputs: InputsPart = {"task": shorten_path(task.path) if task.path else task.name}
    is_named = system.folder.resolve().parent in map(
        Path.resolve, get_system_folders(find_project())
    )
    if not is_named and not get_model_digest(system.folder):
        inputs["system"] = shorten_path(system.folder)
    return inputs


def _describe_task(task: Task) -> TaskPart:
    part: TaskPart = {
        "name": task.name,
        "version": task.version,
        "metric": task.metric,
        "labels": list(task.labels),
        "max_length": task.max_length,
        "latency_bound_ms": task.latency_bound_ms,
    }
    training = task.training_task
    examples = sum(len(training.examples(split)) for split in ("train", "selection"))
    if examples < training.sizes[0]:
        part["training_examples"] = examples
    return part


def _describe_artifact(artifact: Artifact) -> dict[str, Any]:
    """Return what the record says of an artifact, with its size and that of its weights, in 10^6
    bytes on disk, and the number of parameters (a quantized one counts once).
    """
    meta = artifact.metadata
    fields: dict[str, Any] = {key: getattr(meta, key) for key in ARTIFACT_FIELDS}
    weights = [path for path in artifact.folder.rglob("*") if path.suffix in WEIGHT_SUFFIXES]
    parameters = meta.model.get("parameters", 0)
    for path in weights:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                parameters += sum(arrays[name].size for name in arrays.files)
    return fields | {
        "size_mb": round(folder_size(artifact.folder) / 1e6, 3),
        "weights_mb": round(sum(path.stat().st_size for path in weights) / 1e6, 3),
        "parameters": parameters,
    }


def write_run(run: SystemRun, data: EvalData, records: Path) -> None:
    """Write the records of a system with its score and latencies so far.

    Args:
        run: the system on its task.
        data: the reported split, for the score.
        records: the folder of the sessions.
    """
    shared: dict[str, Any] = {"labels": data.truths, "groups": data.groups, "answers": run.answers}
    score = _compute_score(run, data) if run.answers else None
    for scenario, scenario_record in run.records.items():
        scenario_record.score = score or scenario_record.score
        latencies = run.latencies.get(scenario, [])
        counted = latencies if scenario == "single_stream" else []
        if scenario == "server":
            scenario_record.sustained = run.sustained
            windows = zip(latencies, scenario_record.rounds, strict=False)
            counted = [window for window, played in windows if scenario_record.is_reported(played)]
        scenario_record.latency_ms = _summarize_latencies(counted)
        queries = {"queries": run.queries[scenario], "latency_us": latencies} if latencies else {}
        record.write_record(scenario_record, shared | queries, records)


def _compute_score(run: SystemRun, data: EvalData) -> dict[str, Any]:
    metric = METRICS[run.task.metric]
    score = metric.score(run.answers, data.truths, data.groups)
    return {
        "metric": run.task.metric,
        "value": score.value,
        "se": score.se,
        "parts": score.parts,
        "majority": metric.majority_value(data.truths),
        "examples": len(data.truths),
    }


def _summarize_latencies(windows: Sequence[Sequence[int]]) -> dict[str, Any] | None:
    """Return percentiles in ms, pooled over windows of latencies in µs."""
    pooled = [latency / 1000 for window in windows for latency in window]
    if not pooled:
        return None
    shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
    percentiles = {
        name: statistics.compute_percentile(pooled, share) for name, share in shares.items()
    }
    return {**percentiles, "queries": len(pooled)}


def restore_runs(runs: Sequence[SystemRun], session: str, records: Path) -> int:
    """Fill in what a session measured before it was interrupted.

    Blocks that not every system has, as a killed run leaves them, are dropped.

    Args:
        runs: all systems of the session; changed in place.
        session: its name.
        records: the folder of the sessions.

    Returns:
        The number of whole blocks.

    Raises:
        HarnessError: a record is missing, or what it measured differs from what would be measured.
    """
    blocks = []
    for run in runs:
        for scenario in run.records:
            _restore_scenario(run, scenario, session, records)
        if rounds := run.records["offline"].rounds:
            run.rate = rounds[-1].examples / rounds[-1].seconds
        if not run.failed:
            blocks += [
                max((played.block for played in scenario_record.rounds), default=0)
                for scenario_record in run.records.values()
            ]
    whole = min(blocks, default=0)
    for run in runs:
        _drop_blocks_after(whole, run)
    return whole


def _restore_scenario(run: SystemRun, scenario: str, session: str, records: Path) -> None:
    new = run.records[scenario]
    path = new.path(records)
    if not path.is_file():
        raise HarnessError(
            f"session {session} has no record {path}. Start a new session (leave --resume out)."
        )
    old = record.read_record(path)
    if changed := _describe_changes(asdict(old), asdict(new)):
        raise HarnessError(
            f"{path}: {changed} changed since. Start a new session (leave --resume out)."
        )
    if old.energy["source"] != new.energy["source"]:
        raise HarnessError(
            f"{path}: its energy is {old.energy['source']}, and now it would be "
            f"{new.energy['source']}. Start a new session (leave --resume out)."
        )
    run.records[scenario] = replace(
        new,
        started=old.started,
        rounds=old.rounds,
        failure=old.failure,
        energy=old.energy,
        audit=old.audit,
        accuracy_pass=old.accuracy_pass,
    )
    run.failed = old.failure is not None
    details = record.read_side_file(path)
    run.answers = details["answers"]
    if "queries" in details:
        run.queries[scenario], run.latencies[scenario] = details["queries"], details["latency_us"]
    run.sustained = old.sustained or run.sustained


def _describe_changes(old: dict[str, Any], new: dict[str, Any]) -> str:
    """Return which fixed fields of a record differ, and how; '' if none does."""
    changed = {
        name: list(_list_changes("", old[name], new[name]))
        for name in FIXED_FIELDS
        if old[name] != new[name]
    }
    return "; ".join(
        f"{name} ({', '.join(changes[:MAX_CHANGES] + ['...'] * (len(changes) > MAX_CHANGES))})"
        for name, changes in changed.items()
    )


def _list_changes(name: str, old: Any, new: Any) -> Iterator[str]:
    if isinstance(old, list) and isinstance(new, list) and all(isinstance(x, dict) for x in old):
        old, new = dict(enumerate(old, start=1)), dict(enumerate(new, start=1))
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys((*old, *new)):
            if old.get(key) != new.get(key):
                yield from _list_changes(f"{name} {key}".strip(), old.get(key), new.get(key))
    else:
        values = (" ".join(map(str, x)) if isinstance(x, list) else str(x) for x in (old, new))
        texts = [text if len(text) <= 60 else f"{text[:57]}..." for text in values]
        yield f"{name} {' -> '.join(texts)}".strip()


def _drop_blocks_after(whole: int, run: SystemRun) -> None:
    for scenario, scenario_record in run.records.items():
        scenario_record.rounds = [
            played for played in scenario_record.rounds if played.block <= whole
        ]
        for by_scenario in (run.queries, run.latencies):
            windows = by_scenario.get(scenario, [])
            by_scenario[scenario] = windows[: len(scenario_record.rounds)]
    if run.sustained:
        rates = run.sustained["rates"]
        run.sustained["rates"] = {block: rates[block] for block in rates if int(block) <= whole}
