"""`wattbench board`: the board, one session alone, and the history of a system."""

from pathlib import Path

import pytest

from harness.cli.main import main
from tests.support.sessions import write_session


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_session(tmp_path / "results" / "records", "2026-cpu-1111", 1, {"fast": 8.0})
    write_session(tmp_path / "results" / "records", "2026-cpu-2222", 2, {"my-idea": 6.0})
    return tmp_path / "results"


def test_summary_shows_the_new_row_among_the_older_ones(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["board"]) == 0
    printed = capsys.readouterr().out
    rows = [line for line in printed.splitlines() if "my-idea" in line or "fast " in line]
    assert len(rows) == 2
    assert "2222" in next(row for row in rows if "my-idea" in row)
    assert "1111" in next(row for row in rows if "fast" in row)
    assert (results / "README.md").is_file()


def test_one_session_is_printed_alone_and_nothing_written(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["board", "--session", "1111"]) == 0
    printed = capsys.readouterr().out
    assert "fast" in printed
    assert "my-idea" not in printed
    assert [path.name for path in results.iterdir()] == ["records"]


def test_history_has_a_line_for_each_session(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["board", "--history", "ref"]) == 0
    printed = capsys.readouterr().out
    assert printed.index("2222") < printed.index("1111"), "the latest first"
    assert "shown" in printed
    assert "older" in printed
    assert [path.name for path in results.iterdir()] == ["records"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--session", "9999"], "'9999' is no session"),
        (["--history", "fsat"], "Did you mean 'fast'?"),
        (["--history", "fast", "--session", "1111"], "exclude each other"),
    ],
)
@pytest.mark.usefixtures("results")
def test_unknown_names_are_one_message(
    capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert main(["board", *options]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert len(captured.err.splitlines()) == 1
