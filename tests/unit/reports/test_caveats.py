"""No report states more than its records support."""

from pathlib import Path

import pytest

from harness.cli.main import main
from harness.leaderboard.ranking import Section, load_sections
from harness.leaderboard.warnings import SMOKE_RUN
from harness.reports.energy import render_energy_report
from harness.reports.ladder import render_ladders
from harness.reports.reproduction import PublishedTable, render_reproduction
from harness.reports.sessions import compare_sessions
from harness.reports.verification import render_verification
from harness.results.record import Record, read_record, read_side_file, write_record
from harness.runner.config import SMOKE
from tests.support.records import golden_records, make_record
from tests.support.sessions import write_session
from tests.support.systems import REPOSITORY


def write_smoke_sessions(records: Path) -> list[Section]:
    """Write the golden records as those of smoke runs, and read them."""
    golden_records(records)
    for path in records.glob("*/*/*/*.json"):
        record, side = read_record(path), read_side_file(path)
        record.timing = SMOKE
        write_record(record, side, records)
    return load_sections(records)[0]


def test_reports_say_that_figures_of_smoke_runs_mean_nothing(tmp_path: Path) -> None:
    sections = write_smoke_sessions(tmp_path)
    published = PublishedTable.read(REPOSITORY, "fastformers-table3", "embedded")
    for text in (
        render_reproduction(sections, published, "sentiment"),
        render_energy_report(sections, "md"),
        render_ladders(sections),
    ):
        assert SMOKE_RUN in text


def test_smoke_run_is_named_once_and_only_where_it_is_shown(
    tmp_path: Path,
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(project)
    records = tmp_path / "records"
    write_smoke_sessions(records)
    write_record(*make_record("other", [1.0], 0.9, task="rte", session="s9"), records)
    command = ["report", "energy", "--results", str(tmp_path), "--format", "csv", "--task"]
    assert main([*command, "sentiment"]) == 0
    assert capsys.readouterr().err.count(SMOKE_RUN) == 1
    assert main([*command, "rte"]) == 0
    assert capsys.readouterr().err == ""


def test_order_from_one_block_is_not_a_claim(tmp_path: Path) -> None:
    for session, count in (("s1", 1), ("s2", 3)):
        for name, seconds in (("ref", 10.0), ("fast", 1.0)):
            write_record(*make_record(name, [seconds] * count, 0.9, session=session), tmp_path)
    published, measured = load_sections(tmp_path, "s1")[0], load_sections(tmp_path, "s2")[0]
    text, _ = render_verification(published, measured, "sentiment", None)
    assert "is faster than" not in text
    assert "Measured in one block, so without confidence intervals: fast." in text


def test_reports_say_that_two_sessions_were_measured_in_different_ways(tmp_path: Path) -> None:
    def set_version(record: Record) -> None:
        record.measurement = int(record.session[1])

    for session in ("s1", "s2"):
        write_session(tmp_path, session, int(session[1]), {"fast": 8.0}, change=set_version)
    first, second = (load_sections(tmp_path, session)[0] for session in ("s1", "s2"))
    note = "under version 1 and version 2 of the measurement"
    assert note in compare_sessions(first, second, 0.1)[0]
    assert note in render_verification(first, second, "sentiment", None)[0]
    assert note not in compare_sessions(first, first, 0.1)[0]
