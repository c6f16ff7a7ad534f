import re
from pathlib import Path
from typing import Any

import pytest

from harness.cli.main import main
from harness.errors import HarnessError
from harness.leaderboard.ranking import load_sections
from harness.leaderboard.warnings import SMOKE_RUN
from harness.reports import comparison, sessions
from harness.results.record import read_record, read_side_file, write_record
from harness.runner.config import SMOKE
from tests.support.records import golden_records, make_record


def compare_systems(folder: Path, one: str, other: str, task: str = "") -> str:
    return comparison.compare_systems(
        load_sections(folder, needs=(one, other))[0], one, other, task
    )


def compare_sessions(before: Path, after: Path, tolerance: float) -> tuple[str, bool]:
    both = (load_sections(folder.parent, folder.name)[0] for folder in (before, after))
    return sessions.compare_sessions(*both, tolerance)


STEADY = [1.0, 1.01, 0.99, 1.0, 1.0]


def conclusion(
    folder: Path, one: tuple[list[float], float], other: tuple[list[float], float]
) -> str:
    """The conclusion of a comparison of `one` and `other`, each given as seconds and accuracy."""
    for name, (seconds, accuracy) in {"ref": (STEADY, 0.9), "one": one, "other": other}.items():
        write_record(*make_record(name, seconds, accuracy), folder)
    return compare_systems(folder, "one", "other").splitlines()[-1]


def times(factor: float) -> list[float]:
    return [factor * seconds for seconds in STEADY]


@pytest.mark.parametrize(
    ("one", "other", "sentence"),
    [
        ((times(2), 0.90), (times(1), 0.95), "other is better in both: it is 2.00 times as fast"),
        (
            (times(2), 0.95),
            (times(1), 0.95),
            "other is the better choice if time or energy matters",
        ),
        (
            (times(2), 0.95),
            (times(1), 0.90),
            r"Choose other if time or energy matters: it is 2.00 times as fast and costs 2\.35 USD "
            r"less per 100 million requests. Choose one if the score matters: it is 0.0500 higher",
        ),
        (
            ([1, 1.3, 0.8, 1.1, 0.9], 0.95),
            ([1.1, 1, 1, 0.9, 1], 0.90),
            "one is the better choice: its score is 0.0500 higher",
        ),
        (
            ([1, 1.3, 0.8, 1.1, 0.9], 0.9),
            ([1, 1, 1, 1, 1], 0.9),
            "do not differ significantly in speed",
        ),
    ],
)
def test_conclusion_says_which_is_better_for_whom(
    tmp_path: Path, one: Any, other: Any, sentence: str
) -> None:
    text = conclusion(tmp_path, one, other)
    assert re.search(sentence, text)
    swapped = conclusion(tmp_path / "swapped", other, one)
    names = {"one": "other", "other": "one"}
    renamed = re.sub(r"\b(one|other)\b", lambda match: names[match[0]], swapped)
    assert renamed == text, "the order does not matter"


def test_estimate_with_a_wide_interval_is_not_stated_as_a_fact(tmp_path: Path) -> None:
    text = conclusion(tmp_path, ([1.0, 2.0, 30.0], 0.95), ([0.1, 0.1, 0.1], 0.90))
    assert not re.search(r"it is [\d.]+ times as fast", text)
    assert "USD" not in text, "the price is no more certain"
    text = conclusion(tmp_path / "wide", ([8.0, 10.0, 30.0], 0.95), ([0.1, 0.1, 0.1], 0.90))
    assert re.search(r"it is between [\d.]+ and [\d,.]+ times as fast\. Choose one if", text)
    assert text.endswith(
        "to continue until they are narrow: `wattbench run --resume s1 --until 5%`."
    )


def test_one_block_cannot_say_which_is_faster(tmp_path: Path) -> None:
    text = conclusion(tmp_path, ([1.0], 0.90), ([0.5], 0.95))
    assert text.startswith("The score of other is 0.0500 higher")
    assert "One block cannot say which is faster." in text
    assert text.endswith("`wattbench run --resume s1 --rounds 5`.")


def test_smoke_run_has_no_conclusion(tmp_path: Path) -> None:
    for name, seconds in {"ref": 10.0, "one": 2.0, "other": 1.0}.items():
        record, side = make_record(name, [seconds] * 3, 0.9)
        record.timing = SMOKE
        write_record(record, side, tmp_path)
    assert compare_systems(tmp_path, "one", "other").splitlines()[-1] == SMOKE_RUN


def test_ratio_is_within_blocks_and_score_on_the_same_examples(tmp_path: Path) -> None:
    drift = [1.0, 2.0, 4.0, 8.0, 16.0]
    text = conclusion(tmp_path, (drift, 0.9), ([seconds / 4 for seconds in drift], 0.899))
    assert "4.00 times as fast" in text, "drift affects both alike"
    table = compare_systems(tmp_path, "one", "other")
    assert re.search(r"examples/s +\| \S+ +\| \S+ +\| 4\.00x +\|\n", table), (
        "and the interval has no width"
    )
    # one more wrong answer of 1,000: a difference of 0.001 with a standard error of 0.001
    assert re.search(r"-0.0010 \[-0.0030, \+0.0010\], p 1", table)


def test_latest_session_with_both_is_taken(tmp_path: Path) -> None:
    for name in ("ref", "one", "other"):
        write_record(*make_record(name, STEADY, 0.9, session="s1", started="2026-01-01"), tmp_path)
    write_record(*make_record("ref", STEADY, 0.9, session="s2", started="2026-01-02"), tmp_path)
    assert "session s1" in compare_systems(tmp_path, "one", "other")


def test_systems_without_a_common_session_are_rejected(tmp_path: Path) -> None:
    golden_records(tmp_path)
    with pytest.raises(
        HarnessError, match=r"no session has figures of both 'small' and 'smal'.*distilled"
    ):
        compare_systems(tmp_path, "small", "smal")
    with pytest.raises(HarnessError, match="on boolq"):
        compare_systems(tmp_path, "small", "fastformers", "boolq")


SYSTEMS = {
    "ref": ([10.0, 10.1, 9.9, 10, 10], 0.9),
    "a": ([1.0, 1.02, 0.98, 1.0, 1.01], 0.9),
    "b": ([2.0, 2.02, 1.98, 2.01, 2.0], 0.85),
    "c": ([0.5, 0.51, 0.49, 0.5, 0.5], 0.8),
}
"""Seconds and accuracy of a reference and three systems."""


def write_session(folder: Path, session: str, **changed: tuple[list[float], float]) -> Path:
    """Write the records of `SYSTEMS`, some of them changed; return the session's folder."""
    for name, (seconds, accuracy) in (SYSTEMS | changed).items():
        write_record(*make_record(name, seconds, accuracy, session=session), folder)
    return folder / session


def test_noise_is_not_reported_as_worse(tmp_path: Path) -> None:
    before = write_session(tmp_path, "before")
    after = write_session(tmp_path, "after", a=([1.03, 1.0, 1.02, 1.0, 1.01], 0.9))
    text, worse = compare_sessions(before, after, 0.1)
    assert not worse
    assert text.endswith("Nothing became significantly worse.")


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"a": ([1.3, 1.31, 1.29, 1.3, 1.3], 0.9)}, r"a .* speed-up .* worse"),
        ({"a": ([1.0, 1.02, 0.98, 1.0, 1.01], 0.88)}, r"a .* score .* worse"),
    ],
)
def test_slower_or_less_accurate_is_worse(tmp_path: Path, changed: Any, line: str) -> None:
    text, worse = compare_sessions(
        write_session(tmp_path, "1"), write_session(tmp_path, "2", **changed), 0.1
    )
    assert worse
    assert re.search(line, text)
    assert "1 became significantly worse" in text
    back, worse = compare_sessions(tmp_path / "2", tmp_path / "1", 0.1)
    assert not worse, "in the other order it became better"
    assert "better" in back


def test_change_within_the_tolerance_does_not_count(tmp_path: Path) -> None:
    slower = [1.08, 1.081, 1.079, 1.08, 1.08]
    before, after = write_session(tmp_path, "1"), write_session(tmp_path, "2", a=(slower, 0.9))
    assert not compare_sessions(before, after, 0.1)[1]
    assert compare_sessions(before, after, 0.05)[1]


def test_more_memory_and_a_new_failure_are_worse(tmp_path: Path) -> None:
    before, after = write_session(tmp_path, "1"), write_session(tmp_path, "2")
    path = after / "sentiment" / "offline" / "a.json"
    record = read_record(path)
    for index, window in enumerate(record.rounds):
        window.memory_mb = 150.0 + index
    write_record(record, read_side_file(path), tmp_path)
    path = after / "sentiment" / "offline" / "b.json"
    record = read_record(path)
    record.failure = {"reason": "it used 5000 MB", "stderr": ""}
    write_record(record, read_side_file(path), tmp_path)
    text, worse = compare_sessions(before, after, 0.1)
    assert worse
    assert re.search(r"a .* memory .* worse", text)
    assert "b failed: it used 5000 MB" in text
    assert text.endswith("2 became significantly worse.")


def test_slower_reference_is_reported_but_not_worse(tmp_path: Path) -> None:
    before = write_session(tmp_path, "1")
    twice = {
        name: ([2 * value for value in seconds], accuracy)
        for name, (seconds, accuracy) in SYSTEMS.items()
    }
    text, worse = compare_sessions(before, write_session(tmp_path, "2", **twice), 0.1)
    assert not worse
    assert "The reference ref itself took 2.00x" in text


def test_sessions_of_two_machines_are_rejected_in_favour_of_verify(tmp_path: Path) -> None:
    before = write_session(tmp_path, "1")
    write_record(*make_record("ref", STEADY, 0.9, session="2", cpu="other"), tmp_path)
    with pytest.raises(HarnessError, match="wattbench verify"):
        compare_sessions(before, tmp_path / "2", 0.1)


def test_missing_record_is_worse(tmp_path: Path) -> None:
    before, after = write_session(tmp_path, "1"), write_session(tmp_path, "2")
    for path in after.glob("*/*/c.*"):
        path.unlink()
    text, worse = compare_sessions(before, after, 0.1)
    assert worse
    assert "c has no record in the later session (sentiment, offline)." in text


def test_answers_to_other_examples_are_not_compared(tmp_path: Path) -> None:
    for name in ("ref", "one", "other"):
        record, side = make_record(name, STEADY, 0.9)
        if name == "other":
            side["labels"] = [1 - label for label in side["labels"]]
        write_record(record, side, tmp_path)
    with pytest.raises(HarnessError, match="did not answer the same examples"):
        compare_systems(tmp_path, "one", "other")
    with pytest.raises(HarnessError, match="named twice"):
        compare_systems(tmp_path, "one", "one")


def test_command_finds_sessions_by_the_end_of_their_names_and_names_broken_records(
    tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(project)
    records = tmp_path / "records"
    write_session(records, "2026-01-01-aaaa")
    write_session(records, "2026-01-02-bbbb")
    place = ["--results", str(tmp_path)]
    assert main(["compare", "aaaa", "bbbb", *place]) == 0
    assert "comparisons" in capsys.readouterr().out
    assert main(["compare", "aaaa", "cccc", *place]) == 2
    assert "'cccc' is no session" in capsys.readouterr().err
    assert main(["compare", "aaaa", "bbbb", "--task", "boolq", *place]) == 2
    assert main(["compare", "a", "b", *place]) == 0, "systems of these names"
    (records / "2026-01-02-bbbb" / "sentiment" / "offline" / "a.json").write_text("{")
    capsys.readouterr()
    assert main(["compare", "aaaa", "bbbb", *place]) == 1
    out = capsys.readouterr()
    assert "left out: " in out.err
    assert "a.json: not a record" in out.err
    assert "a has no record in the later session" in out.out
