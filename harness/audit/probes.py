"""Probes of a submission's answers, artifact and weights.

After MLPerf inference's compliance tests (Reddi et al. 2020, section V), adapted to classification.
"""

import math
import random
import time
from collections.abc import Sequence
from dataclasses import replace
from statistics import mean

from harness.audit import perturbations
from harness.audit.context import AuditContext, ProbeResult
from harness.audit.weights import find_foreign_matrices
from harness.runner.evaluate import load_system, start_worker
from harness.runner.system_run import SystemRun
from harness.store.cache import file_sha256
from harness.submissions.plan import plan_system
from harness.tasks.metrics import METRICS
from harness.tasks.task import Example

ODD_QUERY_SIZES = (1, 7, 64, 3, 256)

UNCHANGED_SHARE = 0.99
"""A system does not read the words if at least this share of its answers stays the same after every
word is replaced."""

REMAINING_GAIN = 0.5
"""Share of the gain over the majority class that must remain on lightly changed text."""

ACCURACY_DROP, MIN_TRAINING_EXAMPLES = 0.2, 20
"""How much lower the accuracy may be on training text than on the reported split (wrong labels in
the training split cost an honest model some of it), and from how many examples on it is judged."""

CLOSED_EXAMPLES = 300
CLOSED_AGREEMENT = 0.95


def probe_order(audit: AuditContext) -> ProbeResult:
    """Check that answers are the same in a shuffled order and in other batches."""
    rows = list(range(len(audit.examples)))
    random.Random(audit.seed + 1).shuffle(rows)
    with audit.start_worker() as worker:
        answers = audit.ask(worker, [audit.examples[row] for row in rows], ODD_QUERY_SIZES)
    return _compare_answers("order", audit, answers, rows, "in another order and in other batches")


def probe_single_queries(audit: AuditContext) -> ProbeResult:
    """Check that answers to single queries are those of the accuracy pass."""
    rows: list[int] = []
    answers: list[int] = []
    with audit.start_worker("single_stream") as worker:
        started = time.perf_counter()
        for row in audit.samples.order(seed=audit.seed + 2):
            answers += audit.ask(worker, [audit.examples[row]])
            rows.append(row)
            if time.perf_counter() - started > audit.timing.audit_queries:
                break
    return _compare_answers("timed", audit, answers, rows, "as single queries")


def _compare_answers(
    probe: str, audit: AuditContext, answers: Sequence[int], rows: Sequence[int], how: str
) -> ProbeResult:
    same = sum(audit.answers[row] == answer for row, answer in zip(rows, answers, strict=True))
    share, required = same / len(rows), audit.run.required_agreement
    text = f"{share:.2%} of the answers ({len(rows)}) are the same {how}; {required:.1%} must be"
    return ProbeResult(probe, share >= required, text)


def probe_text(audit: AuditContext) -> ProbeResult:
    """Check that answers depend on the words, not only on the length."""
    if len(set(audit.answers)) == 1:
        text = f"constant: all {len(audit.answers)} answers are {audit.answers[0]}"
        return ProbeResult("text", False, text)
    changed = perturbations.replace_words(audit.examples, audit.context.data.examples, audit.seed)
    with audit.start_worker() as worker:
        answers = audit.ask(worker, changed)
    pairs = zip(audit.answers, answers, strict=True)
    same = sum(before == after for before, after in pairs) / len(answers)
    text = f"{1 - same:.1%} of the answers change when every word is another of the same length"
    passed = same < UNCHANGED_SHARE
    return ProbeResult("text", passed, text if passed else f"length-only: {text}")


def probe_perturbed_text(audit: AuditContext) -> ProbeResult:
    """Check that the score does not collapse on lightly changed text."""
    metric = METRICS[audit.run.task.metric]
    truths = [example.truth for example in audit.examples]
    groups = [example.group for example in audit.examples]
    score, majority = metric.score(audit.answers, truths, groups), metric.majority_value(truths)
    changed = perturbations.perturb(audit.examples, audit.seed)
    with audit.start_worker() as worker:
        answers = audit.ask(worker, changed)
    value = metric.score(answers, truths, groups).value
    text = (
        f"{audit.run.task.metric} {score.value:.4f}, with other capitals, spaces and punctuation "
        f"{value:.4f}, majority {majority:.4f}"
    )
    if score.value - majority < 2 * score.se:
        return ProbeResult("perturbed", None, f"{text}: too little above the majority to tell")
    passed = (value - majority) / (score.value - majority) >= REMAINING_GAIN
    reason = "" if passed else "; memorised answers look like this"
    return ProbeResult("perturbed", passed, text + reason)


def probe_training_text(audit: AuditContext) -> ProbeResult:
    """Check that labelled text of another split is answered about as well as the reported one.

    A system that memorised the reported split, also to within small changes, does not know the
    other. Labels count as often as in the reported split.
    """
    examples = audit.run.task.training_task.examples("train")
    count = min(len(examples), len(audit.examples))
    picked = sorted(random.Random(audit.seed).sample(range(len(examples)), count))
    sample = [examples[row] for row in picked]
    if len(sample) < MIN_TRAINING_EXAMPLES:
        text = f"too few training examples to tell: {len(sample)}"
        return ProbeResult("training", None, text)
    with audit.start_worker() as worker:
        training_answers = audit.ask(worker, sample)
    return compare_splits(audit.answers, audit.examples, training_answers, sample)


def compare_splits(
    answers: Sequence[int],
    reported: Sequence[Example],
    training_answers: Sequence[int],
    sample: Sequence[Example],
) -> ProbeResult:
    """Return the result of the probe `training`.

    Args:
        answers: to the reported split.
        reported: examples of the reported split.
        training_answers: to the sample.
        sample: examples of the training split.
    """
    reported_right = _group_by_label(answers, reported)
    training_right = _group_by_label(training_answers, sample)
    labels = reported_right.keys() & training_right.keys()
    total = sum(len(reported_right[label]) for label in labels)
    drop, variance = 0.0, 0.0
    for label in labels:
        weight = len(reported_right[label]) / total
        drop += weight * (mean(reported_right[label]) - mean(training_right[label]))
        for right in (reported_right[label], training_right[label]):
            share = (sum(right) + 1) / (len(right) + 2)  # as if one more were right, one more wrong
            variance += weight**2 * share * (1 - share) / len(right)
    training_share, reported_share = (
        mean(is_right for right in split.values() for is_right in right)
        for split in (training_right, reported_right)
    )
    text = (
        f"{training_share:.1%} right on {len(sample)} examples of the training split, "
        f"{reported_share:.1%} on {len(reported)} of the reported one"
    )
    if not labels:
        return ProbeResult("training", None, f"{text}; they have no label in common")
    failed = drop > ACCURACY_DROP and drop > 3 * math.sqrt(variance)
    reason = "; a memorised split looks like this" if failed else ""
    return ProbeResult("training", not failed, text + reason)


def _group_by_label(answers: Sequence[int], examples: Sequence[Example]) -> dict[int, list[bool]]:
    """Return whether each answer is right, whatever the task's metric, by label.

    Examples with several candidates, whose answer is a choice, are one group.
    """
    right: dict[int, list[bool]] = {}
    for answer, example in zip(answers, examples, strict=True):
        label = example.label if len(example.candidates) == 1 else -1
        right.setdefault(label, []).append(answer in (example.right or (example.label,)))
    return right


def probe_closed_division(audit: AuditContext) -> ProbeResult | None:
    """Check in the closed division that weights and answers are those of the teacher."""
    system, task = audit.run.system, audit.run.task
    if system.division != "closed":
        return None
    teacher = system.teacher
    assert teacher is not None, "a closed submission without a teacher is refused earlier"
    artifact = plan_system(teacher, task, audit.seed).find_artifact()
    if artifact is None or audit.run.artifact is None:
        return ProbeResult("closed", None, "there is no artifact to compare")
    unpadded = {name: replace(serve, padding="longest") for name, serve in teacher.serve.items()}
    teacher_run = SystemRun(replace(teacher, serve=unpadded), task, artifact, {})
    examples = audit.examples[:CLOSED_EXAMPLES]
    with start_worker(teacher_run, audit.context) as worker:
        load_system(worker, teacher_run, "offline", audit.context)
        answers = audit.ask(worker, examples)
    pairs = zip(audit.answers[:CLOSED_EXAMPLES], answers, strict=True)
    share = sum(answer == teacher_answer for answer, teacher_answer in pairs) / len(examples)
    text = f"{share:.1%} of {len(examples)} answers are those of {teacher.name}"
    if share < CLOSED_AGREEMENT:
        return ProbeResult("closed", False, f"{text}; {CLOSED_AGREEMENT:.0%} must be")
    foreign, count = find_foreign_matrices(audit.run.artifact.folder, artifact.folder)
    if foreign:
        names = ", ".join(foreign[:3])
        text += f"; {len(foreign)} of {count} matrices do not match {teacher.name}: {names}"
        return ProbeResult("closed", False, text)
    if not count:
        return ProbeResult("closed", None, f"{text}; the weights have an unknown format")
    return ProbeResult("closed", True, f"{text}; so are all {count} matrices")


def probe_artifact(run: SystemRun, planned: str) -> ProbeResult:
    """Check that the artifact is the one that the manifest builds, unchanged since.

    Args:
        run: the system with its artifact.
        planned: the key of the artifact that the manifest builds.
    """
    if run.artifact is None:
        return ProbeResult("artifact", None, "the recipe writes no artifact")
    key = run.artifact.key
    if key != planned:
        text = f"its key is {key[:12]}, but the manifest builds {planned[:12]}; build it again"
        return ProbeResult("artifact", False, text)
    sha256_by_name = run.artifact.metadata.files
    if not sha256_by_name:
        text = "built by a version that did not store the sha256 of its files; build it again"
        return ProbeResult("artifact", None, text)
    folder = run.artifact.folder
    files = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    del files["artifact.json"]
    changed = sorted(files.keys() ^ sha256_by_name.keys())
    changed += [
        name
        for name in sorted(files.keys() & sha256_by_name.keys())
        if file_sha256(files[name]) != sha256_by_name[name]
    ]
    if changed:
        text = (
            f"{folder} changed since it was built: {', '.join(changed)}; remove it and build again"
        )
        return ProbeResult("artifact", False, text)
    return ProbeResult("artifact", True, f"{key[:12]}, as the manifest builds it")
