import shutil
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.errors import HarnessError
from harness.leaderboard.ranking import load_sections
from harness.reports.verification import published_systems, verification
from harness.results import record
from tests.support.records import golden_records, make

SYSTEMS = {
    "ref": ([10.0, 10.2, 9.9, 10, 10.1], 0.9),
    "unpadded": ([4.0, 4.1, 3.9, 4, 4], 0.9),
    "quick": ([1.0, 1.02, 0.98, 1.0, 1.01], 0.89),
    "quicker": ([0.5, 0.51, 0.49, 0.5, 0.5], 0.89),
}


def write(folder: Path, session: str = "s1", cpu: str = "CPU", **changed: object) -> Path:
    for name, (seconds, right) in (SYSTEMS | changed).items():
        record.write_record(
            *make(name, seconds, right, session=session, cpu=cpu), folder / "records"
        )
    return folder / "records"


def verdicts(published: Path, here: Path) -> tuple[dict[str, str], bool]:
    text, failed = verification(
        load_sections(published)[0], load_sections(here)[0], "sentiment", None
    )
    lines = [line for line in text.splitlines() if line.startswith("|")][2:]
    split = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {line[0]: line[-1] for line in split}, failed


def test_claims_of_another_machine_hold_where_ratios_and_scores_do(tmp_path: Path) -> None:
    published = write(tmp_path / "theirs")
    slower = {name: ([3 * s for s in seconds], right) for name, (seconds, right) in SYSTEMS.items()}
    found, failed = verdicts(published, write(tmp_path / "ours", "s9", "Another", **slower))
    assert not failed
    assert set(found.values()) == {"holds"}
    assert {
        "quick: score",
        "quick: the floor",
        "quick, offline: speed-up of the reference",
        "quick, offline: speed-up unpadded",
        "offline: quicker is faster than quick",
    } <= set(found)


def test_score_speed_and_order_are_claims_of_their_own(tmp_path: Path) -> None:
    published = write(tmp_path / "theirs")
    changed = {
        "quick": ([0.3, 0.31, 0.29, 0.3, 0.3], 0.89),
        "quicker": ([0.5, 0.51, 0.49, 0.5, 0.5], 0.8),
    }
    found, failed = verdicts(published, write(tmp_path / "ours", "s9", "Another", **changed))
    assert failed
    assert found["ref: score"] == "holds"
    assert found["quick: score"] == "holds"
    assert found["quick, offline: speed-up of the reference"] == "does not hold"
    assert found["quicker: score"] == "does not hold"
    assert found["quicker: the floor"] == "does not hold"
    assert found["offline: quicker is faster than quick"] == "does not hold"


def test_what_a_session_cannot_tell_stays_open(tmp_path: Path) -> None:
    published = write(tmp_path / "theirs")
    noisy = {"quicker": ([0.5, 2.0, 0.4, 0.9, 1.1], 0.89)}
    found, _ = verdicts(published, write(tmp_path / "ours", "s9", "Another", **noisy))
    assert found["offline: quicker is faster than quick"] == "open"
    assert found["quicker, offline: speed-up of the reference"] == "open"
    once = {name: (seconds[:1], right) for name, (seconds, right) in SYSTEMS.items()}
    found, failed = verdicts(published, write(tmp_path / "once", "s9", "Another", **once))
    assert not failed
    assert found["quick, offline: speed-up of the reference"] == "open", "one block has no interval"


def test_system_that_fails_here_is_a_claim_that_fails(tmp_path: Path) -> None:
    published, ours = write(tmp_path / "theirs"), write(tmp_path / "ours", "s9", "Another")
    (path,) = ours.glob("*/*/*/quick.json")
    it = record.read_record(path)
    it.failure = {"reason": "it closed its output", "stderr": ""}
    record.write_record(it, record.read_side(path), ours)
    found, failed = verdicts(published, ours)
    assert failed
    assert found["quick runs"] == "does not hold"


def test_scores_of_twenty_systems_share_one_level(tmp_path: Path) -> None:
    """One of four with p = 0.004 is a claim that fails; one of twenty-three may be chance."""
    slightly = ([1.0, 1.02, 0.98, 1.0, 1.01], 0.881)  # 9 of 1,000 answers, all for the worse
    many = {f"system-{number}": SYSTEMS["quick"] for number in range(19)}
    published = write(tmp_path / "theirs", **many)
    found, failed = verdicts(
        published, write(tmp_path / "ours", "s9", **many | {"quick": slightly})
    )
    assert (found["quick: score"], failed) == ("holds", False)
    shutil.rmtree(tmp_path)
    published = write(tmp_path / "theirs")
    found, failed = verdicts(published, write(tmp_path / "ours", "s9", quick=slightly))
    assert (found["quick: score"], failed) == ("does not hold", True)


def test_what_was_not_measured_here_is_named(tmp_path: Path) -> None:
    published, ours = write(tmp_path / "theirs"), write(tmp_path / "ours", "s9")
    for path in ours.glob("*/*/*/quick.*"):
        path.unlink()
    text, failed = verification(
        load_sections(published)[0], load_sections(ours)[0], "sentiment", None
    )
    assert not failed
    assert "Not measured here: quick." in text


def test_suite_and_systems_come_from_the_published_session(tmp_path: Path) -> None:
    found, _ = load_sections(write(tmp_path))
    known = ["ref", "quick", "another"]
    assert published_systems(found, "sentiment", None, known) == ("quick", ["quick", "ref"])
    assert published_systems(found, "sentiment", ["ref"], known) == ("quick", ["ref"])
    with pytest.raises(HarnessError, match="another cannot be verified: not published, or"):
        published_systems(found, "sentiment", ["another"], known)
    with pytest.raises(HarnessError, match=r"no published session of rte .* There are: sentiment"):
        published_systems(found, "rte", None, known)


def test_command_writes_its_verdicts_and_tells_by_its_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    golden_records(tmp_path / "results" / "records")
    shutil.rmtree(tmp_path / "results" / "records" / "s2")
    shutil.copytree(tmp_path / "results", tmp_path / "mine")
    assert main(["verify", "results", "--against", "mine"]) == 2
    assert "nothing but s1 was measured on sentiment" in capsys.readouterr().err
    for path in (tmp_path / "mine").glob("records/s1/*/*/*.json"):
        it = record.read_record(path)
        side = record.read_side(path)
        it.session = "s9"
        record.write_record(it, side, tmp_path / "mine" / "records")
    shutil.rmtree(tmp_path / "mine" / "records" / "s1")
    assert main(["verify", "results", "--against", "mine"]) == 0
    text = (tmp_path / "verified" / "verification.md").read_text()
    assert "0 does not hold" in text
    assert text.strip() in capsys.readouterr().out
    (path,) = (tmp_path / "mine").glob("records/*/*/offline/fastformers.json")
    it = record.read_record(path)
    for each in it.rounds:
        each.seconds *= 2
    record.write_record(it, record.read_side(path), tmp_path / "mine" / "records")
    assert main(["verify", "results", "--against", "mine"]) == 1
