"""Each warning says what is noteworthy and what to do; a steady session has none."""

import json
import re
from dataclasses import asdict
from pathlib import Path

import pytest

from harness.leaderboard.ranking import load_sections
from harness.leaderboard.warnings import find_warnings
from harness.results.record import Timing, read_record, write_record
from harness.runner.config import SMOKE
from tests.support.commands import parse_command
from tests.support.records import make_record, set_server_rates

STEADY = {"ref": [10.0, 10.1, 9.9, 10.0, 10.05], "fast": [1.0, 1.01, 0.99, 1.0, 1.01]}


def warnings_of(folder: Path, times: dict[str, list[float]], **kwargs: str) -> list[str]:
    for name, seconds in times.items():
        write_record(*make_record(name, seconds, 0.9, **kwargs), folder)
    (section,) = load_sections(folder)[0]
    return find_warnings(section)


def steady_times(factors: list[float]) -> dict[str, list[float]]:
    return {
        name: [value * factor for value, factor in zip(values, factors, strict=True)]
        for name, values in STEADY.items()
    }


def test_steady_session_has_no_warning(tmp_path: Path) -> None:
    assert warnings_of(tmp_path, STEADY) == []


def test_smoke_run_is_marked_and_records_without_timing_are_not(tmp_path: Path) -> None:
    """Records that do not state their timing have the standard one."""
    record, side = make_record("ref", STEADY["ref"], 0.9)
    record.timing = asdict(SMOKE)
    write_record(record, side, tmp_path)
    (path,) = tmp_path.glob("*/*/*/ref.json")
    (section,) = load_sections(tmp_path)[0]
    (warning,) = find_warnings(section)
    assert warning.startswith("Smoke run: its windows are shorter"), "and no other advice"
    fields = json.loads(path.read_text())
    assert fields.pop("timing")["window"] == SMOKE.window
    path.write_text(json.dumps(fields))
    assert read_record(path).timing == Timing()
    (section,) = load_sections(tmp_path)[0]
    assert not find_warnings(section)


def test_drift_is_reported(tmp_path: Path) -> None:
    (warning,) = warnings_of(tmp_path, steady_times([1, 1.1, 1.2, 1.3, 1.4]))
    assert "The last block took 40% more time than the first" in warning
    assert "Wait until the machine has cooled down" in warning


def test_slow_block_is_named(tmp_path: Path) -> None:
    (warning,) = warnings_of(tmp_path, steady_times([1, 1, 1.5, 1, 1.01]))
    assert "Block 3 took all systems 1.47 times" in warning
    assert "wattbench doctor" in warning


def test_fast_block_is_not_called_slow(tmp_path: Path) -> None:
    (warning,) = warnings_of(tmp_path, steady_times([1, 1, 0.2, 1, 1.01]))
    assert "Block 3 took all systems 0.20 times" in warning
    assert "so it was faster: something slowed the other blocks down" in warning


def test_one_block_has_no_interval_and_says_so(tmp_path: Path) -> None:
    (warning,) = warnings_of(tmp_path, {"ref": [10.0], "fast": [1.0]})
    assert "in one block, so without confidence intervals: fast." in warning
    assert "--rounds 5" in warning


def test_intervals_of_no_use_are_stated_and_the_machine_is_suspected(tmp_path: Path) -> None:
    warnings = warnings_of(tmp_path, {"ref": [10.0, 10.0, 10.0], "fast": [0.5, 1.0, 4.0]})
    (wide,) = [text for text in warnings if "are wider than" in text]
    assert re.search(r"fast, 0\.\d+x to \d+x\); see what disturbs .* `wattbench run .*5%`", wide)


def test_latency_sections_advise_rounds_because_until_looks_at_offline(tmp_path: Path) -> None:
    times = STEADY | {"fast": [1.0, 1.3, 0.8, 1.1, 0.9]}
    warnings = warnings_of(tmp_path, times, scenario="single_stream")
    assert any("more blocks narrow them" in text and "--rounds 10`" in text for text in warnings)
    assert not any("--until" in text for text in warnings)


def test_speedup_that_is_not_the_ratio_of_the_rates_is_explained(tmp_path: Path) -> None:
    times = {"ref": [10.0, 10.0, 10.0, 40.0], "fast": [1.0, 1.0, 1.0, 1.0]}
    (note,) = [text for text in warnings_of(tmp_path, times) if "not the ratios" in text]
    assert "fast, 14.1x and 17.5x" in note  # 10 * 4 ** (1 / 4), and 70 / 4


def test_outlier_round_is_named_with_its_row(tmp_path: Path) -> None:
    times = {name: list(values) for name, values in STEADY.items()}
    times["third"] = [2.0, 2.02, 1.98, 2.0, 2.0]
    times["fast"][1] *= 1.5
    outlier, wide = warnings_of(tmp_path, times)
    assert "fast in block 2 (1.5" in outlier
    assert "confidence intervals of 1 of 3 speed-ups are wider" in wide


def test_remedy_is_a_command(tmp_path: Path) -> None:
    times = STEADY | {"fast": [1.0, 1.3, 0.8, 1.1, 0.9]}
    (warning,) = [text for text in warnings_of(tmp_path, times) if "--until" in text]
    (command,) = re.findall(r"`wattbench (run [^`]*)`", warning)
    _, values = parse_command(command.split())
    assert (values["resume"], values["until"]) == ("s1", 0.05)


def warning_of_disturbance(
    folder: Path, others: float = 0.0, steal: float = 0.0, throttled: float | None = None
) -> str:
    for name, seconds in STEADY.items():
        record, side = make_record(name, seconds, 0.9)
        for window in record.rounds:
            window.others, window.steal, window.throttled = others, steal, throttled
        write_record(record, side, folder)
    (section,) = load_sections(folder)[0]
    (warning,) = find_warnings(section)
    return warning


def test_other_processes_and_the_hypervisor_are_reported(tmp_path: Path) -> None:
    busy = warning_of_disturbance(tmp_path / "busy", others=0.5)
    assert "Noisy machine: other processes kept 0.50 cores busy" in busy
    stolen = warning_of_disturbance(tmp_path / "stolen", steal=0.1)
    assert "Noisy machine: the hypervisor took 0.10 cores" in stolen


@pytest.mark.parametrize(
    ("serve", "is_named"),
    [
        ({"batch": 256}, True),
        ({"batch": 250}, False),
        ({"batch": 200, "instances": "per-core"}, True),
        ({"batch": 200, "instances": 1}, False),
        ({"batch": 120, "instances": 16}, False),
        ({"batch": 1, "instances": 100}, False),
    ],
)
def test_windows_of_few_batches_are_named(
    serve: dict[str, int | str], is_named: bool, tmp_path: Path
) -> None:
    """Each window of these records has 1,000 examples, and the configuration two cores."""
    record, side = make_record("fast", STEADY["fast"], 0.9)
    record.system["serve"] |= serve
    write_record(record, side, tmp_path)
    write_record(*make_record("ref", STEADY["ref"], 0.9), tmp_path)
    (section,) = load_sections(tmp_path)[0]
    named = [text for text in find_warnings(section) if "fewer than 4 batches" in text]
    assert bool(named) == is_named
    assert all("as in older sessions: fast." in text for text in named)


def test_pauses_by_a_cpu_limit_are_reported(tmp_path: Path) -> None:
    warning = warning_of_disturbance(tmp_path, throttled=0.79)
    assert "CPU limit of a control group paused the workers in 79% of" in warning


def test_missing_percentile_names_the_rounds_that_it_needs(tmp_path: Path) -> None:
    record, side = make_record("ref", STEADY["ref"], 0.9, scenario="single_stream")
    assert record.latency_ms
    record.latency_ms["queries"] = 300
    write_record(record, side, tmp_path)
    (section,) = load_sections(tmp_path)[0]
    (warning,) = find_warnings(section)
    assert "Too few queries for a p99 of ref: 300 of 662. More blocks give one" in warning
    assert "--rounds 12`" in warning


def test_more_rounds_than_anyone_would_measure_are_not_advised(tmp_path: Path) -> None:
    (warning,) = warnings_of(tmp_path, STEADY, scenario="single_stream")
    assert "100 of 662. That would take 34 blocks: compare the p50 instead." in warning


def test_large_share_of_the_harness_is_reported(tmp_path: Path) -> None:
    (warning,) = warnings_of(tmp_path, STEADY | {"null": [0.03] * 5})
    assert "more than 2% of the time of fast" in warning


@pytest.mark.parametrize(
    ("rates", "queries", "message"),
    [
        (
            [None, None, 10.0],
            700,
            "ref cannot sustain a p99 of 50 ms: only 1 of 3 blocks sustained any rate",
        ),
        ([10.0, 10.0, None], 300, "ref may sustain a p99 of 50 ms, but 300 of the 662 queries"),
        ([4750.0] * 3, 700, "only up to the rate that the driver can send"),
    ],
)
def test_missing_rate_of_the_server_scenario_is_explained(
    tmp_path: Path, rates: list[float | None], queries: int, message: str
) -> None:
    record, side = make_record("ref", [1.0] * 3, 0.9, scenario="server")
    set_server_rates(record, rates)
    assert record.latency_ms
    record.latency_ms |= {"p99": 45.0 if queries > 662 else None, "queries": queries}
    for window in record.rounds:
        window.examples = queries // 2
    write_record(record, side, tmp_path)
    (section,) = load_sections(tmp_path)[0]
    (warning,) = find_warnings(section)
    assert message in warning


def test_failed_rows_cause_no_warning(tmp_path: Path) -> None:
    record, side = make_record("dead", [], 0.9)
    record.failure = {"reason": "it died", "stderr": ""}
    write_record(record, side, tmp_path)
    assert warnings_of(tmp_path, STEADY) == []
