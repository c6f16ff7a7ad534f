"""Each warning says what was seen and what to do, and is silent where there is nothing."""

import json
import re
from dataclasses import asdict
from pathlib import Path

import pytest

from harness.cli.usage import parser
from harness.leaderboard.ranking import load_rows, sections
from harness.leaderboard.warnings import remarks
from harness.results.record import Record, Timing, read_record, write_record
from harness.runner.config import SMOKE
from tests.support.records import make, serve

STEADY = {"ref": [10.0, 10.1, 9.9, 10.0, 10.05], "fast": [1.0, 1.01, 0.99, 1.0, 1.01]}


def remarked(folder: Path, times: dict[str, list[float]], **kwargs: str) -> list[str]:
    for name, seconds in times.items():
        write_record(*make(name, seconds, 0.9, **kwargs), folder)
    (section,) = sections(load_rows(folder)[0])
    return remarks(section)


def scaled(factors: list[float]) -> dict[str, list[float]]:
    return {
        name: [value * factor for value, factor in zip(values, factors, strict=True)]
        for name, values in STEADY.items()
    }


def test_steady_session_has_no_warning(tmp_path: Path) -> None:
    assert remarked(tmp_path, STEADY) == []


def test_smoke_run_is_marked_and_older_records_are_none(tmp_path: Path) -> None:
    """Records that do not state their timing have the standard one."""
    it, side = make("ref", STEADY["ref"], 0.9)
    it.timing = asdict(SMOKE)
    write_record(it, side, tmp_path)
    (path,) = tmp_path.glob("*/*/*/ref.json")
    (section,) = sections(load_rows(tmp_path)[0])
    assert remarks(section)[0].startswith("A smoke run: its windows are shorter")
    stated = json.loads(path.read_text())
    assert stated.pop("timing")["window"] == SMOKE.window
    path.write_text(json.dumps(stated))
    assert read_record(path).timing == asdict(Timing())
    (section,) = sections(load_rows(tmp_path)[0])
    assert not remarks(section)


def test_drift_is_seen_though_speedups_do_not_suffer(tmp_path: Path) -> None:
    (found,) = remarked(tmp_path, scaled([1, 1.1, 1.2, 1.3, 1.4]))
    assert "took 40% more time in the last block" in found
    assert "Let it cool down" in found


def test_slow_block_is_named(tmp_path: Path) -> None:
    (found,) = remarked(tmp_path, scaled([1, 1, 1.5, 1, 1.01]))
    assert "Block 3 took all systems 1.47 times" in found
    assert "wattbench doctor" in found


def test_single_round_out_of_line_is_named_with_its_row(tmp_path: Path) -> None:
    times = {name: list(values) for name, values in STEADY.items()}
    times["third"] = [2.0, 2.02, 1.98, 2.0, 2.0]
    times["fast"][1] *= 1.5
    found = remarked(tmp_path, times)
    assert "fast in block 2 (1.5" in found[0]
    assert "interval of 1 of 3 speed-ups is wider" in found[1]


def test_remedy_is_a_command(tmp_path: Path) -> None:
    times = STEADY | {"fast": [1.0, 1.3, 0.8, 1.1, 0.9]}
    (found,) = [each for each in remarked(tmp_path, times) if "--until" in each]
    (command,) = re.findall(r"`wattbench (run [^`]*)`", found)
    options = parser().parse_args(command.split())
    assert (options.resume, options.until) == ("s1", 0.05)


def disturbed(folder: Path, **kwargs: float) -> str:
    for name, seconds in STEADY.items():
        it, side = make(name, seconds, 0.9)
        for each in it.rounds:
            each.others, each.steal = kwargs.get("others", 0.0), kwargs.get("steal", 0.0)
        write_record(it, side, folder)
    (section,) = sections(load_rows(folder)[0])
    (found,) = remarks(section)
    return found


def test_other_processes_and_the_hypervisor_are_blamed(tmp_path: Path) -> None:
    assert "Other processes kept 0.50 cores busy" in disturbed(tmp_path / "a", others=0.5)
    assert "The hypervisor took 0.10 cores" in disturbed(tmp_path / "b", steal=0.1)


def test_withheld_percentile_says_how_many_rounds_it_takes(tmp_path: Path) -> None:
    (found,) = remarked(tmp_path, STEADY, scenario="single_stream")
    assert "Too few queries for a p99 of fast, ref: 100 of 662. Take --rounds 34." in found


def test_harness_that_is_much_of_the_time_is_named(tmp_path: Path) -> None:
    (found,) = remarked(tmp_path, STEADY | {"null": [0.03] * 5})
    assert "more than 2% of the time of fast" in found


@pytest.mark.parametrize(
    ("rates", "queries", "message"),
    [
        ([None, None, 10.0], 700, "ref cannot hold 50 ms: in 1 of 3 blocks it held any rate"),
        ([10.0, 10.0, None], 300, "ref may hold 50 ms, but 300 queries are too few"),
        ([4750.0] * 3, 700, "only up to the rate that the driver can send"),
    ],
)
def test_dash_of_the_server_scenario_is_explained(
    tmp_path: Path, rates: list[float | None], queries: int, message: str
) -> None:
    it, side = make("ref", [1.0] * 3, 0.9, scenario="server")
    serve(it, rates)
    assert it.latency_ms
    it.latency_ms |= {"p99": 45.0 if queries > 662 else None, "queries": queries}
    for each in it.rounds:
        each.examples = queries // 2
    write_record(it, side, tmp_path)
    (section,) = sections(load_rows(tmp_path)[0])
    (found,) = remarks(section)
    assert message in found


def test_failed_rows_do_not_disturb(tmp_path: Path) -> None:
    it, side = make("dead", [], 0.9)
    it.failure = {"reason": "it died", "stderr": ""}
    write_record(it, side, tmp_path)
    assert isinstance(it, Record)
    assert remarked(tmp_path, STEADY) == []
