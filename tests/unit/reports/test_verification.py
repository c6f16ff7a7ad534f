import shutil
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.errors import HarnessError
from harness.leaderboard.ranking import load_sections
from harness.reports.verification import find_published_systems, render_verification
from harness.results.record import read_record, read_side_file, write_record
from tests.support.figures import table_rows
from tests.support.records import golden_records, make_record

SYSTEMS = {
    "ref": ([10.0, 10.2, 9.9, 10, 10.1], 0.9),
    "unpadded": ([4.0, 4.1, 3.9, 4, 4], 0.9),
    "quick": ([1.0, 1.02, 0.98, 1.0, 1.01], 0.89),
    "quicker": ([0.5, 0.51, 0.49, 0.5, 0.5], 0.89),
}


def write_session(folder: Path, session: str = "s1", cpu: str = "CPU", **changed: object) -> Path:
    """Write the records of `SYSTEMS`, some of them changed; return the folder of records."""
    for name, (seconds, accuracy) in (SYSTEMS | changed).items():
        write_record(
            *make_record(name, seconds, accuracy, session=session, cpu=cpu), folder / "records"
        )
    return folder / "records"


def verdicts(published: Path, here: Path) -> tuple[dict[str, str], bool]:
    """The verdict on each claim, and whether one fails."""
    text, failed = render_verification(
        load_sections(published)[0], load_sections(here)[0], "sentiment", None
    )
    return {row[0]: row[-1] for row in table_rows(text)}, failed


def test_claims_hold_on_a_slower_machine_with_the_same_ratios_and_scores(tmp_path: Path) -> None:
    published = write_session(tmp_path / "theirs")
    slower = {
        name: ([3 * value for value in seconds], accuracy)
        for name, (seconds, accuracy) in SYSTEMS.items()
    }
    claims, failed = verdicts(
        published, write_session(tmp_path / "ours", "s9", "Another", **slower)
    )
    assert not failed
    assert set(claims.values()) == {"holds"}
    assert {
        "quick: score",
        "quick: side of the quality floor",
        "quick, offline: speed-up over the reference",
        "quick, offline: speed-up over the unpadded reference",
        "offline: quicker is faster than quick",
    } <= set(claims)


def test_score_speedup_and_order_are_separate_claims(tmp_path: Path) -> None:
    published = write_session(tmp_path / "theirs")
    changed = {
        "quick": ([0.3, 0.31, 0.29, 0.3, 0.3], 0.89),
        "quicker": ([0.5, 0.51, 0.49, 0.5, 0.5], 0.8),
    }
    claims, failed = verdicts(
        published, write_session(tmp_path / "ours", "s9", "Another", **changed)
    )
    assert failed
    assert claims["ref: score"] == "holds"
    assert claims["quick: score"] == "holds"
    assert claims["quick, offline: speed-up over the reference"] == "does not hold"
    assert claims["quicker: score"] == "does not hold"
    assert claims["quicker: side of the quality floor"] == "does not hold"
    assert claims["offline: quicker is faster than quick"] == "does not hold"


def test_claims_that_a_session_cannot_decide_are_open(tmp_path: Path) -> None:
    published = write_session(tmp_path / "theirs")
    noisy = {"quicker": ([0.5, 2.0, 0.4, 0.9, 1.1], 0.89)}
    claims, _ = verdicts(published, write_session(tmp_path / "ours", "s9", "Another", **noisy))
    assert claims["offline: quicker is faster than quick"] == "open"
    assert claims["quicker, offline: speed-up over the reference"] == "open"
    once = {name: (seconds[:1], accuracy) for name, (seconds, accuracy) in SYSTEMS.items()}
    claims, failed = verdicts(published, write_session(tmp_path / "once", "s9", "Another", **once))
    assert not failed
    # one block has no interval
    assert claims["quick, offline: speed-up over the reference"] == "open"


def test_claim_that_a_failed_system_runs_does_not_hold(tmp_path: Path) -> None:
    published = write_session(tmp_path / "theirs")
    ours = write_session(tmp_path / "ours", "s9", "Another")
    (path,) = ours.glob("*/*/*/quick.json")
    record = read_record(path)
    record.failure = {"reason": "it closed its output", "stderr": ""}
    write_record(record, read_side_file(path), ours)
    claims, failed = verdicts(published, ours)
    assert failed
    assert claims["quick runs"] == "does not hold"


def test_scores_of_many_systems_share_one_level_of_significance(tmp_path: Path) -> None:
    """One of four scores with p = 0.004 fails; one of twenty-three may be chance."""
    slightly_worse = ([1.0, 1.02, 0.98, 1.0, 1.01], 0.881)  # 9 of 1,000 answers are now wrong
    many = {f"system-{number}": SYSTEMS["quick"] for number in range(19)}
    published = write_session(tmp_path / "theirs", **many)
    claims, failed = verdicts(
        published, write_session(tmp_path / "ours", "s9", **many | {"quick": slightly_worse})
    )
    assert (claims["quick: score"], failed) == ("holds", False)
    shutil.rmtree(tmp_path)
    published = write_session(tmp_path / "theirs")
    claims, failed = verdicts(
        published, write_session(tmp_path / "ours", "s9", quick=slightly_worse)
    )
    assert (claims["quick: score"], failed) == ("does not hold", True)


def test_systems_that_were_not_measured_here_are_named(tmp_path: Path) -> None:
    published, ours = write_session(tmp_path / "theirs"), write_session(tmp_path / "ours", "s9")
    for path in ours.glob("*/*/*/quick.*"):
        path.unlink()
    text, failed = render_verification(
        load_sections(published)[0], load_sections(ours)[0], "sentiment", None
    )
    assert not failed
    assert "Not measured here: quick." in text


def test_suite_and_systems_come_from_the_published_session(tmp_path: Path) -> None:
    sections, _ = load_sections(write_session(tmp_path))
    known = ["ref", "quick", "another"]
    latest, names = find_published_systems(sections, "sentiment", None, known)
    assert (latest.rows[0].record.suite, names) == ("quick", ["quick", "ref"])
    assert find_published_systems(sections, "sentiment", ["ref"], known)[1] == ["ref"]
    with pytest.raises(HarnessError, match="cannot verify another: not published, or"):
        find_published_systems(sections, "sentiment", ["another"], known)
    with pytest.raises(
        HarnessError, match=r"no published session of rte .* Published tasks: sentiment"
    ):
        find_published_systems(sections, "rte", None, known)


def test_command_writes_the_verdicts_and_exits_with_1_if_a_claim_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    golden_records(tmp_path / "results" / "records")
    shutil.rmtree(tmp_path / "results" / "records" / "s2")
    shutil.copytree(tmp_path / "results", tmp_path / "mine")
    assert main(["verify", "results", "--against", "mine"]) == 2
    assert "only s1 was measured on sentiment" in capsys.readouterr().err
    for path in (tmp_path / "mine").glob("records/s1/*/*/*.json"):
        record = read_record(path)
        side = read_side_file(path)
        record.session = "s9"
        write_record(record, side, tmp_path / "mine" / "records")
    shutil.rmtree(tmp_path / "mine" / "records" / "s1")
    assert main(["verify", "results", "--against", "mine"]) == 0
    text = (tmp_path / "verified" / "verification.md").read_text()
    assert "0 does not hold" in text
    assert text.strip() in capsys.readouterr().out
    (path,) = (tmp_path / "mine").glob("records/*/*/offline/fastformers.json")
    record = read_record(path)
    for window in record.rounds:
        window.seconds *= 2
    write_record(record, read_side_file(path), tmp_path / "mine" / "records")
    assert main(["verify", "results", "--against", "mine"]) == 1
