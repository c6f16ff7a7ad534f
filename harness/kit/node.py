"""One session of a kit, on the machine that measures: `python -m harness.kit.node KIT NUMBER`."""

import signal
import sys
import time
from pathlib import Path

from harness.build import build_missing
from harness.errors import BuildError, HarnessError
from harness.kit.kit import DATA, RESULTS, Kit, KitSession
from harness.progress import Log, ProgressLine
from harness.runner.config import SMOKE, RunConfig
from harness.runner.prerequisites import find_obstacle, find_system_obstacle
from harness.runner.session import measure
from harness.submissions.lookup import add_references, get_system
from harness.submissions.plan import Plan, PlannedSystem, make_plan
from harness.submissions.project import find_project
from harness.tasks.registry import get_suite, get_task
from harness.telemetry.configuration import Configuration, choose_configuration, configurations
from harness.telemetry.gpu import find_gpu

PROGRESS_SECONDS = 20.0


class PlainLog:
    """Prints lines, and one of progress every `PROGRESS_SECONDS` at most."""

    def __init__(self) -> None:
        self._printed = -PROGRESS_SECONDS

    def __call__(self, line: str) -> None:
        """Print a line."""
        if isinstance(line, ProgressLine):
            if time.monotonic() - self._printed < PROGRESS_SECONDS:
                return
            self._printed = time.monotonic()
        print(line, flush=True)


def measure_session(kit: Kit, session: KitSession, folder: Path, log: Log) -> str:
    """Build what a session lacks, and measure it.

    A system that cannot be built or served here is left off, and logged with the reason.

    Args:
        kit: the kit.
        session: one of its sessions.
        folder: the unpacked kit.
        log: takes lines of progress.

    Returns:
        The name of the session.

    Raises:
        HarnessError: the configuration does not fit, or a reference cannot be built or measured.
    """
    configuration = choose_configuration(session.configuration)
    suite, root = get_suite(kit.suite), find_project()
    address = session.task
    task = get_task(str(folder / DATA / address) if address.endswith(".toml") else address)
    named = [get_system(name, root) for name in session.systems]
    plan = make_plan(add_references(named, suite, root), [task], kit.seed, points=())
    required = (suite.reference, suite.unpadded_reference)
    kept = []
    for planned in plan.systems:
        if reason := _build(planned, kit, configuration, log):
            if planned.system.name in required:
                raise HarnessError(f"{planned.system.name}: {reason}")
            log(f"left off: {planned.system.name}: {reason}")
        else:
            kept.append(planned)
    timing = SMOKE if kit.smoke else RunConfig.timing
    config = RunConfig(blocks=kit.rounds, timing=timing)
    return measure(Plan(tuple(kept)), suite, configuration, folder / RESULTS, config, log)


def _build(planned: PlannedSystem, kit: Kit, configuration: Configuration, log: Log) -> str:
    """Build a system if it is not built; return why it cannot be built or served, or ''."""
    gpu = find_gpu() if configuration.device == "gpu" else None
    if gpu and (obstacle := find_system_obstacle(planned, gpu)):
        return obstacle
    plan = Plan((planned,))
    *others, last = _list_build_configurations(kit, configuration)
    for other in others:
        try:
            build_missing(plan, other, log)
        except BuildError as error:
            log(f"not built under {other.name}: {error}")
    try:
        build_missing(plan, last, log)
    except BuildError as error:
        return str(error)
    return ""


def _list_build_configurations(kit: Kit, configuration: Configuration) -> list[Configuration]:
    """Return what a system is built under, the fastest first, until it is built.

    That is the kit's GPU configuration if this machine has its GPU, then the largest for CPUs. What
    is built does not depend on the configuration, so that sessions share it.
    """
    gpu, known = find_gpu(), configurations()
    if gpu is None or find_obstacle(gpu, "pytorch"):
        return [configuration]
    names = dict.fromkeys(session.configuration for session in kit.sessions)
    on_gpu = [known[name] for name in names if known[name].device == "gpu"]
    fitting = [candidate for candidate in on_gpu if not candidate.find_misfit()]
    return [*fitting[:1], choose_configuration()]


def main(folder: str, number: str) -> int:
    """Measure one session; return the exit status."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    kit = Kit.read(Path(folder))
    try:
        log = PlainLog()
        session = measure_session(kit, kit.sessions[int(number)], Path(folder), log)
    except HarnessError as error:
        print(f"kit: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    print(f"measured: session {session}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
