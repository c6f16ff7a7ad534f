"""Packing a kit: which files it needs, and where they lie in it."""

import importlib.metadata
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import harness
from harness.errors import HarnessError
from harness.kit.archive import KitArchive
from harness.kit.kit import CODE, DATA, KIT_FILE, Kit, KitSession
from harness.kit.packages import Target, collect_wheels, find_requirements
from harness.kit.weights import round_encoder
from harness.models import pretrained
from harness.optimize.base import get_step
from harness.progress import Log
from harness.store import bundled_weights
from harness.store.cache import artifact_dir, cache_dir
from harness.submissions.plan import Plan, PlannedEncoder, PlannedStep
from harness.submissions.system import System
from harness.tasks.task import Task
from harness.telemetry.machine import get_revision

PACKAGE = Path(harness.__file__).parent
START = Path(__file__).parent / "start.py"
LEFT_OUT = ("bundled", "revision.txt")
"""What the package may hold that a kit brings in another form."""

Precision = Literal["fp32", "fp16"]


@dataclass(frozen=True)
class PackedSession:
    """A session that the kit is to measure.

    Attributes:
        configuration: its name.
        task: the task.
        plan: the systems, the references among them.
    """

    configuration: str
    task: Task
    plan: Plan


@dataclass(frozen=True)
class PackConfig:
    """How a kit is packed.

    Attributes:
        suite: names the references.
        minutes: time limit on the other machine.
        rounds: blocks of each session.
        seed: training seed.
        smoke: whether windows are short.
        precision: of the start weights.
        examples: by the name of a task, the largest number of rows of its training file.
        with_artifacts: whether what is built here is packed, so that nothing is trained there.
        target: the other machine.
        max_mib: the largest size of the archive; 0 for no limit.
    """

    suite: str
    minutes: float
    rounds: int
    target: Target
    seed: int = 0
    smoke: bool = False
    precision: Precision = "fp32"
    examples: Mapping[str, int] = field(default_factory=dict)
    with_artifacts: bool = False
    max_mib: float = 0.0


def write_kit(
    sessions: Sequence[PackedSession], config: PackConfig, out: Path, log: Log
) -> dict[str, int]:
    """Write a kit, completely or not at all.

    Args:
        sessions: what it measures, in this order.
        config: how it is packed.
        out: the archive.
        log: takes lines of progress.

    Returns:
        The size of each part in bytes.

    Raises:
        HarnessError: something cannot be packed, or the archive is too large.
    """
    plan = Plan(tuple(planned for session in sessions for planned in session.plan.systems))
    _check_artifacts(plan, config)
    archive = KitArchive(out)
    try:
        with tempfile.TemporaryDirectory() as temporary:
            scratch = Path(temporary)
            addresses = _add_data(archive, sessions, config, scratch)
            renamed = _add_encoders(archive, plan, config, scratch)
            _add_code(archive, plan, renamed)
            if config.with_artifacts:
                for key in sorted(_find_artifacts(plan)):
                    archive.add_folder("artifacts", artifact_dir(key), f"cache/artifacts/{key}")
            requirements = find_requirements(plan, config.target)
            log("packages: searching what the other machine lacks")
            wheels = scratch / "wheels"
            wheels.mkdir()
            for wheel in collect_wheels(requirements, config.target, wheels, log):
                archive.add_file("packages", wheel, f"wheels/{wheel.name}")
            kit = Kit(
                wattbench=importlib.metadata.version("wattbench"),
                python=config.target.python,
                machine=config.target.machine,
                requirements=tuple(f"{need.name}{need.specifier}" for need in requirements),
                suite=config.suite,
                sessions=tuple(_describe_session(session, addresses) for session in sessions),
                minutes=config.minutes,
                rounds=config.rounds,
                seed=config.seed,
                smoke=config.smoke,
            )
        archive.add_text("code", kit.model_dump_json(indent=1), KIT_FILE)
        archive.add_file("code", START, "__main__.py")
        archive.finish(config.max_mib)
    finally:
        archive.discard()
    return archive.sizes


def _describe_session(session: PackedSession, addresses: Mapping[str, str]) -> KitSession:
    systems = tuple(planned.system.name for planned in session.plan.systems)
    return KitSession(
        configuration=session.configuration,
        task=addresses[session.task.address],
        systems=systems,
    )


def _check_artifacts(plan: Plan, config: PackConfig) -> None:
    if not config.with_artifacts:
        return
    if config.precision != "fp32" or config.examples:
        raise HarnessError(
            "--with-artifacts packs what is built here, from all data and the weights in fp32. "
            "Leave it out, or --precision and --examples."
        )
    for planned in plan.systems:
        planned.find_artifact()  # says how to build it


def _add_data(
    archive: KitArchive, sessions: Sequence[PackedSession], config: PackConfig, scratch: Path
) -> dict[str, str]:
    """Add the data of all tasks; return the address of each in the kit, by its address here."""
    tasks = {session.task.address: session.task for session in sessions}
    plans = [planned for session in sessions for planned in session.plan.systems]
    trained_on = {step.task.address: step.task for plan in plans for step in plan.steps}
    names = {task.name for task in trained_on.values()}
    if unknown := [name for name in config.examples if name not in names]:
        raise HarnessError(
            f"--examples {unknown[0]}: the kit has no such training data, only that of "
            f"{', '.join(sorted(names))}."
        )
    data = scratch / DATA
    addresses = {}
    for address, task in (trained_on | tasks).items():
        if task.pack is None:
            raise HarnessError(
                f"task {task.name!r} comes from a package that does not say how its data is "
                "packed (`Task.pack`). Declare it by a task.toml instead."
            )
        addresses[address] = task.pack(data, config.examples.get(task.name, 0))
    archive.add_folder("data", data, DATA)
    return addresses


def _add_encoders(
    archive: KitArchive, plan: Plan, config: PackConfig, scratch: Path
) -> dict[PlannedEncoder, str]:
    """Add the start weights that are trained from.

    Returns:
        The folder of each encoder that is not found there under its own name, from a folder of a
        system.
    """
    packed = _find_artifacts(plan) if config.with_artifacts else set()
    renamed = {}
    for encoder in _find_encoders(plan, packed):
        if encoder.name.startswith(bundled_weights.PREFIX):
            folder = bundled_weights.fetch(encoder.name, encoder.base)
            relative = folder.relative_to(cache_dir())
            archive.add_folder("start weights", folder, f"cache/{relative}")
            continue
        folder = pretrained.fetch(encoder.name, encoder.base).folder
        name = encoder.name if pretrained.is_pinned(encoder.name) else folder.name
        name = name.rpartition("/")[2]
        if config.precision == "fp16":
            rounded = scratch / "encoders" / f"{name}-fp16"
            if not rounded.exists():
                round_encoder(folder, rounded)
                archive.add_folder("start weights", rounded, f"{CODE}/encoders/{rounded.name}")
            renamed[encoder] = f"../../encoders/{rounded.name}"
        elif pretrained.is_pinned(encoder.name):
            source = pretrained.ENCODERS[name]
            if not (scratch / "encoders" / source.name).exists():
                source.copy_to(scratch / "encoders")
                target = f"{DATA}/{source.name}"
                archive.add_folder("start weights", scratch / "encoders" / source.name, target)
        elif not folder.is_relative_to(encoder.base.resolve()):
            archive.add_folder("start weights", folder, f"{CODE}/encoders/{name}")
            renamed[encoder] = f"../../encoders/{name}"
    return renamed


def _find_encoders(plan: Plan, packed: set[str]) -> list[PlannedEncoder]:
    """Return what steps start from whose artifacts, and what follows from them, are not packed."""
    done = set(packed)
    for planned in plan.systems:
        if planned.key in packed:
            done |= {step.key for step in planned.steps}
    encoders = [step.encoder for step in plan.steps.values() if step.key not in done]
    return [encoder for encoder in dict.fromkeys(encoders) if encoder]


def _find_artifacts(plan: Plan) -> set[str]:
    """Return the keys of the artifacts with which nothing is trained on another machine.

    They are those of the systems and, where the machine's instruction set is part of a key, those
    that this step is applied to.
    """
    steps = plan.steps
    keys = set()
    for planned in plan.systems:
        step: PlannedStep | None = planned.steps[-1] if planned.steps else None
        while step is not None:
            keys.add(step.key)
            keys |= {member.key for member in step.members}
            depends = get_step(step.use).target(None) != ""
            step = steps.get(step.parent) if depends else None
    return keys


def _add_code(archive: KitArchive, plan: Plan, renamed: Mapping[PlannedEncoder, str]) -> None:
    """Add the package, with its version and revision, and the folders of the systems."""
    for path in sorted(PACKAGE.rglob("*")):
        name = path.relative_to(PACKAGE)
        if path.is_file() and "__pycache__" not in name.parts and name.parts[0] not in LEFT_OUT:
            archive.add_file("code", path, f"{CODE}/{PACKAGE.name}/{name}")
    revision = get_revision(PACKAGE / "telemetry" / "machine.py")
    archive.add_text("code", revision, f"{CODE}/{PACKAGE.name}/revision.txt")
    version = importlib.metadata.version("wattbench")
    distribution = importlib.metadata.distribution("wattbench")
    # a checkout with an egg-info folder has PKG-INFO instead
    metadata = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
    archive.add_text("code", metadata, f"{CODE}/wattbench-{version}.dist-info/METADATA")
    for folder in ("baselines", "submissions"):  # a folder with both is a project
        archive.add_text("code", "", f"{CODE}/{folder}/")
    for system in {
        system.name: system for planned in plan.systems for system in _expand(planned.system)
    }.values():
        _add_system(archive, system, renamed)


def _expand(system: System) -> Iterator[System]:
    """Yield a system, and its teacher and members with theirs."""
    yield system
    for other in filter(None, (system.teacher, *system.members)):
        yield from _expand(other)


def _add_system(archive: KitArchive, system: System, renamed: Mapping[PlannedEncoder, str]) -> None:
    parent = "baselines" if system.folder.resolve().parent.name == "baselines" else "submissions"
    names = {
        encoder.name: path for encoder, path in renamed.items() if encoder.base == system.folder
    }
    for path in sorted(system.folder.rglob("*")):
        if not path.is_file() or "__pycache__" in path.parts:
            continue
        name = f"{CODE}/{parent}/{system.folder.name}/{path.relative_to(system.folder)}"
        if path.name == "submission.toml" and names:
            archive.add_text("code", _replace_encoders(path.read_text(), names), name)
        else:
            archive.add_file("code", path, name)


def _replace_encoders(manifest: str, names: Mapping[str, str]) -> str:
    """Return a manifest that names its encoders' folders in the kit."""

    def replace(match: re.Match[str]) -> str:
        name = match["double"] or match["single"]
        return f'{match["key"]}"{names[name]}"' if name in names else match[0]

    keys = r"(?m)^(?P<key>\s*(?:pretrained|checkpoint|student)\s*=\s*)"
    value = r"""(?:"(?P<double>[^"\n]*)"|'(?P<single>[^'\n]*)')"""
    return re.sub(keys + value, replace, manifest)
