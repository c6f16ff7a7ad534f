import re
from pathlib import Path
from typing import Any

import pytest

from harness.cli.main import main
from harness.errors import HarnessError
from harness.leaderboard.ranking import load_sections
from harness.reports.comparison import compare_systems as systems_of
from harness.reports.sessions import compare_sessions as sessions_of
from harness.results import record
from tests.support.records import golden_records, make


def compare_systems(folder: Path, one: str, other: str, task: str = "") -> str:
    return systems_of(load_sections(folder, needs=(one, other))[0], one, other, task)


def compare_sessions(before: Path, after: Path, tolerance: float) -> tuple[str, bool]:
    both = (load_sections(each.parent, each.name)[0] for each in (before, after))
    return sessions_of(*both, tolerance)


STEADY = [1.0, 1.01, 0.99, 1.0, 1.0]


def two(folder: Path, one: tuple[list[float], float], other: tuple[list[float], float]) -> str:
    """The last sentence of a comparison of `one` and `other`, each its seconds and its score."""
    for name, (seconds, right) in {"ref": (STEADY, 0.9), "one": one, "other": other}.items():
        record.write_record(*make(name, seconds, right), folder)
    return compare_systems(folder, "one", "other").splitlines()[-1]


def times(factor: float) -> list[float]:
    return [factor * each for each in STEADY]


@pytest.mark.parametrize(
    ("one", "other", "sentence"),
    [
        ((times(2), 0.90), (times(1), 0.95), "other is better for everyone: 2.00 times as fast"),
        ((times(2), 0.95), (times(1), 0.95), "other is the better choice for whoever pays"),
        (
            (times(2), 0.95),
            (times(1), 0.90),
            r"other is for whoever pays for time or energy: 2.00 times as fast, 2\.35 USD less for "
            r"100 million requests; one for whoever needs the 0.0500 of score",
        ),
        (
            ([1, 1.3, 0.8, 1.1, 0.9], 0.95),
            ([1.1, 1, 1, 0.9, 1], 0.90),
            "one is the better choice: its score is 0.0500 higher",
        ),
        (([1, 1.3, 0.8, 1.1, 0.9], 0.9), ([1, 1, 1, 1, 1], 0.9), "cannot be told apart"),
    ],
)
def test_verdict_says_which_is_better_for_whom(
    tmp_path: Path, one: Any, other: Any, sentence: str
) -> None:
    found = two(tmp_path, one, other)
    assert re.search(sentence, found)
    swapped = two(tmp_path / "swapped", other, one)
    names = {"one": "other", "other": "one"}
    back = re.sub(r"\b(one|other)\b", lambda each: names[each[0]], swapped)
    assert back == found, "either may stand first"


def test_ratio_is_within_blocks_and_score_on_the_same_examples(tmp_path: Path) -> None:
    drift = [1.0, 2.0, 4.0, 8.0, 16.0]
    text = two(tmp_path, (drift, 0.9), ([each / 4 for each in drift], 0.899))
    assert "4.00 times as fast" in text, "drift hits both sides alike"
    table = compare_systems(tmp_path, "one", "other")
    assert re.search(r"examples/s +\S+ +\S+ +4\.00x\n", table), "and leaves no interval"
    # one more wrong answer of 1,000: a difference of 0.001 with a standard error of 0.001
    assert re.search(r"-0.0010 \[-0.0030, \+0.0010\], p 1", table)


def test_latest_session_with_both_is_taken(tmp_path: Path) -> None:
    for name in ("ref", "one", "other"):
        record.write_record(*make(name, STEADY, 0.9, session="s1", started="2026-01-01"), tmp_path)
    record.write_record(*make("ref", STEADY, 0.9, session="s2", started="2026-01-02"), tmp_path)
    assert "session s1" in compare_systems(tmp_path, "one", "other")


def test_system_that_no_session_has_is_named(tmp_path: Path) -> None:
    golden_records(tmp_path)
    with pytest.raises(HarnessError, match=r"no session has both 'small' and 'smal'.*distilled"):
        compare_systems(tmp_path, "small", "smal")
    with pytest.raises(HarnessError, match="on boolq"):
        compare_systems(tmp_path, "small", "fastformers", "boolq")


def write(folder: Path, session: str, **changed: tuple[list[float], float]) -> Path:
    """A session of a reference and three systems."""
    usual = {
        "ref": ([10.0, 10.1, 9.9, 10, 10], 0.9),
        "a": ([1.0, 1.02, 0.98, 1.0, 1.01], 0.9),
        "b": ([2.0, 2.02, 1.98, 2.01, 2.0], 0.85),
        "c": ([0.5, 0.51, 0.49, 0.5, 0.5], 0.8),
    }
    for name, (seconds, right) in (usual | changed).items():
        record.write_record(*make(name, seconds, right, session=session), folder)
    return folder / session


def test_nothing_changed_is_nothing_worse(tmp_path: Path) -> None:
    before = write(tmp_path, "before")
    after = write(tmp_path, "after", a=([1.03, 1.0, 1.02, 1.0, 1.01], 0.9))
    text, worse = compare_sessions(before, after, 0.1)
    assert not worse
    assert text.endswith("Nothing became worse beyond noise.")


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"a": ([1.3, 1.31, 1.29, 1.3, 1.3], 0.9)}, r"a .* speed-up .* worse"),
        ({"a": ([1.0, 1.02, 0.98, 1.0, 1.01], 0.88)}, r"a .* score .* worse"),
    ],
)
def test_slower_or_less_right_is_worse(tmp_path: Path, changed: Any, line: str) -> None:
    text, worse = compare_sessions(write(tmp_path, "1"), write(tmp_path, "2", **changed), 0.1)
    assert worse
    assert re.search(line, text)
    assert "1 became worse beyond noise" in text
    back, worse = compare_sessions(tmp_path / "2", tmp_path / "1", 0.1)
    assert not worse, "the other way round it became better"
    assert "better" in back


def test_change_within_the_tolerance_does_not_count(tmp_path: Path) -> None:
    slower = [1.08, 1.081, 1.079, 1.08, 1.08]
    before, after = write(tmp_path, "1"), write(tmp_path, "2", a=(slower, 0.9))
    assert not compare_sessions(before, after, 0.1)[1]
    assert compare_sessions(before, after, 0.05)[1]


def test_more_memory_and_a_new_failure_are_worse(tmp_path: Path) -> None:
    before, after = write(tmp_path, "1"), write(tmp_path, "2")
    path = after / "sentiment" / "offline" / "a.json"
    it = record.read_record(path)
    for number, each in enumerate(it.rounds):
        each.memory_mb = 150.0 + number
    record.write_record(it, record.read_side(path), tmp_path)
    path = after / "sentiment" / "offline" / "b.json"
    it = record.read_record(path)
    it.failure = {"reason": "it used 5000 MB", "stderr": ""}
    record.write_record(it, record.read_side(path), tmp_path)
    text, worse = compare_sessions(before, after, 0.1)
    assert worse
    assert re.search(r"a .* memory .* worse", text)
    assert "b failed: it used 5000 MB" in text
    assert text.endswith("2 became worse beyond noise.")


def test_slower_reference_is_told_and_blames_nobody(tmp_path: Path) -> None:
    before = write(tmp_path, "1")
    twice = {
        name: ([2 * each for each in seconds], right)
        for name, (seconds, right) in {
            "ref": ([10.0, 10.1, 9.9, 10, 10], 0.9),
            "a": ([1.0, 1.02, 0.98, 1.0, 1.01], 0.9),
            "b": ([2.0, 2.02, 1.98, 2.01, 2.0], 0.85),
            "c": ([0.5, 0.51, 0.49, 0.5, 0.5], 0.8),
        }.items()
    }
    text, worse = compare_sessions(before, write(tmp_path, "2", **twice), 0.1)
    assert not worse
    assert "ref itself took 2.00x" in text


def test_sessions_of_two_machines_are_for_verify(tmp_path: Path) -> None:
    before = write(tmp_path, "1")
    record.write_record(*make("ref", STEADY, 0.9, session="2", cpu="other"), tmp_path)
    with pytest.raises(HarnessError, match="wattbench verify"):
        compare_sessions(before, tmp_path / "2", 0.1)


def test_record_that_is_no_longer_there_is_worse(tmp_path: Path) -> None:
    before, after = write(tmp_path, "1"), write(tmp_path, "2")
    for path in after.glob("*/*/c.*"):
        path.unlink()
    text, worse = compare_sessions(before, after, 0.1)
    assert worse
    assert "c has no record any more (sentiment, offline)." in text


def test_answers_to_other_examples_are_not_compared(tmp_path: Path) -> None:
    for name in ("ref", "one", "other"):
        it, side = make(name, STEADY, 0.9)
        if name == "other":
            side["labels"] = [1 - each for each in side["labels"]]
        record.write_record(it, side, tmp_path)
    with pytest.raises(HarnessError, match="did not answer the same examples"):
        compare_systems(tmp_path, "one", "other")
    with pytest.raises(HarnessError, match="named twice"):
        compare_systems(tmp_path, "one", "one")


def test_command_takes_sessions_by_the_end_of_their_names_and_names_what_is_broken(
    tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(project)
    records = tmp_path / "records"
    write(records, "2026-01-01-aaaa")
    write(records, "2026-01-02-bbbb")
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
    assert "a has no record any more" in out.out
