"""A session: blocks of one round of every system in shuffled order, and the records that it leaves.

Records are written after each whole block. An interrupted session loses the block it was in, and
can be taken up again with a new one.
"""

import math
import random
import secrets
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import HarnessError
from harness.loadgen import server
from harness.optimize.base import Artifact
from harness.results import record, statistics
from harness.results.record import Record
from harness.runner import resume
from harness.runner.config import RunConfig
from harness.runner.evaluate import EvalData, RunContext, SystemRun, has_custom_code, run_round
from harness.runner.progress import Progress
from harness.store.cache import digest, folder_digest, folder_size
from harness.submissions.checkpoint import model_of
from harness.submissions.manifest import System
from harness.submissions.plan import find_artifact, is_trained
from harness.tasks.metrics import METRICS
from harness.tasks.suites import Suite
from harness.tasks.task import Task
from harness.telemetry import machine
from harness.telemetry.configuration import Configuration
from harness.telemetry.energy import Meter, grams_co2_per_kwh
from harness.worker import sandbox

Log = Callable[[str], None]

SAME = ("suite", "machine", "configuration", "task", "artifact", "system", "roles", "timing")
"""What of a record must be the same where a session is taken up."""


def measure(
    systems: Sequence[System],
    tasks: Sequence[Task],
    suite: Suite,
    configuration: Configuration,
    root: Path,
    results: Path,
    config: RunConfig = RunConfig(),
    session: str = "",
    seed: int = 0,
    log: Log = print,
) -> str:
    """Measure all systems on all tasks that they declare. Returns: the session's name.

    session: one that was interrupted, to go on with until it has as many blocks as `config` says;
    one whose run was killed is found without its name, where the same is asked.
    Raises: HarnessError if a system is not built, the session cannot be taken up, or there is no
    sandbox where one is required.
    """
    custom = [system.name for system in systems if has_custom_code(system)]
    kind = sandbox.choose_isolation(config.isolation, custom, log)
    material = {each.name: EvalData.of(each) for each in tasks}
    meter = Meter(configuration)
    resumed = session
    about = _about(configuration, suite, session, meter, kind, config)
    rows = [
        _row(system, task, about, root, seed, config.scenarios)
        for system, task in expand_systems(systems, tasks, root, seed, config.seeds)
    ]
    if not rows:
        raise HarnessError(
            f"none of the systems declares one of the tasks {', '.join(material)}. Add the task to "
            "a manifest's `tasks`."
        )
    written = [each for row in rows for each in row.records.values()]
    settings_digest = digest(
        [asdict(config), *({name: getattr(each, name) for name in SAME} for each in written)]
    )
    paths = [str(each.path(Path()).relative_to(each.session)) for each in written]
    if not session and (killed := resume.find(results / "records", settings_digest, paths)):
        log(f"going on with session {killed}, whose run was killed")
        resumed = about["session"] = killed
        for each in written:
            each.session = killed
    done = _resume(rows, resumed, results / "records") if resumed else 0
    if (
        session
        and done >= config.blocks
        and not (config.until and widest_interval(rows) > config.until)
    ):
        raise HarnessError(
            f"session {resumed} has {done} blocks already. Give a larger --rounds, or a narrower "
            "--until, to go on."
        )
    each_rate = server.queries_a_round(None if config.until else config.blocks)
    settings = {
        name: RunContext(each, configuration, meter, each_rate, kind, config.timing)
        for name, each in material.items()
    }
    progress = Progress(len(rows), max(1, config.blocks - done), log)
    try:
        with resume.running(results / "records" / str(about["session"]), settings_digest):
            while not _enough(done, rows, config, progress):
                done += 1
                order = list(rows)
                random.Random(f"{about['session']} {done}").shuffle(order)
                for row in order:
                    progress.step(f"block {done}: {row.system.name} on {row.task.name}")
                    run_round(row, done, settings[row.task.name])
                    progress.done()
                for row in rows:
                    _write(row, material[row.task.name], results / "records")
    except KeyboardInterrupt:
        if done > 1:
            log(f"whole blocks are kept; the same command goes on with --resume {about['session']}")
        raise
    finally:
        meter.close()
    return str(about["session"])


def expand_systems(
    systems: Sequence[System], tasks: Sequence[Task], root: Path, seed: int, seeds: int
) -> list[tuple[System, Task]]:
    """What gets a row: each system on each task that it declares, at all its operating points, and
    with each of so many training seeds, the first of which is `seed`.
    """
    pairs = [(one, task) for task in tasks for one in systems if one.declares_task(task)]
    return [(each, task) for one, task in pairs for each in one.at_points()] + [
        (replace(one, name=f"{one.name}@seed{other}", seed=other), task)
        for other in range(seed + 1, seed + seeds)
        for one, task in pairs
        if is_trained(one, task, root)
    ]


def widest_interval(rows: Sequence[SystemRun]) -> float:
    """The widest 95% interval of an offline speed-up over its task's reference, as a share of its
    value; infinite with fewer than two blocks. `null` does not count.
    """
    widest = 0.0
    times = {
        (row.task.name, row.system.name): {
            each.block: each.seconds / each.examples for each in row.records["offline"].rounds
        }
        for row in rows
        if not row.failed
    }
    for row in rows:
        roles = row.records["offline"].roles
        slow = times.get((row.task.name, roles["reference"]), {})
        fast = times.get((row.task.name, row.system.name), {})
        shared = sorted(set(slow) & set(fast))
        if row.failed or slow is fast or row.system.name == roles["null"]:
            continue
        if len(shared) < 2:
            return math.inf
        found = statistics.ratio([slow[each] for each in shared], [fast[each] for each in shared])
        widest = max(widest, math.sqrt(found.high / found.low) - 1)
    return widest


def _enough(done: int, rows: Sequence[SystemRun], config: RunConfig, progress: "Progress") -> bool:
    """Whether the session has what was asked for; says what is still missing."""
    if done < config.blocks or config.until is None:
        return done >= config.blocks
    widest = widest_interval(rows)
    found = f"after {done} blocks the widest interval is ±{widest:.1%}"
    if widest <= config.until:
        progress.log(found)
        return True
    if progress.minutes_after_another > config.minutes:
        progress.log(f"{found}; the time of {config.minutes:g} minutes is up")
        return True
    progress.log(f"{found}: another one")
    progress.blocks += 1
    return False


def _about(
    configuration: Configuration,
    suite: Suite,
    session: str,
    meter: Meter,
    kind: str,
    config: RunConfig,
) -> dict[str, Any]:
    """What all records of a session share."""
    started = datetime.now(UTC)
    fresh = f"{started:%Y-%m-%dT%H%M%S}-{configuration.name}-{secrets.token_hex(2)}"
    return {
        "session": session or fresh,
        "started": f"{started:%Y-%m-%dT%H:%M:%SZ}",
        "suite": suite.name,
        "roles": {
            "reference": suite.reference,
            "unpadded_reference": suite.unpadded_reference,
            "null": "null",
        },
        "configuration": {
            **asdict(configuration),
            "hash": configuration.hash,
            "grams_co2_per_kwh": round(grams_co2_per_kwh(configuration.country), 1),
        },
        "machine": machine.fingerprint(kind),
        "software": machine.software(),
        "energy": {"source": meter.source, "idle": None if session else meter.idle_watts()},
        "timing": asdict(config.timing),
    }


def _row(
    system: System,
    task: Task,
    about: dict[str, Any],
    root: Path,
    seed: int,
    scenarios: Sequence[str],
) -> SystemRun:
    artifact = find_artifact(system, task, seed if system.seed is None else system.seed, root)
    described: dict[str, Any] = {
        "name": system.name,
        "title": system.title,
        "authors": list(system.authors),
        "licence": system.licence,
        "division": system.division,
        "folder": f"{system.folder.parent.name}/{system.folder.name}",
    }
    if model := model_of(system.folder):
        described |= {"folder": f"models/{system.folder.name}", "model": model}
    if has_custom_code(system):
        described["code"] = folder_digest(system.folder)
    described |= {"point": system.point} if system.point else {}
    described |= {"seed": system.seed} if system.seed is not None else {}
    task_metadata = {
        "name": task.name,
        "version": task.version,
        "metric": task.metric,
        "labels": list(task.labels),
        "max_length": task.max_length,
        "latency_bound_ms": task.latency_bound_ms,
    }
    artifact_metadata = None
    if artifact:
        keys = ("key", "format", "dtype", "model", "recipe", "seed")
        artifact_metadata = {key: artifact.about[key] for key in keys if key in artifact.about}
        artifact_metadata["size_mb"] = round(folder_size(artifact.folder) / 1e6, 3)
        artifact_metadata |= _weights(artifact)
    return SystemRun(
        system,
        task,
        artifact,
        {
            name: Record(
                **about,
                task=task_metadata,
                scenario=name,
                system={**described, "serve": system.serve[name].to_dict()},
                artifact=artifact_metadata,
            )
            for name in scenarios
        },
    )


def _weights(artifact: Artifact) -> dict[str, Any]:
    """The weights apart from tokenizer and vocabulary: 10^6 bytes on disk, and how many parameters;
    a quantized one counts once.
    """
    suffixes = (".safetensors", ".onnx", ".onnx_data", ".data", ".bin", ".npz")
    files = [path for path in artifact.folder.rglob("*") if path.suffix in suffixes]
    count = artifact.about.get("model", {}).get("parameters", 0)
    for path in files:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                count += sum(arrays[name].size for name in arrays.files)
    size = sum(path.stat().st_size for path in files) / 1e6
    return {"weights_mb": round(size, 3), "parameters": count}


def _write(row: SystemRun, material: EvalData, records: Path) -> None:
    truths, groups = material.truths, material.groups
    side: dict[str, Any] = {"labels": truths, "groups": groups, "answers": row.answers}
    if row.answers:
        metric = METRICS[row.task.metric]
        score = metric.score(row.answers, truths, groups)
        stated = {
            "metric": row.task.metric,
            "value": score.value,
            "se": score.se,
            "parts": score.parts,
            "majority": metric.majority(truths),
            "examples": len(truths),
        }
        for each in row.records.values():
            each.score = stated
    for name, it in row.records.items():
        own = row.latencies.get(name, [])
        chosen = own if name == "single_stream" else []
        if name == "server":
            it.sustained = row.sustained
            chosen = [each for each, one in zip(own, it.rounds, strict=False) if it.counts(one)]
        it.latency_ms = _percentiles(chosen)
        apart = {"queries": row.queries[name], "latency_us": own} if own else {}
        record.write_record(it, side | apart, records)


def _percentiles(windows: Sequence[Sequence[int]]) -> dict[str, Any] | None:
    """Pooled over windows of microseconds."""
    pooled = [latency / 1000 for each in windows for latency in each]
    shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
    found = {name: statistics.percentile(pooled, share) for name, share in shares.items()}
    return {**found, "queries": len(pooled)} if pooled else None


def _resume(rows: Sequence[SystemRun], session: str, records: Path) -> int:
    """Continue from the records of a session.

    Returns: the number of whole blocks it has. Raises: HarnessError if it is another experiment.
    """
    counts = set()
    for row in rows:
        for scenario, fresh in row.records.items():
            path = fresh.path(records)
            if not path.is_file():
                raise HarnessError(
                    f"session {session} has no record {path}. Start a new session (leave --resume "
                    "out)."
                )
            old = record.read_record(path)
            if changed := [name for name in SAME if getattr(old, name) != getattr(fresh, name)]:
                raise HarnessError(
                    f"{path}: {', '.join(changed)} changed since. Start a new session (leave "
                    "--resume out)."
                )
            if old.energy["source"] != fresh.energy["source"]:
                raise HarnessError(
                    f"{path}: its energy is {old.energy['source']}, and now it would be "
                    f"{fresh.energy['source']}. Start a new session (leave --resume out)."
                )
            row.records[scenario] = replace(
                fresh,
                started=old.started,
                rounds=old.rounds,
                failure=old.failure,
                energy=old.energy,
                audit=old.audit,
            )
            row.failed = old.failure is not None
            side = record.read_side(path)
            row.answers = side["answers"]
            if "queries" in side:
                row.queries[scenario], row.latencies[scenario] = side["queries"], side["latency_us"]
            row.sustained = old.sustained or row.sustained
            if not row.failed:
                counts.add(max((each.block for each in old.rounds), default=0))
        if rounds := row.records["offline"].rounds:
            row.rate = rounds[-1].examples / rounds[-1].seconds
    whole = min(counts, default=0)
    for row in rows:  # what a killed run wrote of a block that not every row has
        for scenario, it in row.records.items():
            it.rounds = [each for each in it.rounds if each.block <= whole]
            for kept in (row.queries, row.latencies):
                kept[scenario] = kept.get(scenario, [])[: len(it.rounds)]
        if row.sustained:
            rates = row.sustained["rates"]
            row.sustained["rates"] = {key: rates[key] for key in rates if int(key) <= whole}
    return whole
