"""Whether a submission answers as it was measured to answer, and from the text: `wattbench audit`.

After MLPerf inference's compliance tests (Reddi et al. 2020, section V), fitted to classification.
Every probe asks fresh workers, in the same sandbox as in a session. RULES.md says what follows.
"""

import glob
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean

from harness.audit import perturbations
from harness.audit.carried import carried
from harness.audit.context import AuditContext, ProbeResult
from harness.audit.repeats import repeats
from harness.audit.weights import foreign
from harness.errors import HarnessError, WorkerError
from harness.results import record
from harness.results.record import Timing
from harness.runner.config import RunConfig
from harness.runner.evaluate import (
    EvalData,
    RunContext,
    SystemRun,
    has_custom_code,
    load_system,
    start_worker,
)
from harness.store.cache import file_sha256
from harness.submissions.manifest import System, find_systems, read_system
from harness.submissions.plan import find_artifact, plan_build
from harness.tasks.metrics import METRICS
from harness.tasks.task import Example, Task
from harness.telemetry.configuration import Configuration
from harness.telemetry.energy import Meter
from harness.worker import sandbox

ALIKE = 0.99
"""Share of answers that stay though all words are others: of a system that does not read them."""

KEPT = 0.5
"""Share of the gain over the majority class that must be left on lightly changed text."""

FAR_BELOW, FEWEST = 0.2, 20
"""By how much less may be right on training text than on the reported split; training examples from
which on that tells something. Wrong labels in the training split cost an honest model some of it.
"""

CLOSED_AGREEMENT = 0.95


def audit(
    system: System, task: Task, setting: RunContext, root: Path, seed: int
) -> Iterator[ProbeResult]:
    """One finding a probe; a worker that fails ends in one, too.

    Raises: HarnessError if the system is not built, or does not declare the task.
    """
    if not system.declares_task(task):
        raise HarnessError(f"{system.name} does not declare {task.name}. Add it to its `tasks`.")
    row = SystemRun(system, task, find_artifact(system, task, seed, root), {})
    yield _artifact(row, root, seed)
    try:
        it = AuditContext(row, setting, root, seed)
    except WorkerError as error:
        yield ProbeResult("answers", False, str(error))
        return
    for probe in PROBES:
        try:
            found = probe(it)
        except WorkerError as error:
            found = ProbeResult(probe.__name__, False, str(error))
        if found is not None:
            yield found


def audit_here(
    system: System,
    task: Task,
    configuration: Configuration,
    root: Path,
    seed: int,
    config: RunConfig = RunConfig(),
    log: Callable[[str], None] = print,
) -> list[ProbeResult]:
    """The same, with a meter of its own; says each finding. Of `config`, `isolation` and `timing`
    are used.
    """
    kind = sandbox.choose_isolation(
        config.isolation, [system.name] if has_custom_code(system) else [], log
    )
    return _audit_isolated(system, task, configuration, root, seed, kind, config.timing, log)


def _audit_isolated(
    system: System,
    task: Task,
    configuration: Configuration,
    root: Path,
    seed: int,
    kind: str,
    timing: Timing,
    log: Callable[[str], None],
) -> list[ProbeResult]:
    """kind: one of `sandbox.KINDS`."""
    meter = Meter(configuration)
    log(f"audit of {system.name} on {task.name} ({configuration.name}, isolation: {kind})")
    found = []
    try:
        material = EvalData.of(task)
        setting = RunContext(material, configuration, meter, isolation=kind, timing=timing)
        for finding in audit(system, task, setting, root, seed):
            log(str(finding))
            found.append(finding)
    finally:
        meter.close()
    return found


def audit_session(
    systems: Sequence[System],
    tasks: Sequence[Task],
    configuration: Configuration,
    root: Path,
    seed: int,
    timing: Timing,
    session: Path,
    log: Callable[[str], None] = print,
) -> None:
    """Audit every submission that a session measured, isolated as it was there, and state in its
    records what was found.

    session: the folder of its records.
    """
    for task in tasks:
        for system in systems:
            paths = sorted(session.glob(f"{task.name}/*/{glob.escape(system.name)}.json"))
            first = record.read_record(paths[0]) if paths else None
            if system.folder.parent.name == "baselines" or first is None or first.failure:
                continue
            kind = str(first.machine["isolation"])
            found = _audit_isolated(system, task, configuration, root, seed, kind, timing, log)
            stated = {
                "passed": all(each.passed is not False for each in found),
                "probes": {each.probe: str(each).partition(": ")[2] for each in found},
                "failed": [each.probe for each in found if each.passed is False],
            }
            for path in paths:
                it = replace(record.read_record(path), audit=stated)
                record.write_record(it, record.read_side(path), session.parent)


def order(it: AuditContext) -> ProbeResult:
    """Same answers in a shuffled order and in other batches."""
    rows = list(range(len(it.examples)))
    random.Random(it.seed + 1).shuffle(rows)
    with it.worker() as worker:
        given = it.ask(worker, [it.examples[row] for row in rows], [1, 7, 64, 3, 256])
    return _same("order", it, given, rows, "in another order and in other batches")


def timed(it: AuditContext) -> ProbeResult:
    """Same answers to single queries as in the accuracy pass."""
    rows: list[int] = []
    given: list[int] = []
    with it.worker("single_stream") as worker:
        started = time.perf_counter()
        for row in it.questions.order(seed=it.seed + 2):
            given += it.ask(worker, [it.examples[row]], [1])
            rows.append(row)
            if time.perf_counter() - started > it.timing.audit_queries:
                break
    return _same("timed", it, given, rows, "as single queries")


def _same(probe: str, it: AuditContext, given: list[int], rows: list[int], how: str) -> ProbeResult:
    share = sum(it.answers[row] == each for row, each in zip(rows, given, strict=True)) / len(rows)
    needed = it.row.agreement_needed
    text = f"{share:.2%} of {len(rows)} answers are the same {how}; {needed:.1%} must be"
    return ProbeResult(probe, share >= needed, text)


def text(it: AuditContext) -> ProbeResult:
    """Answers change with the words, not only with the length."""
    if len(set(it.answers)) == 1:
        return ProbeResult(
            "text", False, f"constant: all {len(it.answers)} answers are {it.answers[0]}"
        )
    other = perturbations.replaced(it.examples, it.setting.material.examples, it.seed)
    with it.worker() as worker:
        given = it.ask(worker, other, [4096])
    same = sum(one == two for one, two in zip(it.answers, given, strict=True)) / len(given)
    said = f"{1 - same:.1%} of the answers change when every word is another of the same length"
    return ProbeResult("text", same < ALIKE, said if same < ALIKE else f"length-only: {said}")


def perturbed(it: AuditContext) -> ProbeResult:
    """Accuracy on lightly changed text does not fall off a cliff."""
    metric = METRICS[it.row.task.metric]
    truths, groups = [each.truth for each in it.examples], [each.group for each in it.examples]
    score, majority = metric.score(it.answers, truths, groups), metric.majority(truths)
    with it.worker() as worker:
        given = it.ask(worker, perturbations.perturbed(it.examples, it.seed), [4096])
    changed = metric.score(given, truths, groups).value
    said = (
        f"{it.row.task.metric} {score.value:.4f}, with other capitals, spaces and punctuation "
        f"{changed:.4f}, majority {majority:.4f}"
    )
    if score.value - majority < 2 * score.se:
        return ProbeResult("perturbed", None, f"{said}: too little above the majority to tell")
    kept = (changed - majority) / (score.value - majority)
    fault = "; that is what memorised answers look like" if kept < KEPT else ""
    return ProbeResult("perturbed", kept >= KEPT, said + fault)


def training(it: AuditContext) -> ProbeResult:
    """Labelled text of another split is answered about as well as the reported one.

    Whoever learned the reported split by heart, also to within small changes, does not know it.
    Labels count as often as in the reported split.
    """
    examples = it.row.task.training_task.examples("train")
    chance = random.Random(it.seed)
    picked = sorted(chance.sample(range(len(examples)), min(len(examples), len(it.examples))))
    sample = [examples[row] for row in picked]
    if len(sample) < FEWEST:
        return ProbeResult(
            "training", None, f"only {len(sample)} training examples: too few to tell"
        )
    with it.worker() as worker:
        training_answers = it.ask(worker, sample, [4096])
    return compare_splits(it.answers, it.examples, training_answers, sample)


def compare_splits(
    answers: Sequence[int],
    reported: Sequence[Example],
    training_answers: Sequence[int],
    sample: Sequence[Example],
) -> ProbeResult:
    """The finding of `training`.

    Args:
        answers: to the reported split.
        reported: examples of the reported split.
        training_answers: to the sample.
        sample: examples of the training split.
    """
    own, other = _right(answers, reported), _right(training_answers, sample)
    shared = own.keys() & other.keys()
    whole = sum(len(own[label]) for label in shared)
    lost, variance = 0.0, 0.0
    for label in shared:
        weight = len(own[label]) / whole
        lost += weight * (mean(own[label]) - mean(other[label]))
        for right in (own[label], other[label]):  # as if one more were right and one more wrong
            share = (sum(right) + 1) / (len(right) + 2)
            variance += weight**2 * share * (1 - share) / len(right)
    shares = [mean(each for right in split.values() for each in right) for split in (other, own)]
    message = (
        f"{shares[0]:.1%} right on {len(sample)} examples of the training split, {shares[1]:.1%} "
        f"on {len(reported)} of the reported one"
    )
    if not shared:
        return ProbeResult("training", None, f"{message}; they have no label in common")
    failed = lost > FAR_BELOW and lost > 3 * math.sqrt(variance)
    fault = "; that is what a memorised split looks like" if failed else ""
    return ProbeResult("training", not failed, message + fault)


def _right(answers: Sequence[int], examples: Sequence[Example]) -> dict[int, list[bool]]:
    """Whether each answer is right, whatever the task's metric, by label; where a choice is scored,
    all together.
    """
    right: dict[int, list[bool]] = {}
    for answer, each in zip(answers, examples, strict=True):
        label = each.label if len(each.candidates) == 1 else -1
        right.setdefault(label, []).append(answer in (each.right or (each.label,)))
    return right


def closed(it: AuditContext) -> ProbeResult | None:
    """In the closed division the weights are the teacher's, and so are the answers."""
    system = it.row.system
    if system.division != "closed":
        return None
    teacher = read_system(find_systems(it.root)[system.teacher], it.root)
    served = {name: replace(each, padding="longest") for name, each in teacher.serve.items()}
    own = find_artifact(teacher, it.row.task, it.seed, it.root)
    if own is None or it.row.artifact is None:
        return ProbeResult("closed", None, "there is no artifact to compare")
    other = SystemRun(replace(teacher, serve=served), it.row.task, own, {})
    with start_worker(other, it.setting) as worker:
        load_system(worker, other, "offline", it.setting)
        few = range(min(len(it.examples), 300))
        given = it.ask(worker, [it.examples[row] for row in few], [4096])
    share = sum(it.answers[row] == each for row, each in zip(few, given, strict=True)) / len(few)
    wrong, count = foreign(it.row.artifact.folder, own.folder)
    said = f"{share:.1%} of {len(few)} answers are those of {teacher.name}"
    if share < CLOSED_AGREEMENT:
        return ProbeResult("closed", False, f"{said}; {CLOSED_AGREEMENT:.0%} must be")
    if wrong:
        some = ", ".join(wrong[:3])
        return ProbeResult(
            "closed", False, f"{said}; {len(wrong)} of {count} matrices are not its: {some}"
        )
    if not count:
        return ProbeResult("closed", None, f"{said}; the weights' format is not known here")
    return ProbeResult("closed", True, f"{said}; so are all {count} matrices")


def _artifact(row: SystemRun, root: Path, seed: int) -> ProbeResult:
    """The artifact is the one that the manifest builds, and nobody changed it since."""
    steps = plan_build(row.system, row.task, seed, root)
    if row.artifact is None or not steps:
        return ProbeResult("artifact", None, "the recipe leaves none")
    if row.artifact.key != steps[-1].key:
        return ProbeResult(
            "artifact", False, f"it says {row.artifact.key[:12]}, the manifest {steps[-1].key[:12]}"
        )
    kept = row.artifact.about.get("files")
    if not kept:
        return ProbeResult(
            "artifact", None, "built before the files' sha256 were kept; build it anew"
        )
    folder = row.artifact.folder
    real = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    del real["artifact.json"]
    changed = sorted(set(real) ^ set(kept))
    changed += sorted(
        name for name in set(real) & set(kept) if file_sha256(real[name]) != kept[name]
    )
    if changed:
        return ProbeResult("artifact", False, f"changed since it was built: {', '.join(changed)}")
    return ProbeResult("artifact", True, f"{row.artifact.key[:12]}, as the manifest builds it")


PROBES: tuple[Callable[[AuditContext], ProbeResult | None], ...] = (
    order,
    timed,
    repeats,
    text,
    perturbed,
    training,
    carried,
    closed,
)
