"""What is proposed for training, and how a killed search goes on."""

from pathlib import Path

import pytest

from harness.optimize.training import schedule
from harness.search.space import Space, read_space
from harness.search.study import Choice, Study, compute_value, list_as_long, list_epochs
from tests.conftest import MIN_UPDATES

STUDENTS = 5


@pytest.fixture
def space() -> Space:
    return read_space().model_copy(
        update={"augment": (0, 1), "temperature": (2.0,), "learning_rate": (1e-4, 3e-4)}
    )


@pytest.fixture
def study(tmp_path: Path, space: Space) -> Study:
    return Study(tmp_path / "journal.log", "a", space, STUDENTS, seed=0)


def end(study: Study, margin: float = -0.1, tried: set[Choice] | None = None) -> Choice:
    """Propose, report and end one trial."""
    proposal = study.propose(STUDENTS, tried or study.list_tried())
    study.report(proposal, 0, [(10.0, margin)])
    study.finish(proposal)
    return proposal.choice


def test_nothing_is_proposed_twice_and_in_the_end_everything_was(study: Study) -> None:
    choices = [end(study) for _ in range(STUDENTS * 4)]
    assert len(set(choices)) == STUDENTS * 4
    assert study.list_tried() == set(choices)


def test_the_first_students_lie_in_the_middle_and_at_the_quarters(study: Study) -> None:
    assert [end(study).index for _ in range(3)] == [2, 1, 3]


def test_only_students_that_would_be_faster_are_proposed(study: Study) -> None:
    for _ in range(6):
        proposal = study.propose(2, study.list_tried())
        assert proposal.choice.index < 2
        study.report(proposal, 0, [(10.0, -0.1)])
        study.finish(proposal)


def test_a_killed_trial_is_proposed_again_and_ended_ones_are_not(
    tmp_path: Path, space: Space, study: Study
) -> None:
    ended = end(study)
    killed = study.propose(STUDENTS, study.list_tried()).choice
    again = Study(tmp_path / "journal.log", "a", space, STUDENTS, seed=0)
    assert again.list_tried() == {ended}
    rest = {end(again) for _ in range(STUDENTS * 4 - 1)}
    assert ended not in rest
    assert killed in rest


def test_what_could_not_be_built_counts_as_tried(study: Study) -> None:
    proposal = study.propose(STUDENTS, set())
    study.finish(proposal)
    assert study.list_tried() == {proposal.choice}


def test_a_student_that_keeps_enough_is_not_trained_for_longer(study: Study) -> None:
    assert not study.report(study.propose(STUDENTS, set()), 0, [(10.0, 0.0)])


def test_a_student_whose_slower_shape_keeps_enough_is_trained_for_longer(study: Study) -> None:
    """The faster shape may get there."""
    assert study.report(study.propose(STUDENTS, set()), 0, [(10.0, -0.1), (5.0, 0.0)])


def test_a_student_is_worth_as_much_as_the_best_of_its_shapes(study: Study) -> None:
    proposal = study.propose(STUDENTS, set())
    study.report(proposal, 0, [(10.0, -0.2), (5.0, 0.0), (4.0, 0.1)])
    assert proposal.trial.user_attrs["value"] == compute_value(5.0, 0.0)


def test_one_in_three_is_trained_for_longer(study: Study) -> None:
    margins = [-0.1, -0.3, -0.4, -0.5, -0.2, -0.05]
    longer = []
    for margin in margins:
        proposal = study.propose(STUDENTS, study.list_tried())
        longer.append(study.report(proposal, 0, [(10.0, margin)]))
        study.finish(proposal)
    assert longer[0]  # nothing to compare it with
    assert not any(longer[1:4])  # worse than the first
    assert longer[5]  # the best so far


def test_a_missing_part_of_the_score_costs_more_than_speed_brings() -> None:
    assert compute_value(20, 0.0) > compute_value(10, 0.0) > compute_value(20, -0.02)
    assert compute_value(20, 0.1) == compute_value(20, 0.0)


def test_an_incomplete_trial_is_proposed_again(tmp_path: Path, space: Space, study: Study) -> None:
    """Its longer training had too little time."""
    proposal = study.propose(STUDENTS, set())
    study.report(proposal, 0, [(10.0, -0.1)])
    study.finish(proposal, complete=False)
    again = Study(tmp_path / "journal.log", "a", space, STUDENTS, seed=0)
    assert not again.list_tried()
    assert proposal.choice in {end(again) for _ in range(STUDENTS * 4)}


def test_what_takes_as_long_or_longer_is_the_student_with_as_many_copies_or_more(
    space: Space,
) -> None:
    few, many = Choice(3, 0, 2.0, 1e-4), Choice(3, 1, 2.0, 3e-4)
    assert {choice.augment for choice in list_as_long(few, space)} == {0, 1}
    assert set(list_as_long(many, space)) == {many, Choice(3, 1, 2.0, 1e-4)}


@pytest.mark.parametrize(
    ("rows", "epochs"),
    [(300, [1]), (32 * 100, [1, 3, 9]), (32 * 50, [1, 9]), (32 * 1000, [1, 3, 9])],
)
def test_epochs_that_make_the_same_training_are_tried_once(
    space: Space, rows: int, epochs: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training has at least 200 updates of 32 rows: with 50 in an epoch it has 4 epochs."""
    monkeypatch.setattr(schedule, "MIN_UPDATES", MIN_UPDATES)
    assert list_epochs(space, rows) == epochs
