"""Scores on the selection slice, and whether a student keeps enough of the teacher's."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot

from harness.errors import HarnessError
from harness.optimize.base import Artifact
from harness.results.statistics import INTERVAL_ERRORS
from harness.runner.accuracy import answer_rows
from harness.runner.system_run import RunContext, SystemRun
from harness.submissions.system import System
from harness.tasks.metrics import METRICS, compare
from harness.tasks.task import Task


@dataclass(frozen=True)
class SelectionScore:
    """The score of a system on the selection slice.

    Attributes:
        value: of the task's metric.
        se: its standard error.
        retained: its gain over the constant answer as a share of the teacher's.
        margin: its gain beyond the share of the teacher's gain that must be kept, less one standard
            error of that difference; zero or more if the system keeps enough. The error is as if
            one more example were answered rightly by one of the two alone (after Agresti & Min
            2005), so that a few examples on which both agree prove nothing.
        retained_low: the share that is kept, less one standard error.
    """

    value: float
    se: float
    retained: float
    margin: float
    retained_low: float

    @property
    def keeps_enough(self) -> bool:
        """Whether enough of the teacher's gain is kept, with one standard error to spare."""
        return self.margin >= 0


class Scorer:
    """Scores systems against a teacher on the selection slice.

    Args:
        task: the task.
        context: with the selection slice.
        keep: the share of the teacher's gain over the constant answer that a system must keep.
    """

    def __init__(self, task: Task, context: RunContext, keep: float) -> None:
        self._task, self._context, self._keep = task, context, keep
        self._metric = METRICS[task.metric]
        self._truths, self._groups = context.data.truths, context.data.groups
        grouped = [group for group in self._groups if group >= 0]
        self._units = len(self._groups) - len(grouped) + len(set(grouped))
        self.majority = self._metric.majority_value(self._truths)
        self._teacher: Sequence[int] = ()
        self.teacher_score: SelectionScore | None = None

    def set_teacher(self, system: System, artifact: Artifact) -> SelectionScore:
        """Answer the slice with the teacher.

        Raises:
            HarnessError: it is not better than the constant answer, so that there is nothing to
                keep.
        """
        self._teacher = self._answer(system, artifact)
        score = self._metric.score(self._teacher, self._truths, self._groups)
        if score.value - self.majority < score.se:
            raise HarnessError(
                f"{system.name} is not better than the constant answer on the selection slice of "
                f"{self._task.name} ({score.value:.4f} ± {score.se:.4f} against "
                f"{self.majority:.4f}), so there is nothing that a smaller model could keep. Train "
                "a better model first, and name it with --model."
            )
        self.teacher_score = self.score_answers(self._teacher)
        return self.teacher_score

    def score(self, system: System, artifact: Artifact) -> SelectionScore:
        """Answer the slice with a system, as it is served, and score it.

        Raises:
            HarnessError: the worker fails.
        """
        return self.score_answers(self._answer(system, artifact))

    def score_answers(self, answers: Sequence[int]) -> SelectionScore:
        """Score answers to the slice."""
        metric, truths, groups = self._metric, self._truths, self._groups
        score = metric.score(answers, truths, groups)
        teacher = metric.score(self._teacher, truths, groups)
        margin = compare(
            metric, answers, self._teacher, truths, groups, self.majority, self._keep
        ).floor_margin
        error = hypot((margin.high - margin.low) / INTERVAL_ERRORS, 1 / (self._units + 2))
        gain = teacher.value - self.majority
        return SelectionScore(
            score.value,
            score.se,
            (score.value - self.majority) / gain,
            margin.value - error,
            self._keep + (margin.value - error) / gain,
        )

    def _answer(self, system: System, artifact: Artifact) -> Sequence[int]:
        run = SystemRun(system, self._task, artifact, {})
        return answer_rows(run, range(len(self._truths)), self._context).answers
