"""How long a session goes on, and what it says beforehand."""

from pathlib import Path

import pytest

from harness.cli.main import main
from harness.results.record import Round, Timing, read_record, write_record
from harness.runner import explain, session
from harness.runner.config import RunConfig
from harness.runner.evaluate import SystemRun
from harness.runner.session import Progress
from tests.support.records import make_record


def rows(times: dict[str, list[float]]) -> list[SystemRun]:
    """Rows that have played blocks of these seconds."""
    found = []
    for name, seconds in times.items():
        it, _ = make_record(name, seconds, 0.9)
        system = type("Named", (), {"name": name})()
        asked = type("Task", (), {"name": "sentiment"})()
        found.append(SystemRun(system, asked, None, {"offline": it}))
    return found


NOISY = {"ref": [10.0, 11.0, 9.0], "fast": [1.0, 1.0, 1.0], "null": [0.1, 0.9, 0.1]}


def test_spread_is_half_the_widest_interval_and_null_does_not_count() -> None:
    from harness.results.statistics import ratio

    found = ratio(NOISY["ref"], NOISY["fast"])
    assert session.widest_interval(rows(NOISY)) == pytest.approx(
        (found.high / found.low) ** 0.5 - 1
    )
    assert session.widest_interval(rows({"ref": [1.0], "fast": [1.0]})) == float("inf")


def enough(config: RunConfig, done: int, minutes: float = 0.0) -> tuple[bool, list[str]]:
    said: list[str] = []
    progress = Progress(3, 5, said.append)
    progress.times = [0.0, *(minutes * 60 * step / 9 for step in range(1, 10))]
    return session._enough(done, rows(NOISY), config, progress), said


def test_session_goes_on_until_intervals_are_narrow_or_the_time_is_up() -> None:
    assert enough(RunConfig(3), 2) == (False, [])
    assert enough(RunConfig(3), 3) == (True, [])
    ended, said = enough(RunConfig(3, until=0.03), 3)
    assert not ended
    assert said[0].startswith("after 3 blocks the widest interval is ±28")
    assert enough(RunConfig(3, until=0.5), 3)[0]
    ended, said = enough(RunConfig(3, until=0.03, minutes=20), 3, minutes=19)
    assert ended
    assert "the time of 20 minutes is up" in said[0]


@pytest.fixture
def here(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(project)
    return project


@pytest.mark.parametrize("text", ["3", "0%", "x%", "100%"])
def test_until_is_a_percentage(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["run", "--until", text])
    assert "is not a percentage" in capsys.readouterr().err


def test_explain_says_what_how_long_and_why_and_measures_nothing(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--explain", "--scenario", "server", "--until", "3%"]) == 0
    said = capsys.readouterr().out
    for part in (
        "8 rows: 8 systems on sentiment",
        "in shuffled order: speed-ups are ratios within a block",
        "single_stream",
        "server          random arrivals at 0.5, 0.7, 0.8, 0.9 of the offline rate",
        "within the bound (50 ms on sentiment)",
        "then more until the interval of every offline speed-up is within 3.0%",
        "p90 from 64 queries on, p99 from 662",
        "Energy: modelled",
        "8 of 8 rows were never measured here: guessed",
    ):
        assert part in said
    assert not (here / "results").exists()


def test_explained_time_comes_from_earlier_records(tmp_path: Path) -> None:
    it, side = make_record("ref", [100.0], 0.9)
    write_record(it, side, tmp_path)
    round_seconds, more, rate = explain._known(tmp_path, Timing.window)["ref", "sentiment"]
    assert rate == 10.0
    assert round_seconds == pytest.approx(0.5 + 0.3 + 2 * Timing.window)
    assert more == pytest.approx(100 - Timing.window)


def test_session_is_taken_up_with_its_own_systems_and_scenarios(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No option but --resume is needed to go on with what was chosen at first."""
    asked: list[object] = []

    def measured(*arguments: object) -> str:
        asked.extend(arguments)
        return "s1"

    monkeypatch.setattr(session, "measure", measured)
    for name in ("null", "minilm-l6", "minilm-l6-unpadded", "tfidf-logreg"):
        for scenario in ("offline", "server"):
            it, side = make_record(name, [1.0], 0.9, scenario=scenario, configuration="cpu-1")
            write_record(it, side, here / "results" / "records")
    assert main(["run", "--resume", "s1", "--until", "5%"]) == 0
    systems, tasks, _, configuration, _, _, config, name = asked[:8]
    assert sorted(each.name for each in systems) == [
        "minilm-l6",
        "minilm-l6-unpadded",
        "null",
        "tfidf-logreg",
    ]
    assert [each.name for each in tasks] == ["sentiment"]
    assert (configuration.name, name) == ("cpu-1", "s1")
    assert config == RunConfig(until=0.05, server=True)
    capsys.readouterr()
    assert main(["run", "--resume", "nothing"]) == 2
    assert "no session to take up" in capsys.readouterr().err


def test_round_in_a_record_is_one_line(tmp_path: Path) -> None:
    it, side = make_record("ref", [1.0, 2.0], 0.9)
    write_record(it, side, tmp_path)
    text = it.path(tmp_path).read_text()
    assert sum(line.startswith('  {"block"') for line in text.splitlines()) == 2
    assert all(isinstance(each, Round) for each in read_record(it.path(tmp_path)).rounds)
    assert it.path(tmp_path).stat().st_size < 4000


def test_one_slow_round_does_not_make_the_estimate() -> None:
    said: list[str] = []
    progress = session.Progress(8, 5, said.append)
    progress.times[0] -= 65
    progress.done()
    progress.step("second")
    assert said == ["second (1/40 rounds, about 3.9 min left)"]
    progress.times = [10.0 * number for number in range(9)]
    progress.step("ninth")
    assert said[1] == "ninth (8/40 rounds, about 5.3 min left)"
