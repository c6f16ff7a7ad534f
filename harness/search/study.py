"""Which student to train next, and for how long: Optuna's TPE (Bergstra et al. 2011) with
successive halving (Jamieson & Talwalkar 2016).

A student is worth the logarithm of its speed, less a penalty if it does not keep enough of the
teacher's score. Its speed is known before it is trained, so a student that is not faster than one
that keeps enough is never trained. All state is in a journal file, from which a killed search goes
on.
"""

import logging
import math
import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.optimize.training.schedule import Schedule
from harness.search.candidate import Training
from harness.search.space import Space

FIRST_TRIALS = (0.5, 0.25, 0.75)
"""Where the first students lie between the fastest (0) and the slowest (1); they are trained in the
usual way, so that the sampler starts with an overview."""

REDUCTION = 3
"""One in so many students is trained again for longer."""

REPEATS = 20
"""How often the sampler is asked for something that was not tried."""

PENALTY = 60.0
"""Factors of two of speed that a student loses for each unit of the score that it lacks: 0.017 cost
as much as half of the speed. Training for three times as long brought 0.008 on `sentiment`, so what
lacks much more will not get there, however fast it is."""


@dataclass(frozen=True)
class Choice:
    """A student and how it is trained.

    Attributes:
        index: of the student, counted from the fastest.
        augment: augmented copies of the text.
        temperature: of the distillation.
        learning_rate: the peak.
    """

    index: int
    augment: int
    temperature: float
    learning_rate: float

    def make_training(self, epochs: int) -> Training:
        """Return the training for a number of epochs."""
        return Training(epochs, self.augment, self.temperature, self.learning_rate)


@dataclass(frozen=True)
class Proposal:
    """What is to be trained next, as a trial of Optuna's."""

    trial: Any
    choice: Choice


class Study:
    """Proposes students, and learns from their results.

    Args:
        journal: the file of the study; it may exist.
        name: of the study in the file; it is to depend on all that changes the meaning of results.
        space: what trainings are tried.
        students: the number of students.
        seed: of the sampler.

    Raises:
        HarnessError: Optuna is not installed.
    """

    def __init__(self, journal: Path, name: str, space: Space, students: int, seed: int) -> None:
        try:
            import optuna
            from optuna.storages import JournalStorage
            from optuna.storages.journal import JournalFileBackend
        except ModuleNotFoundError:
            raise HarnessError(
                "`wattbench search` needs Optuna. Run: pip install 'wattbench[search]'"
            ) from None
        optuna.logging.set_verbosity(logging.ERROR)
        self._states = optuna.trial.TrialState
        self._trainings: dict[str, Sequence[Any]] = {
            "augment": space.augment,
            "temperature": space.temperature,
            "learning_rate": space.learning_rate,
        }
        journal.parent.mkdir(parents=True, exist_ok=True)
        self._study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(journal))),
            study_name=name,
            direction="maximize",
            sampler=optuna.samplers.TPESampler(
                seed=seed, n_startup_trials=len(FIRST_TRIALS), constant_liar=False
            ),
            pruner=optuna.pruners.SuccessiveHalvingPruner(
                min_resource=1, reduction_factor=REDUCTION
            ),
            load_if_exists=True,
        )
        for trial in self._study.get_trials(deepcopy=False):  # of a killed search
            if trial.state == self._states.RUNNING:
                self._study.tell(trial.number, state=self._states.FAIL)
        if not self._study.trials:
            for share in FIRST_TRIALS:
                self._study.enqueue_trial(
                    {
                        "student": round(share * (students - 1)),
                        **{key: len(values) // 2 for key, values in self._trainings.items()},
                    }
                )

    def propose(self, count: int, tried: Collection[Choice]) -> Proposal:
        """Return a choice among the `count` fastest students that was not tried.

        If the sampler repeats itself, it is the first one that was not.

        Args:
            count: the number of students to choose from.
            tried: what was tried of these; not everything.
        """
        for _ in range(REPEATS):
            trial = self._study.ask()
            with warnings.catch_warnings():  # one of FIRST_TRIALS may be too slow meanwhile
                warnings.simplefilter("ignore")
                index = trial.suggest_int("student", 0, count - 1)
                numbers = [
                    trial.suggest_int(key, 0, len(values) - 1)
                    for key, values in self._trainings.items()
                ]
            choice = self._make_choice(min(index, count - 1), numbers)
            if choice not in tried:
                trial.set_user_attr("index", choice.index)
                return Proposal(trial, choice)
            self._study.tell(trial, state=self._states.PRUNED)
        ranges = [range(count), *(range(len(values)) for values in self._trainings.values())]
        for index, *numbers in product(*ranges):
            if self._make_choice(index, numbers) not in tried:
                names = ("student", *self._trainings)
                self._study.enqueue_trial(dict(zip(names, (index, *numbers), strict=True)))
                return self.propose(count, tried)
        raise ValueError("everything was tried")

    def _make_choice(self, index: int, numbers: Sequence[int]) -> Choice:
        """Return the choice of a student and of the positions in the lists of the space."""
        lists = self._trainings.values()
        return Choice(
            index, *(values[number] for values, number in zip(lists, numbers, strict=True))
        )

    def list_tried(self) -> set[Choice]:
        """Return what was trained, in earlier processes too."""
        return {
            self._make_choice(
                trial.user_attrs["index"], [trial.params[key] for key in self._trainings]
            )
            for trial in self._study.get_trials(deepcopy=False)
            if trial.user_attrs.get("ended")
        }

    def report(self, proposal: Proposal, rung: int, results: Sequence[tuple[float, float]]) -> bool:
        """Report a trained student, and return whether it should be trained for longer.

        Args:
            proposal: the student.
            rung: how often it has been trained, counted from 0.
            results: of each of its shapes, the fastest first, the speed as a ratio to the
                teacher's, and how far the score is above what must be kept, below 0 if too little
                is. At least one. The student is worth as much as the best of them.
        """
        value = max(compute_value(speedup, margin) for speedup, margin in results)
        proposal.trial.report(value, REDUCTION**rung)
        proposal.trial.set_user_attr("value", value)
        fastest_margin = results[0][1]
        return fastest_margin < 0 and not proposal.trial.should_prune()

    def finish(self, proposal: Proposal, complete: bool = True) -> None:
        """End a trial with its last value; without one its student was not built.

        Args:
            proposal: the student.
            complete: whether there is nothing left to do; else it may be proposed again by the
                next search, as one that was killed.
        """
        proposal.trial.set_user_attr("ended", complete)
        value = proposal.trial.user_attrs.get("value")
        if value is None:
            self._study.tell(proposal.trial, state=self._states.FAIL)
        else:
            self._study.tell(proposal.trial, value)


def list_as_long(choice: Choice, space: Space) -> list[Choice]:
    """Return the choices of a student whose training takes as long as that of one, or longer."""
    return [
        Choice(choice.index, augment, temperature, learning_rate)
        for augment in space.augment
        if augment >= choice.augment
        for temperature in space.temperature
        for learning_rate in space.learning_rate
    ]


def list_epochs(space: Space, rows: int) -> list[int]:
    """Return for how many epochs a student is trained, and trained again.

    With little text a training has more epochs than it asks for (`MIN_UPDATES`), so that some of
    those in the space may be the same training.

    Args:
        space: what trainings are tried.
        rows: number of texts in an epoch.
    """
    different: dict[int, int] = {}
    for epochs in space.epochs:
        schedule = Schedule.model_validate({"epochs": epochs})
        different.setdefault(schedule.count_updates(rows)[1], epochs)
    return list(different.values())


def compute_value(speedup: float, margin: float) -> float:
    """Return what a student is worth: the more, the better."""
    return math.log2(speedup) + PENALTY * min(0.0, margin)
