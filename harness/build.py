"""Runs recipes, step by step, and skips what the store already holds.

Building happens in a process of its own: the one that measures stays small, and an allocator that
keeps its memory (`MALLOC_TUNABLES`) is chosen when a process starts. A step fills a temporary
folder that becomes the artifact when the step ends well, so a half-written one is never visible.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.errors import BuildError, HarnessError
from harness.models import pretrained
from harness.optimize.base import Artifact, Inputs, Member, StepContext
from harness.store.cache import (
    artifact_dir,
    checkpoint_dir,
    file_sha256,
    locked,
    new_folder,
)
from harness.submissions.manifest import System, read_system
from harness.submissions.plan import PlannedStep, find_artifact, plan_build
from harness.tasks.registry import get_task
from harness.tasks.task import Task
from harness.telemetry.configuration import Configuration, choose_configuration
from harness.telemetry.energy import Meter
from harness.telemetry.machine import versions

MALLOC_TUNABLES = ":".join(
    f"glibc.malloc.{key}"
    for key in (
        "hugetlb=1",
        "mmap_threshold=17179869184",
        "trim_threshold=17179869184",
        "top_pad=268435456",
    )
)

Log = Callable[[str], None]


def build(
    systems: Sequence[System],
    tasks: Sequence[Task],
    configuration: Configuration,
    root: Path,
    seed: int = 0,
    log: Log = print,
) -> None:
    """Build what is missing, each in a process of its own.

    Raises: BuildError with the step's message.
    """
    missing: dict[str, tuple[System, Task]] = {}
    for task in tasks:
        for system in systems:
            steps = plan_build(system, task, seed, root) if system.declares_task(task) else []
            if steps and not artifact_dir(steps[-1].key).is_dir():
                missing.setdefault(steps[-1].key, (system, task))
    for number, (system, task) in enumerate(missing.values(), start=1):
        log(f"build {number}/{len(missing)}: {system.name} for {task.training_task.name}")
        _fetch(system, task, seed, root)
        _in_own_process(system, task, configuration, root, seed, log)


def build_here(
    system: System, task: Task, configuration: Configuration, root: Path, seed: int, log: Log
) -> Artifact | None:
    """Build in this process. Returns: the artifact, or None where the recipe leaves none."""
    for step in plan_build(system, task, seed, root):
        if not artifact_dir(step.key).is_dir():
            with locked(step.key):
                if not artifact_dir(step.key).is_dir():
                    _run_step(step, task, configuration, seed, log)
    return find_artifact(system, task, seed, root)


def _run_step(
    planned: PlannedStep, task: Task, configuration: Configuration, seed: int, log: Log
) -> None:
    inputs = Inputs(
        artifact=Artifact.read(artifact_dir(planned.parent)) if planned.parent else None,
        encoder=pretrained.fetch(planned.encoder, planned.base) if planned.encoder else None,
        teacher=Artifact.read(artifact_dir(planned.teacher)) if planned.teacher else None,
        members=tuple(
            Member(name, Artifact.read(artifact_dir(key)), engine)
            for name, key, engine in planned.members
        ),
    )
    kept = checkpoint_dir(planned.key)
    name = planned.step_config.step.name
    meter = Meter(configuration)
    with new_folder(artifact_dir(planned.key)) as out:
        started, used = time.perf_counter(), _cpu_seconds()
        with meter.window() as energy:
            context = StepContext(
                out, seed, configuration.cores, lambda line: log(f"  {name}: {line}"), kept
            )
            about = planned.step_config.step.run(inputs, task, planned.step_config.params, context)
        seconds, used = time.perf_counter() - started, _cpu_seconds() - used
        cost = {
            "seconds": round(seconds, 2),
            "cpu_seconds": round(used, 2),
            "energy": {**meter.complete(energy, used).record(), "source": meter.source},
        }
        recipe = [
            *_before(inputs),
            {"use": name, **asdict(planned.step_config.params), "cost": cost},
        ]
        described = {
            "key": planned.key,
            "task": [task.name, task.version],
            "labels": len(task.labels),
            "max_length": inputs.artifact.about["max_length"]
            if inputs.artifact
            else task.max_length,
            "parents": inputs.keys(),
            "seed": seed,
            "recipe": recipe,
            "packages": versions(),
            **about,
        }
        described["files"] = {
            str(path.relative_to(out)): file_sha256(path)
            for path in sorted(out.rglob("*"))
            if path.is_file()
        }
        (out / "artifact.json").write_text(json.dumps(described, indent=1))
    meter.close()
    shutil.rmtree(kept, ignore_errors=True)
    log(f"  {name}: done in {seconds:.0f} s")


def _before(inputs: Inputs) -> list[dict[str, Any]]:
    """The steps so far, each once, though several members of a cascade may begin alike."""
    parents = [inputs.artifact] if inputs.artifact else [each.artifact for each in inputs.members]
    steps = [step for each in parents for step in each.about["recipe"]]
    return [step for number, step in enumerate(steps) if step not in steps[:number]]


def _cpu_seconds() -> float:
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in usage)


def _fetch(system: System, task: Task, seed: int, root: Path) -> None:
    """Download what the recipe needs; here, where pip has the terminal for its progress bar."""
    task.examples("train")
    if task.transfer:
        task.transfer.load()
    for step in plan_build(system, task, seed, root):
        if step.encoder and not artifact_dir(step.key).is_dir():
            pretrained.fetch(step.encoder, step.base)


def _in_own_process(
    system: System, task: Task, configuration: Configuration, root: Path, seed: int, log: Log
) -> None:
    """Progress comes over its stdout; from a line that begins with `error: ` on it is the fault."""
    order = [
        str(system.folder),
        task.training_task.address,
        configuration.name,
        str(root),
        str(seed),
    ]
    environment = {
        **os.environ,
        "GLIBC_TUNABLES": MALLOC_TUNABLES,
        "TOKENIZERS_PARALLELISM": "true",
    }
    command = [sys.executable, "-m", "harness.build", *order]
    fault: list[str] = []
    with (
        tempfile.TemporaryFile("w+") as stderr,
        subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            text = line.rstrip("\n")
            if text.startswith("error: ") or fault:
                fault.append(text.removeprefix("error: "))
            else:
                log(text)
        status = process.wait()
        stderr.seek(0)
        tail = stderr.read()[-800:].strip()
    if status:
        reason = "\n".join(fault) or f"the build died with status {status}. {tail}"
        raise BuildError(f"{system.manifest}: {reason}")


def _main(arguments: list[str]) -> int:
    folder, task_name, configuration, root, seed = arguments
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints, in half lines too, goes to stderr

    def log(line: str) -> None:
        print(line, file=channel, flush=True)

    try:
        system = read_system(Path(folder), Path(root))
        build_here(
            system,
            get_task(task_name),
            choose_configuration(configuration),
            Path(root),
            int(seed),
            log,
        )
    except HarnessError as error:
        log(f"error: {error}")
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
