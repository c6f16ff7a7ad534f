"""The board over several sessions: each system's latest comparable row."""

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.leaderboard.board import find_complete_sections, load_board, load_histories
from harness.leaderboard.columns import get_column
from harness.leaderboard.plots import draw_pareto
from harness.leaderboard.ranking import Section
from harness.leaderboard.reading import read_records
from harness.leaderboard.row import Row
from harness.reports.results_folder import write_board
from harness.results.record import Record
from harness.results.state import State
from tests.support.records import ROLES
from tests.support.sessions import write_session

GOLDEN = Path(__file__).parent.parent.parent / "data" / "accumulated"


def load_section(records: Path) -> Section:
    (section,), faults = load_board(records)
    assert faults == []
    return section


def load_rows(records: Path) -> dict[str, Row]:
    return {row.name: row for row in load_section(records).rows}


def sessions(rows: dict[str, Row]) -> dict[str, str]:
    return {name: row.record.session for name, row in rows.items()}


def test_new_submission_stands_among_the_rows_of_earlier_sessions(tmp_path: Path) -> None:
    write_session(tmp_path, "s1", 1, {"fast": 8.0, "small": 4.0})
    write_session(tmp_path, "s2", 2, {"my-idea": 6.0})
    assert sessions(load_rows(tmp_path)) == {
        **{"ref": "s2", "unpadded": "s2", "my-idea": "s2"},
        **{"fast": "s1", "small": "s1"},
    }


def test_every_ratio_is_taken_within_the_rows_own_session(tmp_path: Path) -> None:
    def slow_down(record: Record) -> None:
        for window in record.rounds:
            window.seconds *= 3

    write_session(tmp_path, "s1", 1, {"fast": 8.0, "null": 100.0})
    write_session(tmp_path, "s2", 2, {"my-idea": 6.0, "null": 100.0}, change=slow_down)
    rows = load_rows(tmp_path)
    assert rows["fast"].speedup.value == pytest.approx(8, rel=0.02)
    assert rows["fast"].unpadded_speedup.value == pytest.approx(4, rel=0.02)
    assert rows["fast"].harness_share == pytest.approx(8 / 100, rel=0.02)
    assert rows["my-idea"].speedup.value == pytest.approx(6, rel=0.02)
    assert rows["fast"].references["reference"].record.session == "s1"


def test_floor_is_that_of_the_rows_own_session(tmp_path: Path) -> None:
    """The reference of the later session is another one, with a lower score."""

    def retrain(record: Record) -> None:
        record.score["value"] = 0.8

    write_session(tmp_path, "s1", 1, {"fast": 8.0})
    write_session(tmp_path, "s2", 2, {"my-idea": 6.0}, change=retrain)
    rows = load_rows(tmp_path)
    assert rows["fast"].floor == pytest.approx(0.5 + 0.95 * 0.4)
    assert rows["my-idea"].floor == pytest.approx(0.5 + 0.95 * 0.3)


def test_points_and_seeds_are_of_the_session_of_their_system(tmp_path: Path) -> None:
    def mark(record: Record) -> None:
        _, _, point = str(record.system["name"]).partition("@")
        record.system |= {"point": point} if point.startswith("p") else {}
        record.system |= {"seed": 1} if point == "seed1" else {}

    write_session(tmp_path, "s1", 1, {"fast": 8.0, "fast@p90": 9.0, "fast@seed1": 8.0}, change=mark)
    assert load_rows(tmp_path)["fast"].seed_rows != []
    write_session(tmp_path, "s2", 2, {"fast": 8.0}, change=mark)
    rows = load_rows(tmp_path)
    assert {"fast@p90", "fast@seed1"}.isdisjoint(rows)
    assert (rows["fast"].record.session, rows["fast"].seed_rows) == ("s2", [])


def test_newer_row_with_fewer_blocks_is_listed_and_not_shown(tmp_path: Path) -> None:
    write_session(tmp_path, "s1", 1, {"fast": 8.0})
    write_session(tmp_path, "s2", 2, {"fast": 20.0}, blocks=1)
    row = load_rows(tmp_path)["fast"]
    assert row.record.session == "s1"
    reason = "newer, not comparable (session s2): it has 1 block, the row that is shown 5"
    assert list(map(str, row.newer)) == [reason]
    assert get_column("newer").value(row) == reason


@pytest.mark.parametrize(("old", "new", "shown"), [(10, 5, "new"), (10, 4, "old"), (3, 3, "new")])
def test_five_blocks_or_as_many_replace_a_row(
    tmp_path: Path, old: int, new: int, shown: str
) -> None:
    write_session(tmp_path, "old", 1, {"fast": 8.0}, blocks=old)
    write_session(tmp_path, "new", 2, {"fast": 8.0}, blocks=new)
    assert load_rows(tmp_path)["fast"].record.session == shown


def fail(record: Record) -> None:
    if record.system["name"] == "fast":
        record.failure, record.rounds = {"reason": "it closed its output", "stderr": ""}, []


def test_newer_row_that_failed_is_stated_beside_the_older_one(tmp_path: Path) -> None:
    write_session(tmp_path / "records", "s1", 1, {"fast": 8.0})
    write_session(tmp_path / "records", "s2", 2, {"fast": 8.0}, change=fail)
    row = load_rows(tmp_path / "records")["fast"]
    assert (row.record.session, row.rank) == ("s1", 1)
    write_board(tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert "- fast: newer, but failed (session s2): it closed its output" in text


def test_system_that_always_failed_is_shown_as_failed(tmp_path: Path) -> None:
    write_session(tmp_path, "s1", 1, {"fast": 8.0}, change=fail)
    write_session(tmp_path, "s2", 2, {"fast": 8.0}, change=fail)
    row = load_rows(tmp_path)["fast"]
    assert (row.record.session, row.measured, list(row.newer)) == ("s2", False, [])


@pytest.mark.parametrize(("has_code", "shown"), [(True, "s1"), (False, "s2")])
def test_custom_code_needs_the_isolation_that_it_had(
    tmp_path: Path, has_code: bool, shown: str
) -> None:
    def sandbox(record: Record) -> None:
        record.machine["isolation"] = "bubblewrap"
        declare(record)

    def declare(record: Record) -> None:
        record.system |= {"code": "digest"} if has_code else {}

    write_session(tmp_path, "s1", 1, {"mine": 8.0}, change=sandbox)
    write_session(tmp_path, "s2", 2, {"mine": 8.0}, change=declare)
    row = load_rows(tmp_path)["mine"]
    assert row.record.session == shown
    assert ("isolation process" in "".join(map(str, row.newer))) is has_code


def test_smoke_run_replaces_nothing(tmp_path: Path) -> None:
    from dataclasses import replace

    def shorten(record: Record) -> None:
        record.timing = replace(record.timing, window=0.2)

    write_session(tmp_path, "s1", 1, {"fast": 8.0})
    write_session(tmp_path, "s2", 2, {"fast": 8.0}, change=shorten)
    assert set(sessions(load_rows(tmp_path)).values()) == {"s1"}


def test_row_of_a_session_whose_reference_failed_replaces_nothing(tmp_path: Path) -> None:
    def fail_reference(record: Record) -> None:
        if record.system["name"] == "ref":
            record.failure, record.rounds = {"reason": "killed", "stderr": ""}, []

    write_session(tmp_path, "s1", 1, {"fast": 8.0})
    write_session(tmp_path, "s2", 2, {"fast": 8.0}, change=fail_reference)
    row = load_rows(tmp_path)["fast"]
    assert row.record.session == "s1"
    assert "its session has no figures of ref" in str(row.newer[0])


def test_machines_tasks_versions_and_references_have_sections_of_their_own(tmp_path: Path) -> None:
    other = ROLES | {"reference": "bert", "unpadded_reference": "bert-unpadded"}
    write_session(tmp_path, "s1", 1, {"fast": 8.0})
    write_session(tmp_path, "s2", 2, {"fast": 8.0}, cpu="other")
    write_session(tmp_path, "s3", 3, {"fast": 8.0}, roles=other)
    write_session(tmp_path, "s4", 4, {"fast": 8.0}, version="2")
    found, _ = load_board(tmp_path)
    shown = [{row.record.session for row in section.rows} for section in found]
    assert sorted(map(sorted, shown)) == [["s1"], ["s2"], ["s3"], ["s4"]]


def test_damaged_newer_record_leaves_the_older_row(tmp_path: Path) -> None:
    write_session(tmp_path, "s1", 1, {"fast": 8.0})
    write_session(tmp_path, "s2", 2, {"fast": 8.0})
    (tmp_path / "s2" / "sentiment" / "offline" / "fast.json.gz").write_bytes(b"cut")
    (section,), faults = load_board(tmp_path)
    assert {row.name: row.record.session for row in section.rows}["fast"] == "s1"
    assert len(faults) == 1
    assert "fast.json.gz: not a side file" in faults[0]


@pytest.mark.parametrize(
    "damage",
    [
        lambda record: setattr(record.rounds[0], "seconds", 0.0),
        lambda record: setattr(record.rounds[0], "examples", 0),
        lambda record: setattr(record, "failure", {"text": "no reason"}),
        lambda record: setattr(record, "score", {"value": 0.9}),
    ],
)
def test_damaged_older_record_is_named_and_left_out(
    tmp_path: Path, damage: Callable[[Record], None]
) -> None:
    def damage_one(record: Record) -> None:
        if record.system["name"] == "fast":
            damage(record)

    write_session(tmp_path, "s1", 1, {"fast": 8.0}, change=damage_one)
    write_session(tmp_path, "s2", 2, {"fast": 8.0})
    (section,), faults = load_board(tmp_path)
    assert {row.record.session for row in section.rows} == {"s2"}
    assert len(faults) == 1
    assert "s1/sentiment/offline/fast.json" in faults[0]


def test_audit_verdict_holds_for_every_row_of_the_artifact(tmp_path: Path) -> None:
    def audit(record: Record) -> None:
        if record.system["name"] == "fast":
            record.audit = {"passed": False, "probes": {"text": "no"}, "failed": ["text"]}

    write_session(tmp_path, "s1", 1, {"fast": 8.0, "small": 4.0}, change=audit)
    write_session(tmp_path, "s2", 2, {"fast": 8.0})
    rows = load_rows(tmp_path)
    assert rows["fast"].record.session == "s2"
    assert (rows["fast"].failed_probes, rows["fast"].rank) == (["text"], None)
    assert rows["small"].audit is None


def test_verdict_on_another_artifact_of_the_same_name_does_not_hold(tmp_path: Path) -> None:
    def audit(record: Record) -> None:
        record.artifact["key"] = "another"
        record.audit = {"passed": True, "probes": {}, "failed": []}

    write_session(tmp_path, "s1", 1, {"fast": 8.0}, change=audit)
    write_session(tmp_path, "s2", 2, {"fast": 8.0})
    assert load_rows(tmp_path)["fast"].audit is None


def test_rows_of_two_sessions_differ_only_beyond_what_sessions_differ_by(tmp_path: Path) -> None:
    """9 and 10 times as fast: certain within a session, not between two."""
    write_session(tmp_path / "one", "s1", 1, {"a": 10.0, "b": 9.0})
    write_session(tmp_path / "two", "s1", 1, {"a": 10.0})
    write_session(tmp_path / "two", "s2", 2, {"b": 9.0, "c": 5.0})
    one, two = load_rows(tmp_path / "one"), load_rows(tmp_path / "two")
    assert {name: one[name].rank for name in "ab"} == {"a": 1, "b": 2}
    assert {name: two[name].rank for name in "abc"} == {"a": 1, "b": 1, "c": 3}


def test_factor_between_sessions_is_estimated_from_enough_repeats(tmp_path: Path) -> None:
    """Four systems in five sessions, whose speed-ups vary by one per cent."""
    names = ("a", "b", "c", "d")
    for day, speed in enumerate((10.0, 10.1, 9.9, 10.0, 10.05), start=1):
        write_session(tmp_path, f"s{day}", day, dict.fromkeys(names, speed))
    write_session(tmp_path, "s6", 6, {"e": 9.0})
    section = load_section(tmp_path)
    assert section.variation.sessions == 6, "of the unpadded reference too"
    assert 1.01 < section.variation.factor < 1.1
    ranks = {row.name: row.rank for row in section.rows}
    assert (ranks["a"], ranks["e"]) == (1, 5)


def test_figures_of_other_artifacts_are_no_repeats(tmp_path: Path) -> None:
    def rebuild(record: Record) -> None:
        record.artifact["key"] += record.session

    for day in range(1, 6):
        write_session(tmp_path, f"s{day}", day, dict.fromkeys("abcd", 10.0), change=rebuild)
    write_session(tmp_path, "s6", 6, {"e": 9.0})
    assert load_section(tmp_path).variation.sessions == 0


def test_history_has_every_session_with_its_own_ratios(tmp_path: Path) -> None:
    write_session(tmp_path, "s1", 1, {"fast": 4.0})
    write_session(tmp_path, "s2", 2, {"fast": 8.0})
    write_session(tmp_path, "s3", 3, {"fast": 20.0}, blocks=1)
    write_session(tmp_path, "s4", 4, {"fast": 8.0}, change=fail)
    ((_, entries),), known, _ = load_histories(tmp_path, "fast")
    assert known == {"ref", "unpadded", "fast"}
    assert [(entry.record.session, entry.note) for entry in entries] == [
        ("s4", "newer, but failed"),
        ("s3", "newer, not comparable"),
        ("s2", "shown"),
        ("s1", "older"),
    ]
    speeds = [entry.speedup and round(entry.speedup.value) for entry in entries]
    assert speeds == [None, 20, 8, 4]
    assert [entry.record.session for entry in load_rows(tmp_path)["fast"].history] == [
        *("s4", "s3", "s2", "s1")
    ]


def test_complete_section_is_of_the_latest_session_in_which_no_system_failed(
    tmp_path: Path,
) -> None:
    write_session(tmp_path, "s1", 1, {"fast": 8.0, "small": 4.0})
    write_session(tmp_path, "s2", 2, {"fast": 8.0}, change=fail)
    write_session(tmp_path, "s3", 3, {"small": 4.0})
    stored, _ = read_records(tmp_path)
    (section,) = find_complete_sections(stored, ["ref", "fast"])
    assert {row.name: row.record.session for row in section.rows} == {
        **{"ref": "s1", "unpadded": "s1"},
        "fast": "s1",
    }
    assert find_complete_sections(stored, ["ref", "absent"]) == []


def test_plot_of_several_sessions_shows_speedups(tmp_path: Path) -> None:
    write_session(tmp_path, "s1", 1, {"fast": 8.0})
    assert "examples per second, offline" in draw_pareto(load_section(tmp_path))
    write_session(tmp_path, "s2", 2, {"my-idea": 6.0})
    plot = draw_pareto(load_section(tmp_path))
    assert "speed-up over ref, offline" in plot
    assert "<!-- fast -->" in plot


def find_state(record: Record) -> State:
    if record.system["name"] == "small":
        return State("stale", ("its manifest builds another artifact now",))
    return State("current")


def write_golden(results: Path) -> None:
    """Draw a board of two machines, two references, and every kind of newer row."""
    records = results / "records"
    other = ROLES | {"reference": "bert", "unpadded_reference": "bert-unpadded"}
    write_session(records, "2026-cpu-1111", 1, {"fast": 8.0, "small": 4.0, "tiny": 6.0})
    write_session(records, "2026-cpu-2222", 2, {"my-idea": 6.0, "tiny": 6.0}, blocks=6)
    write_session(records, "2026-cpu-3333", 3, {"fast": 8.0, "tiny": 7.0}, blocks=1)
    write_session(records, "2026-cpu-4444", 4, {"fast": 8.0}, change=fail)
    write_session(records, "2026-cpu-5555", 5, {"fast": 9.0}, cpu="other CPU")
    write_session(records, "2026-cpu-6666", 6, {"fast": 3.0}, roles=other)
    assert write_board(results, find_state).faults == []


@pytest.mark.parametrize("name", ["README.md", "leaderboard.csv", "energy-report.md"])
def test_accumulated_board_equals_the_committed_one(tmp_path: Path, name: str) -> None:
    write_golden(tmp_path)
    assert (tmp_path / name).read_text() == (GOLDEN / name).read_text()


if __name__ == "__main__":
    import shutil
    import tempfile

    GOLDEN.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        write_golden(Path(scratch))
        for name in ("README.md", "leaderboard.csv", "energy-report.md"):
            shutil.copy(Path(scratch) / name, GOLDEN / name)
