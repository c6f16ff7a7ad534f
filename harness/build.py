"""Builds: runs the planned steps whose artifacts the cache does not hold.

A build is a subprocess: the process that measures stays small, and glibc reads its allocator
settings (`MALLOC_TUNABLES`) only when a process starts. A step fills a temporary folder, which
becomes the artifact if the step succeeds, so an incomplete artifact is never visible.
"""

import ctypes
import gc
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.errors import BuildError, HarnessError
from harness.models import pretrained
from harness.models.checkpoint_files import read_dtype
from harness.optimize.base import Artifact, ArtifactMeta, Inputs, Member, StepContext, get_step
from harness.progress import Log, ProgressLine, add_prefix
from harness.store import shared
from harness.store.cache import (
    artifact_dir,
    checkpoint_dir,
    create_folder_atomically,
    file_sha256,
    hold_lock,
    write_atomically,
)
from harness.submissions.checkpoint import get_model_digest
from harness.submissions.plan import Plan, PlannedStep, PlannedSystem
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
"""Keeps freed memory in the process, in huge pages, until the step ends; training allocates the
same sizes again."""


SAVE_SECONDS = 10.0
"""How often it is saved what a step has taken so far."""


def build_missing(plan: Plan, configuration: Configuration, log: Log = print) -> None:
    """Build what is missing, one system after the other in a subprocess each.

    Args:
        plan: what to build; what its systems have in common is built once.
        configuration: sets the number of cores, whether encoders are trained on the GPU, and how
            energy is metered.
        log: called with each line of progress.

    Raises:
        BuildError: a step failed; the message names the manifest and the reason.
    """
    missing: dict[str, PlannedSystem] = {}
    for planned in plan.systems:
        if not fetch_built(planned, log):
            missing.setdefault(planned.key, planned)
    for number, planned in enumerate(missing.values(), start=1):
        name = planned.task.training_task.name
        log(f"build {number}/{len(missing)}: {planned.system.name} for {name}")
        _fetch_inputs(planned)
        _build_in_subprocess(planned, configuration, log)


def fetch_built(planned: PlannedSystem, log: Log) -> bool:
    """Return whether a system is built, here or on another machine, whose artifact is then copied.

    Args:
        planned: the system.
        log: called with a line if something is copied.
    """
    if planned.is_built:
        return True
    with hold_lock(planned.key):
        if not planned.is_built and not shared.fetch_folder(artifact_dir(planned.key)):
            return False
    log(f"from the shared store: {planned.system.name} for {planned.task.training_task.name}")
    return True


def build_in_this_process(
    plan: Plan, configuration: Configuration, log: Log = print
) -> list[Artifact | None]:
    """Build what is missing without a subprocess.

    Args:
        plan: what to build.
        configuration: sets the number of cores, and how energy is metered.
        log: called with each line of progress.

    Returns:
        For each system of the plan its artifact; None if the recipe writes none.

    Raises:
        BuildError: a step failed.
    """
    for planned in plan.systems:
        for step in [] if fetch_built(planned, log) else planned.find_missing(_is_available):
            with hold_lock(step.key):  # another process may be building it
                if not _is_available(step):
                    _run_step(step, configuration, planned.seed, log)
                    _return_freed_memory()
                    shared.publish_folder(artifact_dir(step.key))
    return [planned.find_artifact() for planned in plan.systems]


def _is_available(step: PlannedStep) -> bool:
    """Return whether the artifact of a step is here, after copying it from another machine."""
    return step.is_built or shared.fetch_folder(artifact_dir(step.key))


def _run_step(planned: PlannedStep, configuration: Configuration, seed: int, log: Log) -> None:
    step, task = get_step(planned.use), planned.task
    log(ProgressLine(f"  {step.name}", 0.0))
    inputs = _load_inputs(planned)
    params = step.params(**planned.values)
    checkpoints = checkpoint_dir(planned.key)
    meter = EnergyMeter(configuration)
    clock = _StepClock(checkpoints)

    def report(line: str) -> None:
        clock.save()
        log(add_prefix(f"  {step.name}: ", line))

    with create_folder_atomically(artifact_dir(planned.key)) as out:
        with meter.measure_window() as energy:
            context = StepContext(
                out,
                seed,
                configuration.cores,
                report,
                checkpoints,
                device=configuration.torch_device,
            )
            step_metadata = step.run(inputs, task, params, context)
        seconds, cpu_seconds = clock.read()
        own_cpu_seconds = cpu_seconds - clock.before[1]
        energy = meter.complete(energy, own_cpu_seconds)
        source = meter.source
        if clock.before[1]:
            energy = energy.scale(cpu_seconds / own_cpu_seconds)
            source += ", runs that were interrupted in proportion to their CPU-seconds"
        cost = {
            "seconds": round(seconds, 2),
            "cpu_seconds": round(cpu_seconds, 2),
            "energy": {**energy.to_dict(), "source": source},
        }
        if meter.gpu:
            cost["gpu"] = meter.gpu.name
        max_length = inputs.artifact.metadata.max_length if inputs.artifact else task.max_length
        files = {
            str(path.relative_to(out)): file_sha256(path)
            for path in sorted(out.rglob("*"))
            if path.is_file()
        }
        meta = replace(
            ArtifactMeta.from_dict({"max_length": max_length, **step_metadata}),
            key=planned.key,
            task=(task.name, task.version),
            labels=len(task.labels),
            parents=inputs.keys(),
            seed=seed,
            recipe=[
                *_get_previous_steps(inputs),
                {"use": step.name, **params.model_dump(), **_describe_start(inputs), "cost": cost},
            ],
            packages=get_versions(),
            files=files,
        )
        (out / "artifact.json").write_text(json.dumps(meta.to_dict(), indent=1))
    meter.close()
    shutil.rmtree(checkpoints, ignore_errors=True)
    log(f"  {step.name}: done in {seconds:.0f} s")


def _return_freed_memory() -> None:
    """Return to the system what a step has freed: the next one allocates memory of other sizes."""
    gc.collect()
    with suppress(OSError, AttributeError):  # a C library without malloc_trim
        ctypes.CDLL(None).malloc_trim(0)


class _StepClock:
    """What a step has taken so far, with those runs of it that were interrupted.

    It is kept beside the checkpoints: a run that continues from one counts with those before it.

    Args:
        checkpoints: the folder of the step's checkpoints.

    Attributes:
        before: seconds and CPU-seconds of the runs before this one.
    """

    def __init__(self, checkpoints: Path) -> None:
        self._file = checkpoints / "spent.json"
        self.before = (0.0, 0.0)
        with suppress(OSError, ValueError, TypeError):
            seconds, cpu_seconds = json.loads(self._file.read_bytes())
            self.before = float(seconds), float(cpu_seconds)
        self._started = self._saved = time.perf_counter()
        self._cpu_started = _read_cpu_seconds()

    def read(self) -> tuple[float, float]:
        """Return the seconds and CPU-seconds of all runs."""
        seconds = time.perf_counter() - self._started
        cpu_seconds = _read_cpu_seconds() - self._cpu_started
        return self.before[0] + seconds, self.before[1] + cpu_seconds

    def save(self) -> None:
        """Write them beside the checkpoint, if there is one; at most every ten seconds."""
        now = time.perf_counter()
        if now - self._saved > SAVE_SECONDS and self._file.parent.is_dir():
            write_atomically(self._file, json.dumps(self.read()).encode())
            self._saved = now


def _load_inputs(planned: PlannedStep) -> Inputs:
    return Inputs(
        artifact=Artifact.read(artifact_dir(planned.parent)) if planned.parent else None,
        encoder=_fetch_encoder(planned),
        teacher=Artifact.read(artifact_dir(planned.teacher)) if planned.teacher else None,
        members=tuple(
            Member(member.name, Artifact.read(artifact_dir(member.key)), member.engine)
            for member in planned.members
        ),
    )


def _fetch_encoder(planned: PlannedStep) -> pretrained.Encoder | None:
    if planned.encoder is None:
        return None
    return pretrained.fetch(planned.encoder.name, planned.encoder.base)


def _describe_start(inputs: Inputs) -> dict[str, str]:
    """Return the precision of the weights that a step starts from, unless it is fp32."""
    dtype = read_dtype(inputs.encoder.folder) if inputs.encoder else "fp32"
    return {} if dtype == "fp32" else {"encoder_dtype": dtype}


def _get_previous_steps(inputs: Inputs) -> list[dict[str, Any]]:
    """Return the steps that led to the inputs; those that members have in common, once."""
    members = [member.artifact for member in inputs.members]
    steps: list[dict[str, Any]] = []
    for artifact in [inputs.artifact] if inputs.artifact else members:
        for step in artifact.metadata.recipe:
            if step not in steps:
                steps.append(step)
    return steps


def _read_cpu_seconds() -> float:
    """Return the CPU time of this process and of its finished child processes."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _fetch_inputs(planned: PlannedSystem) -> None:
    """Download data and encoders; here, where pip can draw its progress bar in the terminal."""
    for step in planned.find_missing(_is_available):
        step.task.examples("train")
        if step.task.transfer:
            step.task.transfer.load()
        _fetch_encoder(step)


def _build_in_subprocess(planned: PlannedSystem, configuration: Configuration, log: Log) -> None:
    """Run `_main` in a process, log its lines, and raise its error."""
    training = replace(planned, task=planned.task.training_task)
    environment = {
        "OMP_WAIT_POLICY": "PASSIVE",  # PyTorch's threads would spend CPU time on waiting
        **os.environ,
        "GLIBC_TUNABLES": MALLOC_TUNABLES,
        "TOKENIZERS_PARALLELISM": "true",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",  # as NVML, see telemetry/gpu.py
    }
    reason = ""
    with (
        tempfile.TemporaryFile("w+") as stderr,
        subprocess.Popen(
            [sys.executable, "-m", "harness.build", configuration.name],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(BrokenPipeError):  # it ended early, and says why
            process.stdin.write(Plan((training,)).to_json())
            process.stdin.close()
        for line in process.stdout:
            message = json.loads(line)
            if "error" in message:
                reason = message["error"]
            elif "line" in message:
                log(message["line"])
            else:
                log(ProgressLine(**message))
        status = process.wait()
        stderr.seek(0)
        tail = stderr.read()[-800:].strip()
    if status:
        reason = reason or _explain_end(status, tail)
        is_written_by_user = not get_model_digest(planned.system.folder)
        raise BuildError(f"{planned.system.manifest}: {reason}" if is_written_by_user else reason)


def _explain_end(status: int, tail: str) -> str:
    """Return why a build process ended without an error of its own, and what to do.

    Args:
        status: its exit status; negative for the number of a signal.
        tail: the end of its error stream.
    """
    if status == -signal.SIGKILL:
        return (
            "the build process was killed, probably because the machine has too little memory. End "
            "other programs, or set a smaller max_length in the step that trains, then build "
            "again: what was finished is kept."
        )
    name = f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"
    return f"the build process ended with {name}. {tail}".rstrip()


def _main(configuration: str) -> int:
    """Build the plan that comes as JSON from standard input; print a JSON object for each line."""
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints goes to stderr, even parts of lines

    def send(**message: Any) -> None:
        print(json.dumps(message), file=channel, flush=True)

    def log(line: str) -> None:
        if isinstance(line, ProgressLine):
            send(text=line.text, done=line.done, seconds_left=line.seconds_left)
        else:
            send(line=line)

    try:
        plan = Plan.from_json(sys.stdin.read())
        build_in_this_process(plan, choose_configuration(configuration), log)
    except HarnessError as error:
        send(error=str(error))
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1]))
