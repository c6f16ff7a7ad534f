"""A session: blocks of one round of every system in shuffled order, and the records that it leaves.

Records are written after each whole block. An interrupted session loses the block it was in, and
can be taken up again with a new one.
"""

import random
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from statistics import mean, median
from typing import Any

from harness import record, stats
from harness.build import find_artifact
from harness.configuration import Configuration
from harness.energy import Meter, grams_co2_per_kwh
from harness.errors import HarnessError
from harness.manifest import SCENARIOS, System
from harness.measure import machine
from harness.measure.rounds import Material, Row, play_round
from harness.record import Record
from harness.store import folder_size
from harness.tasks.metrics import METRICS, majority_share
from harness.tasks.task import Suite, Task

Say = Callable[[str], None]


def measure(
    systems: Sequence[System],
    tasks: Sequence[Task],
    suite: Suite,
    configuration: Configuration,
    root: Path,
    results: Path,
    blocks: int = 5,
    session: str = "",
    seed: int = 0,
    say: Say = print,
) -> str:
    """Measure all systems on all tasks that they declare. Returns: the session's name.

    session: one that was interrupted, to go on with until it has `blocks` blocks.
    Raises: HarnessError if a system is not built, or the session cannot be taken up.
    """
    material = {each.name: Material.of(each) for each in tasks}
    started = datetime.now(UTC)
    resumed, session = (
        session,
        session or f"{started:%Y-%m-%dT%H%M%S}-{configuration.name}-{secrets.token_hex(2)}",
    )
    about = {
        "session": session,
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
        "machine": machine.fingerprint(),
        "software": machine.software(),
    }
    rows = [
        _row(system, task, about, root, seed)
        for task in tasks
        for system in systems
        if system.answers_task(task.name)
    ]
    if not rows:
        raise HarnessError(
            f"none of the systems declares one of the tasks {', '.join(material)}. Add the task to "
            "a manifest's `tasks`."
        )
    done = _take_up(rows, resumed, results / "records") if resumed else 0
    if done >= blocks:
        raise HarnessError(
            f"session {session} has {done} blocks already. Give a larger --rounds to go on."
        )
    meter = Meter(configuration)
    progress = Progress(len(rows) * (blocks - done), len(rows), say)
    try:
        for block in range(done + 1, blocks + 1):
            order = list(rows)
            random.Random(f"{session} {block}").shuffle(order)
            for row in order:
                progress.step(f"block {block}/{blocks}: {row.system.name} on {row.task.name}")
                play_round(row, block, material[row.task.name], configuration, meter)
                progress.done()
            for row in rows:
                _write(row, material[row.task.name], results / "records")
    except KeyboardInterrupt:
        if block > 1:
            say(f"whole blocks are kept; go on with the same command and --resume {session}")
        raise
    finally:
        meter.close()
    return session


USUAL_ROUND_SECONDS = 6.0


class Progress:
    """Says what is being done and how long the rest will take.

    The estimate is the mean of the last block's rounds. In the first block, which also holds the
    accuracy passes, it is the median of the rounds so far and of three usual ones, so that one slow
    system does not stand for all.
    """

    def __init__(self, steps: int, block: int, say: Say) -> None:
        self.steps, self.block, self.say = steps, block, say
        self.times = [time.monotonic()]

    def step(self, what: str) -> None:
        """A step begins."""
        rounds = [after - before for before, after in pairwise(self.times)]
        if len(rounds) >= self.block:
            each = mean(rounds[-self.block :])
        else:
            each = median([*rounds, *[USUAL_ROUND_SECONDS] * 3])
        left = each * (self.steps - len(rounds)) / 60
        self.say(f"{what} ({len(rounds)}/{self.steps} rounds, about {left:.1f} min left)")

    def done(self) -> None:
        """A step ended."""
        self.times.append(time.monotonic())


def _row(system: System, task: Task, about: dict[str, Any], root: Path, seed: int) -> Row:
    artifact = find_artifact(system, task, seed, root)
    described = {
        "name": system.name,
        "title": system.title,
        "authors": list(system.authors),
        "licence": system.licence,
        "division": system.division,
        "folder": f"{system.folder.parent.name}/{system.folder.name}",
    }
    asked = {
        "name": task.name,
        "version": task.version,
        "metric": task.metric,
        "labels": list(task.labels),
        "max_length": task.max_length,
    }
    kept = None
    if artifact:
        keys = ("key", "format", "dtype", "model", "recipe", "seed")
        kept = {key: artifact.about[key] for key in keys if key in artifact.about}
        kept["size_mb"] = round(folder_size(artifact.folder) / 1e6, 3)
    return Row(
        system,
        task,
        artifact,
        {
            name: Record(
                **about,
                task=asked,
                scenario=name,
                system={**described, "serve": asdict(system.serve[name])},
                artifact=kept,
            )
            for name in SCENARIOS
        },
    )


def _write(row: Row, material: Material, records: Path) -> None:
    labels = [each.label for each in material.examples]
    side: dict[str, Any] = {
        "labels": labels,
        "groups": [each.group for each in material.examples],
        "answers": row.answers,
    }
    if row.answers:
        score = METRICS[row.task.metric](row.answers, labels)
        stated = {
            "metric": row.task.metric,
            "value": score.value,
            "se": score.se,
            "majority": majority_share(labels),
            "examples": len(labels),
        }
        for each in row.records.values():
            each.score = stated
    latencies = [latency / 1000 for each in row.latencies for latency in each]
    single = row.records["single_stream"]
    if latencies:
        shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
        single.latency_ms = {
            name: stats.percentile(latencies, share) for name, share in shares.items()
        } | {"queries": len(latencies)}
    record.write(single, side | {"queries": row.queries, "latency_us": row.latencies}, records)
    record.write(row.records["offline"], side, records)


def _take_up(rows: Sequence[Row], session: str, records: Path) -> int:
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
            old = record.read(path)
            same = ("machine", "configuration", "task", "artifact", "system", "roles")
            if changed := [name for name in same if getattr(old, name) != getattr(fresh, name)]:
                raise HarnessError(
                    f"{path}: {', '.join(changed)} changed since. Start a new session (leave "
                    "--resume out)."
                )
            row.records[scenario] = replace(
                fresh, started=old.started, rounds=old.rounds, failure=old.failure
            )
            row.failed = old.failure is not None
            side = record.read_side(path)
            row.answers = side["answers"]
            row.queries, row.latencies = (
                side.get("queries", row.queries),
                side.get("latency_us", row.latencies),
            )
            if not row.failed:
                counts.add(len(old.rounds))
        if rounds := row.records["offline"].rounds:
            row.rate = rounds[-1].examples / rounds[-1].seconds
    return min(counts, default=0)
