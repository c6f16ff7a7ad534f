"""Builds: runs the planned steps whose artifacts the cache does not hold.

A build is a subprocess: the process that measures stays small, and glibc reads its allocator
settings (`MALLOC_TUNABLES`) only when a process starts. A step fills a temporary folder, which
becomes the artifact if the step succeeds, so an incomplete artifact is never visible.
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
    create_folder_atomically,
    file_sha256,
    hold_lock,
)
from harness.submissions.manifest import System, read_system
from harness.submissions.plan import PlannedStep, find_artifact, plan_build
from harness.tasks.registry import get_task
from harness.tasks.task import Task
from harness.telemetry.configuration import Configuration, choose_configuration
from harness.telemetry.energy import EnergyMeter
from harness.telemetry.machine import get_versions

MALLOC_TUNABLES = ":".join(
    f"glibc.malloc.{setting}"
    for setting in (
        "hugetlb=1",
        "mmap_threshold=17179869184",
        "trim_threshold=17179869184",
        "top_pad=268435456",
    )
)
"""Keeps freed memory in the process, in huge pages; training allocates the same sizes again."""

ERROR_PREFIX = "error: "
"""From a line with this prefix on, a build process prints the message of its error."""

Log = Callable[[str], None]


def build_missing(
    systems: Sequence[System],
    tasks: Sequence[Task],
    configuration: Configuration,
    root: Path,
    seed: int = 0,
    log: Log = print,
) -> None:
    """Build the systems whose artifacts are missing, one after the other in a subprocess each.

    Args:
        systems: the systems; what they have in common is built once.
        tasks: the tasks to build each system for, if the system declares them.
        configuration: sets the number of cores, whether encoders are trained on the GPU, and how
            energy is metered.
        root: the folder that holds baselines/ and submissions/.
        seed: the training seed.
        log: called with each line of progress.

    Raises:
        BuildError: a step failed; the message names the manifest and the reason.
    """
    missing: dict[str, tuple[System, Task]] = {}
    for task in tasks:
        for system in systems:
            steps = plan_build(system, task, seed, root) if system.declares_task(task) else []
            if steps and not artifact_dir(steps[-1].key).is_dir():
                missing.setdefault(steps[-1].key, (system, task))
    for number, (system, task) in enumerate(missing.values(), start=1):
        log(f"build {number}/{len(missing)}: {system.name} for {task.training_task.name}")
        _fetch_inputs(system, task, seed, root)
        _build_in_subprocess(system, task, configuration, root, seed, log)


def build_in_this_process(
    system: System, task: Task, configuration: Configuration, root: Path, seed: int, log: Log
) -> Artifact | None:
    """Build one system without a subprocess.

    Args:
        system: the system.
        task: the task to build it for.
        configuration: sets the number of cores, and how energy is metered.
        root: the folder that holds baselines/ and submissions/.
        seed: the training seed.
        log: called with each line of progress.

    Returns:
        The artifact; None if the recipe writes none.

    Raises:
        BuildError: a step failed.
    """
    for planned in plan_build(system, task, seed, root):
        if not artifact_dir(planned.key).is_dir():
            with hold_lock(planned.key):  # another process may be building it
                if not artifact_dir(planned.key).is_dir():
                    _run_step(planned, task, configuration, seed, log)
    return find_artifact(system, task, seed, root)


def _run_step(
    planned: PlannedStep, task: Task, configuration: Configuration, seed: int, log: Log
) -> None:
    inputs = _load_inputs(planned)
    step, params = planned.step_config.step, planned.step_config.params
    checkpoints = checkpoint_dir(planned.key)
    meter = EnergyMeter(configuration)
    with create_folder_atomically(artifact_dir(planned.key)) as out:
        started, cpu_started = time.perf_counter(), _read_cpu_seconds()
        with meter.measure_window() as energy:
            context = StepContext(
                out,
                seed,
                configuration.cores,
                lambda line: log(f"  {step.name}: {line}"),
                checkpoints,
                device=configuration.torch_device,
            )
            step_metadata = step.run(inputs, task, params, context)
        seconds, cpu_seconds = time.perf_counter() - started, _read_cpu_seconds() - cpu_started
        cost = {
            "seconds": round(seconds, 2),
            "cpu_seconds": round(cpu_seconds, 2),
            "energy": {**meter.complete(energy, cpu_seconds).to_dict(), "source": meter.source},
        }
        if meter.gpu:
            cost["gpu"] = meter.gpu.name
        max_length = inputs.artifact.metadata["max_length"] if inputs.artifact else task.max_length
        metadata = {
            "key": planned.key,
            "task": [task.name, task.version],
            "labels": len(task.labels),
            "max_length": max_length,
            "parents": inputs.keys(),
            "seed": seed,
            "recipe": [
                *_get_previous_steps(inputs),
                {"use": step.name, **asdict(params), "cost": cost},
            ],
            "packages": get_versions(),
            **step_metadata,
        }
        metadata["files"] = {
            str(path.relative_to(out)): file_sha256(path)
            for path in sorted(out.rglob("*"))
            if path.is_file()
        }
        (out / "artifact.json").write_text(json.dumps(metadata, indent=1))
    meter.close()
    shutil.rmtree(checkpoints, ignore_errors=True)
    log(f"  {step.name}: done in {seconds:.0f} s")


def _load_inputs(planned: PlannedStep) -> Inputs:
    return Inputs(
        artifact=Artifact.read(artifact_dir(planned.parent)) if planned.parent else None,
        encoder=pretrained.fetch(planned.encoder, planned.base) if planned.encoder else None,
        teacher=Artifact.read(artifact_dir(planned.teacher)) if planned.teacher else None,
        members=tuple(
            Member(member.name, Artifact.read(artifact_dir(member.key)), member.engine)
            for member in planned.members
        ),
    )


def _get_previous_steps(inputs: Inputs) -> list[dict[str, Any]]:
    """Return the steps that led to the inputs; those that members have in common, once."""
    members = [member.artifact for member in inputs.members]
    steps: list[dict[str, Any]] = []
    for artifact in [inputs.artifact] if inputs.artifact else members:
        for step in artifact.metadata["recipe"]:
            if step not in steps:
                steps.append(step)
    return steps


def _read_cpu_seconds() -> float:
    """Return the CPU time of this process and of its finished child processes."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _fetch_inputs(system: System, task: Task, seed: int, root: Path) -> None:
    """Download data and encoders; here, where pip can draw its progress bar in the terminal."""
    task.examples("train")
    if task.transfer:
        task.transfer.load()
    for planned in plan_build(system, task, seed, root):
        if planned.encoder and not artifact_dir(planned.key).is_dir():
            pretrained.fetch(planned.encoder, planned.base)


def _build_in_subprocess(
    system: System, task: Task, configuration: Configuration, root: Path, seed: int, log: Log
) -> None:
    """Run `_main` in a process that prints progress, then the message of an error, if any."""
    arguments = [
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
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",  # as NVML, see telemetry/gpu.py
    }
    error_lines: list[str] = []
    with (
        tempfile.TemporaryFile("w+") as stderr,
        subprocess.Popen(
            [sys.executable, "-m", "harness.build", *arguments],
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
            if text.startswith(ERROR_PREFIX) or error_lines:
                error_lines.append(text.removeprefix(ERROR_PREFIX))
            else:
                log(text)
        status = process.wait()
        stderr.seek(0)
        tail = stderr.read()[-800:].strip()
    if status:
        reason = "\n".join(error_lines) or f"the build process ended with status {status}. {tail}"
        raise BuildError(f"{system.manifest}: {reason}")


def _main(arguments: list[str]) -> int:
    folder, task_name, configuration, root, seed = arguments
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints goes to stderr, even parts of lines

    def log(line: str) -> None:
        print(line, file=channel, flush=True)

    try:
        build_in_this_process(
            read_system(Path(folder), Path(root)),
            get_task(task_name),
            choose_configuration(configuration),
            Path(root),
            int(seed),
            log,
        )
    except HarnessError as error:
        log(f"{ERROR_PREFIX}{error}")
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
