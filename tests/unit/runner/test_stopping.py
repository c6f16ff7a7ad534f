"""How long a session continues, and what `--explain` prints beforehand."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.cli.main import main
from harness.results.record import Timing, write_record
from harness.results.statistics import estimate_ratio
from harness.runner import explain, session
from harness.runner.config import RunConfig
from harness.runner.progress import Progress
from harness.runner.stopping import has_enough_blocks, widest_interval
from harness.runner.system_run import SystemRun
from harness.tasks.registry import get_task
from tests.support.records import make_record


def make_runs(times: dict[str, list[float]]) -> list[SystemRun]:
    """Return systems whose blocks took these seconds."""
    runs = []
    for name, seconds in times.items():
        record, _ = make_record(name, seconds, 0.9)
        system: Any = SimpleNamespace(name=name)
        task: Any = SimpleNamespace(name="sentiment")
        runs.append(SystemRun(system, task, None, {"offline": record}))
    return runs


NOISY = {"ref": [10.0, 11.0, 9.0], "fast": [1.0, 1.0, 1.0], "null": [0.1, 0.9, 0.1]}


def test_interval_width_is_half_the_widest_interval_and_null_does_not_count() -> None:
    interval = estimate_ratio(NOISY["ref"], NOISY["fast"])
    width = (interval.high / interval.low) ** 0.5 - 1
    assert widest_interval(make_runs(NOISY)) == pytest.approx(width)
    assert widest_interval(make_runs({"ref": [1.0], "fast": [1.0]})) == float("inf")


def test_interval_is_infinite_without_a_reference() -> None:
    runs = make_runs(NOISY)
    runs[0].failed = True
    assert widest_interval(runs) == float("inf")


def decide(config: RunConfig, done: int, minutes: float = 0.0) -> tuple[bool, list[str]]:
    """Return whether a session of so many blocks and minutes may end, and the log."""
    lines: list[str] = []
    progress = Progress(3, 5, lines.append)
    progress.started = 0.0
    progress.times = [0.0, *(minutes * 60 * step / 9 for step in range(1, 10))]
    return has_enough_blocks(done, make_runs(NOISY), config, progress), lines


def test_session_continues_until_intervals_are_narrow_or_the_time_is_up() -> None:
    assert decide(RunConfig(3), 2) == (False, [])
    assert decide(RunConfig(3), 3) == (True, [])
    ends, lines = decide(RunConfig(3, until=0.03), 3)
    assert not ends
    assert lines[0].startswith("after 3 blocks the widest interval is ±28")
    assert decide(RunConfig(3, until=0.5), 3)[0]
    ends, lines = decide(RunConfig(3, until=0.03, minutes=20), 3, minutes=19)
    assert ends
    assert "the time of 20 minutes is up" in lines[0]


@pytest.fixture
def here(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(project)
    return project


@pytest.mark.parametrize("text", ["3", "0%", "x%", "100%"])
def test_until_is_a_percentage(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--until", text]) == 2
    assert "is not a percentage" in capsys.readouterr().err


def test_explain_says_what_how_long_and_why_and_measures_nothing(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--explain", "--scenario", "server", "--until", "3%"]) == 0
    said = capsys.readouterr().out
    for part in (
        "11 rows: 11 systems on sentiment",
        "with the same artifact and engine (8 passes)",
        "in shuffled order: speed-ups are ratios within a block",
        "single_stream",
        "server          random arrivals at 0.5, 0.7, 0.8, 0.9 of the offline rate",
        "within the bound (50 ms on sentiment)",
        "then more until the interval of every offline speed-up is within 3.0%",
        "p90 from 64 queries on, p99 from 662",
        "Energy: modelled",
        "11 of 11 rows were never measured here: guessed",
    ):
        assert part in said
    assert not (here / "results").exists()


def test_estimated_time_comes_from_earlier_records(tmp_path: Path) -> None:
    record, side = make_record("ref", [100.0], 0.9)
    write_record(record, side, tmp_path)
    cost = explain._read_costs(tmp_path, Timing.window)["ref", "sentiment"]
    assert cost.rate == 10.0
    assert cost.round_seconds == pytest.approx(0.5 + 0.3 + Timing.window + 100), "as then"
    assert cost.pass_seconds == pytest.approx(0.5 + 0.3 + Timing.window + 100)
    assert cost.check_seconds == pytest.approx(0.5 + 0.3 + Timing.window + 64 / 10)


def test_time_of_the_accuracy_passes_counts_towards_the_limit() -> None:
    """Of twelve minutes ten were the passes; blocks of one minute each follow."""
    progress = Progress(3, 5, [].append)
    progress.started = 0.0
    progress.times = [600 + 20.0 * step for step in range(7)]
    assert progress.minutes_after_another_block == pytest.approx(13)


def test_estimate_has_one_pass_for_rows_that_share_it() -> None:
    rows = [("ref", "sentiment"), ("unpadded", "sentiment")]
    costs = {
        rows[0]: explain.RoundCost(60.0, pass_seconds=6000.0, check_seconds=120.0),
        rows[1]: explain.RoundCost(60.0, pass_seconds=600.0, check_seconds=60.0),
    }
    text = explain._estimate_time(rows, [[1, 0]], costs, RunConfig(blocks=3))
    assert "about 12.0 min for the accuracy passes, 2.0 min for the first block" in text
    assert "18 min for 3" in text


def test_session_is_resumed_with_its_own_systems_and_scenarios(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No option but --resume is needed to continue with the systems of the session."""
    passed: list[Any] = []

    def measure(*arguments: object) -> str:
        passed.extend(arguments)
        return "s1"

    monkeypatch.setattr(session, "measure", measure)
    roles = {"reference": "minilm-l6", "unpadded_reference": "minilm-l6-unpadded", "null": "null"}
    for name in (*roles.values(), "tfidf-logreg"):
        for scenario in ("offline", "server"):
            fields = {"scenario": scenario, "configuration": "cpu-1", "roles": roles}
            record, side = make_record(name, [1.0], 0.9, **fields)
            record.task["version"] = get_task("sentiment").version
            write_record(record, side, here / "results" / "records")
    assert main(["run", "--resume", "s1", "--until", "5%"]) == 0
    plan, _, configuration, _, config, _ = passed
    assert sorted(planned.system.name for planned in plan.systems) == [
        "minilm-l6",
        "minilm-l6-unpadded",
        "null",
        "tfidf-logreg",
    ]
    assert [task.name for task in plan.tasks] == ["sentiment"]
    assert configuration.name == "cpu-1"
    assert config == RunConfig(until=0.05, server=True, resume="s1")
    capsys.readouterr()
    assert main(["run", "--resume", "nothing"]) == 2
    assert "there is no session to resume" in capsys.readouterr().err
